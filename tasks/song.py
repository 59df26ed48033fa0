"""The nouns: what a song is made of. Times in seconds, float."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

STEMS = ("vocals.flac", "instrumental.flac")  # the files of a separated song


@dataclass(frozen=True, slots=True)
class Word:
    text: str  # as shown, with its punctuation, without surrounding spaces
    start: float
    end: float
    confidence: float = 1.0  # 0–1

    def moved(self, by: float) -> Self:
        return replace(self, start=self.start + by, end=self.end + by)


@dataclass(frozen=True, slots=True)
class Line:
    words: tuple[Word, ...]
    joiner: str = " "  # "" for scripts without spaces
    quality: float | None = None  # 0–1, about the share of it that is right; None where nobody has judged

    @property
    def text(self) -> str:
        return self.joiner.join(word.text for word in self.words)

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


@dataclass(frozen=True, slots=True)
class Song:
    lines: tuple[Line, ...]
    language: str | None = None  # ISO 639-1; None where nothing is sung
    duration: float = 0.0
    title: str | None = None
    artist: str | None = None
    video_id: str | None = None
    engine: str = ""  # which engine and model sang, e.g. "faster-whisper base"
    notes: tuple[str, ...] = field(default=())  # what a user should know: "instrumental", "times are spread"
    quality: float | None = None  # as a line's; None without words too

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for line in self.lines for word in line.words)


@dataclass(frozen=True, slots=True)
class Chapter:
    title: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Audio:
    path: Path
    duration: float
    title: str | None = None
    artist: str | None = None
    video_id: str | None = None
    thumbnail: str | None = None  # its address
    chapters: tuple[Chapter, ...] = ()
    lyrics: str | None = None  # that somebody else has of it, where nobody gave any
