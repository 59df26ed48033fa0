"""A finished song as files that a browser can fetch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.jobs.request import Format
from infra.storage import Storage, here
from tasks.render import render
from tasks.song import STEMS, Song


@dataclass(frozen=True, slots=True)
class Published:
    results_url: str  # the contract's document
    files: dict[str, str]  # link by format, and by stem


def publish(store: Storage, folder: str, song: Song, job: str | None = None, stems: Sequence[Path] = ()) -> Published:
    """Every format of the song, and copies of its stems. Publishing again writes the same keys."""
    files = {fmt.value: store.put(_key(folder, fmt), render(song, fmt).encode(), job=job) for fmt in Format}
    for stem in stems:
        with here().incoming() as place:
            copy = Path(shutil.copyfile(stem, place / stem.name))
            files[stem.stem] = store.keep(f"{folder}/{stem.name}", copy, job=job)
    return Published(results_url=files[Format.JSON], files=files)


def unpublish(store: Storage, folder: str) -> None:
    for fmt in Format:
        store.remove(_key(folder, fmt))
    for name in STEMS:
        store.remove(f"{folder}/{name}")


def folder_of(job: str, racer: str | None = None) -> str:
    """Where a job's files stand; a racer has a place of its own, so that the loser never writes over the winner."""
    return f"transcriptions/{job}/{racer}" if racer else f"transcriptions/{job}"


def _key(folder: str, fmt: Format) -> str:
    return f"{folder}/{'results' if fmt is Format.JSON else 'subtitles'}.{fmt.value}"
