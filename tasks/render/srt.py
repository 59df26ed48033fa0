"""SRT: numbered lines with their times."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks.render.clock import TIME, Clock, seconds
from tasks.render.pieces import Cue, song_of
from tasks.render.text import Guard
from tasks.render.way import LINES, Way
from tasks.song import Song

CLOCK = Clock(1000, "{h:02}:{m:02}:{s:02},{fraction:03}")
TAG = Guard(r"[<{\\]", r"[A-Za-z/\\]")  # <i>, </i>, {\an8}, \N
ARROW = Guard("-", "->")

TAGS = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")
# Other programs forget the blank row before a number, and leave blank rows inside a text.
TIMES = re.compile(rf"^(?:[ \t]*\d+[ \t]*\n)?[ \t]*({TIME})[ \t]*-->[ \t]*({TIME})(.*)$", re.MULTILINE)


def write(song: Song) -> str:
    return "\n".join(
        f"{number}\n{' --> '.join(CLOCK.span(line.start, line.end))}\n{ARROW.shut(TAG.shut(line.text))}\n"
        for number, line in enumerate(song.lines, 1)
    )


def read(text: str) -> Song:
    return song_of(_cues(text), lambda cue: TAG.opened(ARROW.opened(TAGS.sub("", cue))))


def _cues(text: str) -> Iterable[Cue]:
    _, *rest = TIMES.split(text)
    for start, end, below in zip(rest[::4], rest[1::4], rest[3::4], strict=True):
        yield seconds(start), seconds(end), below


SRT = Way("application/x-subrip; charset=utf-8", write, read, LINES)
