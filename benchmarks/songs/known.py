"""Songs whose words are known, from a folder: those made here, or JamendoLyrics as it is published."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.score import Lyrics, Sung, read
from tasks.audio import probe

BACKING = "backing"  # the part in which nobody sings
WHOLE = "song"  # the part that real songs have
GAP = 3.0  # seconds without a word, which make an instrumental part
LANGUAGES = {"English": "en", "French": "fr", "German": "de", "Spanish": "es"}


@dataclass(frozen=True, slots=True)
class Known:
    """One song's sound, or a part of it, and what is sung there."""

    name: str
    part: str
    path: Path
    truth: Lyrics


def made(folder: Path, parts: Sequence[str]) -> Iterator[Known]:
    """What `python -m benchmarks.songs` has written: NAME.json and NAME.PART.opus."""
    for file in sorted(folder.rglob("*.json")):
        truth = read(file)
        for part in parts:
            sound = file.with_suffix(f".{part}.opus")
            if sound.exists():
                yield Known(file.stem, part, sound, _silent(truth) if part == BACKING else truth)


def jamendo(folder: Path) -> Iterator[Known]:
    """A clone of JamendoLyrics: the table JamendoLyrics.csv, mp3/, lyrics/ and annotations/words/."""
    with (folder / "JamendoLyrics.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            sound = folder / "mp3" / row["Filepath"]
            if sound.exists():
                yield Known(sound.stem, WHOLE, sound, _annotated(folder, sound, LANGUAGES.get(row["Language"])))


def _silent(truth: Lyrics) -> Lyrics:
    return Lyrics((), duration=truth.duration, instrumental=((0.0, truth.duration),))


def _annotated(folder: Path, sound: Path, language: str | None) -> Lyrics:
    """A row for each word: word_start, word_end, and line_end where it is its line's last one."""
    texts = (folder / "lyrics" / f"{sound.stem}.words.txt").read_text(encoding="utf-8").splitlines()
    with (folder / "annotations" / "words" / f"{sound.stem}.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    words = tuple(
        Sung(text, float(row["word_start"]), float(row["word_end"])) for text, row in zip(texts, rows, strict=True)
    )
    ends = [nth for nth, row in enumerate(rows, 1) if not math.isnan(float(row["line_end"]))]
    lines = tuple(_line(words[first:last]) for first, last in pairwise([0, *ends]))
    duration = probe(sound).duration or float(rows[-1]["word_end"])
    edges = [0.0, *(time for word in words for time in (word.start or 0.0, word.end or 0.0)), duration]
    quiet = tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > GAP)
    return Lyrics(words, lines, language, duration, quiet)


def _line(words: Sequence[Sung]) -> Sung:
    return Sung(" ".join(word.text for word in words), words[0].start, words[-1].end)
