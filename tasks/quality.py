"""How well a song came out: about the share of its words that are right and in time, for it and for each line.

Nobody can count that without the truth. What tells of it is how sure the engine was of a word, of its line and of the
whole song, for it hears a song well or badly as a whole; words crammed into no time, which no mouth sings; words over
and over, as an engine says them that is caught in a loop; words where nobody sings, and singing without words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tasks.song import Line, Song, Word
from tasks.verse import plain
from tasks.voice import Span

# Near the fit to songs whose words are known: `python -m benchmarks.quality --fit`.
BIAS = 3.2
OF_WORD, OF_LINE, OF_SONG = 1.0, 1.7, 2.2  # for each e-fold that the engine was surer
CRAMMED, MANY_CRAMMED = -1.0, -6.0  # for a word without time, and for a song of nothing else
LOOPED = -1.5

LEAST_SURE = 0.2  # confidence; a word less sure is as wrong as one can be
NO_TIME = 0.06  # seconds
LONGEST_LOOP = 4  # words

TELLING = 0.95  # of a song that is sung at most, where its phrases tell anything: music fills all of it
LED_IN, LET_OUT = 0.3, 0.5  # seconds of singing around a line that belong to it
HUMMED = 1.0  # seconds of singing that need no words


def judged(song: Song, sung: Sequence[Span] = ()) -> Song:
    """The song with its quality and each line's. Its phrases count where they tell singing from silence."""
    chances = _chances(song, sung if _tells(song, sung) else ())
    lines = tuple(replace(line, quality=_mean(some)) for line, some in zip(song.lines, chances, strict=True))
    whole = _mean([chance for some in chances for chance in some])
    if whole is not None and _tells(song, sung):
        whole *= _worded(song.lines, sung)
    return replace(song, lines=lines, quality=whole)


def signs(lines: Sequence[Line]) -> list[list[tuple[float, ...]]]:
    """What tells of each word, in the order of the weights, line by line."""
    words = [word for line in lines for word in line.words]
    crammed = [word.end - word.start < NO_TIME for word in words]
    share = sum(crammed) / max(len(words), 1)
    whole = _sureness(words)
    looped = iter(_looped([plain(word.text) for word in words]))
    return [
        [
            (_sureness([word]), _sureness(line.words), whole, word.end - word.start < NO_TIME, share, next(looped))
            for word in line.words
        ]
        for line in lines
    ]


def _chances(song: Song, sung: Sequence[Span]) -> list[list[float]]:
    """For each word of each line, the chance that it is right."""
    weights = (OF_WORD, OF_LINE, OF_SONG, CRAMMED, MANY_CRAMMED, LOOPED)
    return [
        [
            _within(word, sung) / (1 + math.exp(-BIAS - sum(a * b for a, b in zip(weights, sign, strict=True))))
            for word, sign in zip(line.words, some, strict=True)
        ]
        for line, some in zip(song.lines, signs(song.lines), strict=True)
    ]


def _sureness(words: Sequence[Word]) -> float:
    return sum(math.log(max(word.confidence, LEAST_SURE)) for word in words) / max(len(words), 1)


def _looped(texts: Sequence[str]) -> list[bool]:
    """Whether each word belongs to words that were just said."""
    looped = [False] * len(texts)
    for length in range(1, LONGEST_LOOP + 1):
        for at in range(length, len(texts) - length + 1):
            if texts[at : at + length] == texts[at - length : at]:
                looped[at : at + length] = [True] * length
    return looped


def _tells(song: Song, sung: Sequence[Span]) -> bool:
    return 0 < sum(span.length for span in sung) < TELLING * song.duration


def _within(word: Word, sung: Sequence[Span]) -> float:
    """1 where at least half of the word is sung, or where nothing is known of that."""
    if not sung:
        return 1.0
    heard = sum(max(min(word.end, span.end) - max(word.start, span.start), 0.0) for span in sung)
    return min(2 * heard / max(word.end - word.start, 1e-3), 1.0)


def _worded(lines: Sequence[Line], sung: Sequence[Span]) -> float:
    """The share of the singing that has words."""
    missing = 0.0
    for span in sung:
        edges = [span.start]
        for line in lines:
            if line.end > span.start and line.start < span.end:
                edges += [line.start - LED_IN, line.end + LET_OUT]
        edges.append(span.end)
        gaps = [b - a for a, b in list(pairwise(edges))[::2]]
        missing += sum(gap for gap in gaps if gap > HUMMED)
    return max(0.0, 1 - missing / sum(span.length for span in sung))


def _mean(chances: Sequence[float]) -> float | None:
    return sum(chances) / len(chances) if chances else None
