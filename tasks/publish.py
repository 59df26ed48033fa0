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


def publish(store: LocalStorage, job: str, song: Song) -> Published:
    """Every format of the song. Publishing again writes the same keys."""
    files = {fmt.value: store.put(_key(job, fmt), render(song, fmt).encode()) for fmt in Format}
    return Published(results_url=files[Format.JSON], files=files)


def _key(job: str, fmt: Format) -> str:
    name = "results" if fmt is Format.JSON else "subtitles"
    return f"transcriptions/{job}/{name}.{fmt.value}"
