"""A human voice: a recording whose words and times somebody has written down, NAME.json beside NAME.wav, .flac, ….

The JSON holds `language`, `lines` (text) and `words` (word, start, end, line), as a made song's truth does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.songs.catalogue import Manner, Plan
from benchmarks.songs.lyrics import Section, Verse
from benchmarks.songs.voices import Phone, Spoken
from tasks.audio import RATE, decode

PREFIX = "recorded:"  # of a voice, and of lyrics: the JSON's path follows
SPAN = 0.05  # seconds around a line that are its own
LONGEST = 900.0  # seconds


def plans(folder: Path) -> Iterator[Plan]:
    """Each recording twice: as it was spoken, and set to notes."""
    for file in sorted(folder.glob("*.json")):
        whence = f"{PREFIX}{file.resolve()}"
        language = _document(file)["language"]
        yield Plan(f"{language}_{file.stem}_spoken", whence, (whence,), "ballad", 90, Manner.SPEAK)
        yield Plan(f"{language}_{file.stem}_pitched", whence, (whence,), "folk", 100)


def read(whence: str) -> tuple[Section, ...]:
    """Its lines as a verse, and after an interlude once more."""
    texts = [line["text"].split() for line in _document(_file(whence))["lines"]]
    verse = Section("verse", tuple(Verse(tuple(words), tuple(words)) for words in texts))
    return verse, Section("interlude", ()), verse


def language(whence: str) -> str:
    return _document(_file(whence))["language"]


def speak(words: tuple[str, ...], whence: str) -> Spoken:
    """The line of these words. Each word is one sound, as nobody has told its sounds apart."""
    file = _file(whence)
    document = _document(file)
    nth = next(nth for nth, line in enumerate(document["lines"]) if tuple(line["text"].split()) == words)
    own = [word for word in document["words"] if word["line"] == nth]
    first = own[0]["start"] - SPAN
    samples = decode(_sound(file), max_seconds=LONGEST).between(first, own[-1]["end"] + SPAN)
    phones = [Phone(word["start"] - first, word["end"] - first, place, True) for place, word in enumerate(own)]
    return Spoken(samples.astype(np.float64), RATE, tuple(phones))


def _file(whence: str) -> Path:
    return Path(whence.removeprefix(PREFIX))


def _sound(file: Path) -> Path:
    return next(other for other in sorted(file.parent.glob(f"{file.stem}.*")) if other != file)


@cache
def _document(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))
