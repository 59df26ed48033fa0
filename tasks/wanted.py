"""The songs of a batch, as they are asked for: each link checked, each song once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra import links
from infra.errors import UserError
from infra.jobs.admission import Wanted
from infra.jobs.request import Queue, Request
from infra.links import Link
from infra.settings import settings
from tasks.cache import source_of

Ask = Callable[[str], Request]  # how the song behind a link is wanted


@dataclass(frozen=True, slots=True)
class Songs:
    wanted: tuple[Wanted, ...]
    twice: int = 0  # links that lead to a song which stands here already


def of_links(links: Sequence[Link], ask: Ask, batch: str) -> Songs:
    return _each_once([_song(link, ask, batch, place) for place, link in enumerate(links)])


def of_texts(texts: Sequence[str], ask: Ask, batch: str) -> Songs:
    """What is no link stands there too, with the reason: it does not touch the rest."""
    return _each_once([_line(text, ask, batch, place) for place, text in enumerate(texts)])


def _line(text: str, ask: Ask, batch: str, place: int) -> Wanted:
    try:
        return _song(links.parse(text, settings().allowed_hosts), ask, batch, place)
    except UserError as error:
        shown = links.shown(text.strip()) or "-"
        return Wanted(ask(shown), source="", queue=Queue.BATCH, batch=batch, place=place, refused=error)


def _song(link: Link, ask: Ask, batch: str, place: int) -> Wanted:
    return Wanted(
        ask(link.canonical), source_of(link), video_id=link.id or None, queue=Queue.BATCH, batch=batch, place=place
    )


def _each_once(lines: Sequence[Wanted]) -> Songs:
    once: dict[str, Wanted] = {}
    for line in lines:
        once.setdefault(line.source or line.request.link, line)
    return Songs(tuple(once.values()), twice=len(lines) - len(once))
