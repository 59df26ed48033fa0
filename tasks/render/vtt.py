"""VTT: subtitles for the web, with a time for each word."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.render.clock import TIME, Clock, seconds
from tasks.render.pieces import Cue, Timed, pieces, song_of
from tasks.render.srt import TIMES
from tasks.render.way import LINES, Part, Way
from tasks.song import Line, Song

CLOCK = Clock(1000, "{h:02}:{m:02}:{s:02}.{fraction:03}")

TAGS = re.compile(r"<rt[.>][^<]*</rt>|<[^<>\d][^<>]*>")  # <c>, <v Ann>, what is written over a word; no times
ROLLING = "position:0%"  # YouTube's captions, which show each line again above the next
BLINK = 0.05  # seconds; between its lines YouTube shows the last one for a hundredth by itself


def write(song: Song) -> str:
    cues = (f"{' --> '.join(CLOCK.span(line.start, line.end))}\n{_words(line)}\n" for line in song.lines)
    return "\n".join(["WEBVTT\n", *cues])


def _words(line: Line) -> str:
    *words, _ = pieces(line, CLOCK, _escape)  # the line's end is the cue's
    return "".join(f"<{CLOCK.show(at)}>" + re.sub(r"^(.*\S)", r"<c>\1</c>", text) for at, text in words)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def read(text: str) -> Song:
    return song_of(_unrolled(_blocks(text)), html.unescape, timed_pieces)


@dataclass(frozen=True, slots=True)
class _Block:
    start: float
    end: float
    settings: str
    rows: tuple[str, ...]


def _blocks(text: str) -> Iterator[_Block]:
    """What stands between blank rows and has times: neither notes nor styles nor regions have."""
    for block in re.split(r"\n\n+", text):
        if re.match(r"(NOTE|STYLE|REGION)\b", block):
            continue
        _, *rest = TIMES.split(block)
        for start, end, settings, below in zip(rest[::4], rest[1::4], rest[2::4], rest[3::4], strict=True):
            rows = (TAGS.sub("", row).strip() for row in below.split("\n"))
            yield _Block(seconds(start), seconds(end), settings, tuple(row for row in rows if row))


def _unrolled(blocks: Iterable[_Block]) -> Iterator[Cue]:
    """Each block's text, without what a rolling caption repeats of the one before."""
    shown = ""
    for block in blocks:
        rows = block.rows
        if ROLLING in block.settings and rows and rows[0] == shown and (rows[1:] or block.end - block.start < BLINK):
            rows = rows[1:]
        shown = re.sub(f"<{TIME}>", "", block.rows[-1]) if block.rows else ""
        yield block.start, block.end, "\n".join(rows)


def timed_pieces(text: str, start: float) -> list[Timed]:
    """Text cut at the <times> inside; nothing where it has none."""
    before, *rest = re.split(rf"<({TIME})>", text)
    found = [(seconds(at), text) for at, text in zip(rest[::2], rest[1::2], strict=True)]
    return [(start, before), *found] if found and before.strip() else found


VTT = Way("text/vtt; charset=utf-8", write, read, LINES | {Part.WORDS})
