"""A finished song as files that a browser can fetch."""

from __future__ import annotations

from dataclasses import dataclass

from infra.jobs.request import Format
from infra.storage import LocalStorage
from tasks.render import render
from tasks.song import Song


@dataclass(frozen=True, slots=True)
class Published:
    results_url: str  # the contract's document
    files: dict[str, str]  # link by format


def publish(store: LocalStorage, folder: str, song: Song) -> Published:
    """Every format of the song. Publishing again writes the same keys."""
    files = {fmt.value: store.put(f"{folder}/{_name(fmt)}", render(song, fmt).encode()) for fmt in Format}
    return Published(results_url=files[Format.JSON], files=files)


def folder_of(job: str, racer: str | None = None) -> str:
    """Where a job's files stand; a racer has a place of its own, so that the loser never writes over the winner."""
    return f"transcriptions/{job}/{racer}" if racer else f"transcriptions/{job}"


def _name(fmt: Format) -> str:
    return f"{'results' if fmt is Format.JSON else 'subtitles'}.{fmt.value}"
