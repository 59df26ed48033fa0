"""Songs here and now: in this process, without a server, by the same plain functions that the flows call."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.client import file_named, is_link
from infra.errors import BadRequest, UnknownModel, disk_writes
from infra.jobs.request import Format, Request
from infra.jobs.stages import Progress as Report
from infra.jobs.stages import Stage
from infra.settings import settings
from tasks.song import STEMS, Audio, Song


def chosen_formats(text: str) -> list[Format]:
    known = {fmt.value: fmt for fmt in Format}
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BadRequest(what=f'"{", ".join(unknown)}" is no format; choose from {", ".join(known)}.')
    return [known[name] for name in dict.fromkeys(names)]


def requested(**how: Any) -> Request:
    try:
        return Request(link="-", **how)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("model",):
            raise UnknownModel(model=how.get("model")) from None
        where = f"--{first['loc'][0]}: " if first["loc"] else ""
        raise BadRequest(what=f"{where}{first['msg'].removeprefix('Value error, ')}.") from None


def transcribed(song: str, request: Request, report: Report, stems: Path) -> tuple[str, Song]:
    """A name for the song's files, and the song: by the same plain functions that the flows call, in this process."""
    from infra import links
    from tasks import gpu
    from tasks.audio import shown
    from tasks.download import download
    from tasks.download.ladder import NoBreakers, climb
    from tasks.download.routes import DIRECTLY, ladder
    from tasks.known.lrclib import with_lyrics

    if not is_link(song):
        path = file_named(song)
        name = Path(shown(path))
        audio = with_lyrics(Audio(path=path, duration=0.0, title=str(name)), request, report)
        heard = gpu.sing(audio, request, report, stems=stems)
        return fitting(name.stem), replace(heard, title=name.stem)
    link = links.parse(song, settings().allowed_hosts)
    with tempfile.TemporaryDirectory(prefix="yt-lyrics-") as folder:
        audio = climb(
            ladder(settings()) if link.kind == "youtube" else DIRECTLY,
            lambda route: download(link, Path(folder), report, route),
            NoBreakers(),
            partial(report, Stage.DOWNLOAD, 0.0),
        )
        heard = gpu.sing(with_lyrics(audio, request, report), request, report, stems=stems)
        return fitting(audio.title or audio.video_id or "song"), heard


def written(song: Song, out: Path, name: str, formats: list[Format]) -> Generator[Path]:
    """The song's files, each whole or not there."""
    from tasks.render import render

    for fmt in formats:
        path = out / f"{name}.{fmt.value}"
        partial = out / f".{path.name}.part"
        try:
            with disk_writes(str(path)):
                partial.write_text(render(song, fmt), encoding="utf-8")
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        yield path


def taken_along(stems: Path, out: Path, name: str, request: Request) -> Generator[Path]:
    """The voice and the music beside the song's other files, if they were asked for and are there."""
    for file in STEMS if request.stems else ():
        if (stems / file).exists():
            yield (stems / file).replace(out / f"{name}.{file}")


def names(stem: str) -> Iterator[str]:
    """Two songs of one name must not overwrite each other: Song, Song (2), Song (3) …"""
    yield stem
    for number in count(2):
        yield f"{stem} ({number})"


def fitting(stem: str) -> str:
    """The stem as a file name that every file system takes: no separators, at most 240 bytes."""
    clean = (
        "".join("_" if character in "/\\\0" or character < " " else character for character in stem).strip() or "song"
    )
    return clean.encode()[:240].decode(errors="ignore")
