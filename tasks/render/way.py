"""What a format is: how it is written, how it is read, what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tasks.song import Song

WORDS_SPREAD = "word times are spread over their line"
NO_TIMES = "times are not known"


class Part(StrEnum):
    """What of a song one format holds and another does not, as a user calls it."""

    TIMES = "times"
    ENDS = "ends of lines"
    WORDS = "times of words"
    TITLE = "title"
    ARTIST = "artist"
    LANGUAGE = "language"


LINES = frozenset({Part.TIMES, Part.ENDS})
EVERYTHING = frozenset(Part)


@dataclass(frozen=True, slots=True)
class Way:
    """How one format is written and read, and what comes back of what was written."""

    content_type: str
    write: Callable[[Song], str]
    read: Callable[[str], Song]
    holds: frozenset[Part]


class Unreadable(ValueError):
    """Why a text cannot be read, as a clause that a user understands."""


def parts(song: Song) -> frozenset[Part]:
    """What there is of this song."""
    times = LINES | {Part.WORDS} if song.lines and NO_TIMES not in song.notes else frozenset[Part]()
    named = {Part.TITLE: song.title, Part.ARTIST: song.artist, Part.LANGUAGE: song.language}
    spread = {Part.WORDS} if WORDS_SPREAD in song.notes else set[Part]()
    return (times - spread) | {part for part, value in named.items() if value}
