"""How near words and lines come to what was sung: the figures by which lyrics are judged.

    python -m benchmarks.score HEARD.json TRUTH.json

Words are compared without case and punctuation, by the edits between both; of equal ways the one is taken whose words
are the nearest in time. An onset counts as right within 0.3 s (JamendoLyrics' tolerance), a line's within 0.5 s.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.song import Song

IN_TIME = 0.3  # seconds that a word may begin too early or too late
LINE_IN_TIME = 0.5  # seconds
MARGIN = 0.5  # seconds by which instrumental parts are shrunk, for nobody knows where a word ends
SLACK = 0.25  # seconds after the song's end that are forgiven
NEARER = 1e-6  # of an edit, that a second is worth between ways of equal edits
FARTHEST = 60.0  # seconds; beyond, all are as far


@dataclass(frozen=True, slots=True)
class Sung:
    """A word or a line. An engine may leave out its times."""

    text: str
    start: float | None
    end: float | None


@dataclass(frozen=True, slots=True)
class Lyrics:
    """What a document says, or what is true."""

    words: tuple[Sung, ...]
    lines: tuple[Sung, ...] = ()
    language: str | None = None
    duration: float = 0.0  # seconds
    instrumental: tuple[tuple[float, float], ...] = ()  # where nobody sings


@dataclass(frozen=True, slots=True)
class Score:
    """Of one song, or of many together: counts, from which the figures follow."""

    words: int = 0  # that are sung
    wrong: int = 0  # substituted, left out, added
    invented: int = 0  # where nobody sings
    onsets: tuple[float, ...] = ()  # seconds that each right word is off
    senseless: int = 0  # words without times, or with times that cannot be
    lines: int = 0  # that are sung
    lines_heard: int = 0
    lines_right: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def error_rate(self) -> float:
        return self.wrong / self.words if self.words else float(bool(self.wrong))

    @property
    def onset_mean(self) -> float | None:
        return statistics.mean(self.onsets) if self.onsets else None

    @property
    def onset_median(self) -> float | None:
        return statistics.median(self.onsets) if self.onsets else None

    @property
    def in_time(self) -> float:
        """Share of all true words that are right and begin when they are sung."""
        return sum(off <= IN_TIME for off in self.onsets) / self.words if self.words else 1.0

    @property
    def line_f1(self) -> float:
        both = self.lines + self.lines_heard
        return 2 * self.lines_right / both if both else 1.0

    def figures(self) -> dict[str, Any]:
        return {
            "words": self.words,
            "wer": round(self.error_rate, 3),
            "invented": self.invented,
            "onset_mean": None if self.onset_mean is None else round(self.onset_mean, 3),
            "onset_median": None if self.onset_median is None else round(self.onset_median, 3),
            "in_time": round(self.in_time, 3),
            "line_f1": round(self.line_f1, 3),
            "senseless": self.senseless,
        }


def read(path: Path) -> Lyrics:
    """A result document, or a truth of the same fields."""
    return from_document(json.loads(path.read_text(encoding="utf-8")))


def from_document(document: dict[str, Any]) -> Lyrics:
    return Lyrics(
        tuple(Sung(word["word"], word.get("start"), word.get("end")) for word in document.get("words") or ()),
        tuple(Sung(line["text"], line.get("start"), line.get("end")) for line in document.get("lines") or ()),
        document.get("language"),
        document.get("duration") or 0.0,
        tuple((part["start"], part["end"]) for part in document.get("instrumental") or ()),
    )


def from_song(song: Song) -> Lyrics:
    return Lyrics(
        tuple(Sung(word.text, word.start, word.end) for word in song.words),
        tuple(Sung(line.text, line.start, line.end) for line in song.lines),
        song.language,
        song.duration,
    )


def score(heard: Lyrics, truth: Lyrics) -> Score:
    sung, said = _tokens(truth.words), _tokens(heard.words)
    path = edits(sung, said)
    right = [(sung[i], said[j]) for i, j in path if i is not None and j is not None and sung[i].text == said[j].text]
    return Score(
        words=len(sung),
        wrong=len(path) - len(right),
        invented=len(invented(heard, truth)),
        onsets=tuple(abs(a.start - b.start) for a, b in right if a.start is not None and b.start is not None),
        senseless=_senseless(heard.words, truth.duration),
        lines=len(truth.lines),
        lines_heard=sum(line.start is not None for line in heard.lines),
        lines_right=_in_time(_starts(truth.lines), _starts(heard.lines)),
    )


def plain(text: str) -> list[str]:
    """The words without what is no sound: case, punctuation, hyphens."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("`", "'")
    text = re.sub(r"[-‐-―/]", " ", text)
    text = re.sub(r"[^\w\s']", "", text).replace("_", "")
    return [word for part in text.split() if (word := part.strip("'"))]


def invented(heard: Lyrics, truth: Lyrics) -> list[str]:
    """The words whose middle is in an instrumental part."""
    parts = [
        (start + MARGIN * (start > 0), end - MARGIN * (end < truth.duration - 1e-3))
        for start, end in truth.instrumental
    ]
    timed = [
        (word.text, (word.start + word.end) / 2)
        for word in heard.words
        if word.start is not None and word.end is not None
    ]
    return [text for text, middle in timed if any(start < middle < end for start, end in parts)]


def _tokens(words: Iterable[Sung]) -> list[Sung]:
    """A word that is more than one ("cold-hearted") shares its time among them."""
    return [token for word in words for token in _parts(word, plain(word.text))]


def _parts(word: Sung, texts: Sequence[str]) -> list[Sung]:
    if word.start is None or word.end is None:
        return [Sung(text, word.start, word.end) for text in texts]
    each = (word.end - word.start) / max(len(texts), 1)
    return [Sung(text, word.start + nth * each, word.start + (nth + 1) * each) for nth, text in enumerate(texts)]


def edits(sung: Sequence[Sung], said: Sequence[Sung]) -> list[tuple[int | None, int | None]]:
    """The fewest edits from what was sung to what was said: pairs, with None for a word that only one of them has."""
    costs = [[float(j) for j in range(len(said) + 1)]]
    for i, true in enumerate(sung):
        before, row = costs[-1], [i + 1.0]
        for j, other in enumerate(said):
            row.append(min(before[j] + _cost(true, other), before[j + 1] + 1, row[j] + 1))
        costs.append(row)
    i, j, path = len(sung), len(said), list[tuple[int | None, int | None]]()
    while i or j:
        if i and j and abs(costs[i][j] - costs[i - 1][j - 1] - _cost(sung[i - 1], said[j - 1])) < NEARER / 1000:
            i, j = i - 1, j - 1
            path.append((i, j))
        elif i and abs(costs[i][j] - costs[i - 1][j] - 1) < NEARER / 1000:
            i -= 1
            path.append((i, None))
        else:
            j -= 1
            path.append((None, j))
    return path[::-1]


def _cost(true: Sung, other: Sung) -> float:
    far = abs(true.start - other.start) if true.start is not None and other.start is not None else 0.0
    return float(true.text != other.text) + min(far, FARTHEST) * NEARER


def _senseless(words: Sequence[Sung], duration: float) -> int:
    """Words without times, that do not last, that begin before the one before them, that end after the song."""
    whole = sum(
        word.start is None or word.end is None or word.end <= word.start or word.end > duration + SLACK
        for word in words
    )
    return whole + sum(
        later.start < earlier.start - 1e-6
        for earlier, later in pairwise(words)
        if earlier.start is not None and later.start is not None
    )


def _starts(lines: Iterable[Sung]) -> list[float]:
    return sorted(line.start for line in lines if line.start is not None)


def _in_time(true: Sequence[float], others: Sequence[float]) -> int:
    """How many lines begin when they should, each of the others counted once."""
    free = list(others)
    found = 0
    for start in true:
        nearest = min(free, key=lambda other: abs(other - start), default=None)
        if nearest is not None and abs(nearest - start) <= LINE_IN_TIME:
            free.remove(nearest)
            found += 1
    return found


def main() -> None:
    heard, truth = (read(Path(path)) for path in sys.argv[1:])
    print(json.dumps(score(heard, truth).figures()))


if __name__ == "__main__":
    main()
