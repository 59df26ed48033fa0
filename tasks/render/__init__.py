"""A song as a file, and back: a module for each format.

Each format reads back what it writes, to its own precision, for what it carries:

    json          everything                              ms
    ttml          lines, words, title, artist, language   ms
    vtt           lines, words                            ms
    ass           lines, words, title, artist             1/100 s
    elrc          lines, words, title, artist, language   1/100 s
    lrc           lines, title, artist, language          1/100 s; a line ends where the next begins, unless a long
                                                          pause follows
    srt           lines                                   ms
    txt           texts

Where a format has no word times, the words read share their line's time, and the song's notes say so.
"""

from __future__ import annotations

from datetime import datetime

from infra.jobs.request import Format
from tasks.render import contract
from tasks.render.ass import ASS
from tasks.render.contract import JSON, document
from tasks.render.lrc import ELRC, LRC
from tasks.render.srt import SRT
from tasks.render.text import tidy
from tasks.render.ttml import TTML
from tasks.render.txt import TXT
from tasks.render.vtt import VTT
from tasks.render.way import NO_TIMES, WORDS_SPREAD, Part, Unreadable, Way, parts
from tasks.song import Song

WAYS: dict[Format, Way] = {
    Format.JSON: JSON,
    Format.SRT: SRT,
    Format.LRC: LRC,
    Format.ELRC: ELRC,
    Format.VTT: VTT,
    Format.ASS: ASS,
    Format.TTML: TTML,
    Format.TXT: TXT,
}

CONTENT_TYPES: dict[Format, str] = {fmt: way.content_type for fmt, way in WAYS.items()}


def render(song: Song, fmt: Format, *, processed_at: datetime | None = None) -> str:
    if fmt is Format.JSON:
        return contract.write(song, processed_at=processed_at)
    return WAYS[fmt].write(tidy(song))


def read(text: str, fmt: Format) -> Song:
    return WAYS[fmt].read(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


__all__ = [
    "CONTENT_TYPES",
    "NO_TIMES",
    "WAYS",
    "WORDS_SPREAD",
    "Part",
    "Unreadable",
    "Way",
    "document",
    "parts",
    "read",
    "render",
    "tidy",
]
