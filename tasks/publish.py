"""A finished song as files that a browser can fetch."""

from __future__ import annotations

from dataclasses import dataclass

from infra.jobs.request import Format
from infra.storage import Storage
from tasks.render import render
from tasks.song import Song


@dataclass(frozen=True, slots=True)
class Published:
    results_url: str  # the contract's document
    files: dict[str, str]  # link by format


def publish(store: Storage, folder: str, song: Song, job: str | None = None) -> Published:
    """Every format of the song. Publishing again writes the same keys."""
    files = {fmt.value: store.put(_key(folder, fmt), render(song, fmt).encode(), job=job) for fmt in Format}
    return Published(results_url=files[Format.JSON], files=files)


def unpublish(store: Storage, folder: str) -> None:
    for fmt in Format:
        store.remove(_key(folder, fmt))


def folder_of(job: str, racer: str | None = None) -> str:
    """Where a job's files stand; a racer has a place of its own, so that the loser never writes over the winner."""
    return f"transcriptions/{job}/{racer}" if racer else f"transcriptions/{job}"


def _key(folder: str, fmt: Format) -> str:
    return f"{folder}/{'results' if fmt is Format.JSON else 'subtitles'}.{fmt.value}"
