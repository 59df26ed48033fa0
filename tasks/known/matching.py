"""The words heard beside the words given: the one way to lay both side by side that explains most of either.

They are compared letter by letter, so that "a way" is "away", "gonna" nearly "going to", and a word that was misheard
is known by what is left of it. What one text has and the other has not is a gap, and one long gap is likelier than
many short ones: a verse that was not heard does not draw words from everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.known.sounds import alike, sounds
from tasks.song import Word

OPENED = 2.5  # what a gap costs, in letters that are the same
LONGER = 0.3  # what each of its letters costs
WORD_BEGINS = 0.3  # what it is worth that a word of both begins

BLOCK = 256  # rows, for which the way is kept; it is worked out again for one block after another

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """What was heard of a given word."""

    start: float  # seconds, from the letters that were heard
    end: float
    share: float  # of its letters, 0–1
    confidence: float  # that the engine had in what it heard there


@dataclass(frozen=True, slots=True)
class Pair:
    """A letter of the given text and the one of the heard text beside it."""

    ours: int
    theirs: int
    score: float


@dataclass(frozen=True, slots=True)
class _Text:
    letters: str
    words: NDArray[np.intp]  # of each letter
    begins: NDArray[np.bool_]  # whether it is its word's first
    starts: NDArray[np.float64]  # seconds, of each letter, where the words have times
    lengths: NDArray[np.float64]


def match(
    given: Sequence[str], heard: Sequence[Word], language: str | None, meanwhile: Callable[[], None] = lambda: None
) -> tuple[Match | None, ...]:
    """For each given word what was heard of it; None where nothing was."""
    ours = _text(given, [(0.0, 0.0)] * len(given), language)
    theirs = _text([word.text for word in heard], [(word.start, word.end) for word in heard], language)
    found: list[list[Pair]] = [[] for _ in given]
    if ours.letters and theirs.letters:
        for pair in _way(ours, theirs, meanwhile):
            if pair.score > 0:
                found[int(ours.words[pair.ours])].append(pair)
    return tuple(_match(pairs, ours, theirs, heard) if pairs else None for pairs in found)


def _match(pairs: Sequence[Pair], ours: _Text, theirs: _Text, heard: Sequence[Word]) -> Match:
    first, last = pairs[0], pairs[-1]
    begin, end = np.searchsorted(ours.words, (ours.words[first.ours], ours.words[first.ours] + 1))
    confidences = [heard[int(theirs.words[pair.theirs])].confidence for pair in pairs]
    letter = theirs.lengths[first.theirs]  # seconds
    start = theirs.starts[first.theirs] - (first.ours - begin) * letter  # its first letters may not be heard
    longer = max(int(end - begin), last.theirs - first.theirs + 1)  # letters scattered over many words are no word
    return Match(
        max(float(start), 0.0),
        float(theirs.starts[last.theirs] + theirs.lengths[last.theirs]),
        min(sum(pair.score for pair in pairs) / longer, 1.0),
        sum(confidences) / len(confidences),
    )


def _text(words: Sequence[str], times: Sequence[tuple[float, float]], language: str | None) -> _Text:
    said = [sounds(word, language) for word in words]
    counts = np.array([len(letters) for letters in said], np.intp)
    owners = np.repeat(np.arange(len(said)), counts)
    within = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    spans = np.array(times, np.float64).reshape(-1, 2)[owners]
    lengths = (spans[:, 1] - spans[:, 0]) / counts[owners]
    return _Text("".join(said), owners, within == 0, spans[:, 0] + within * lengths, lengths)


# --- the way ------------------------------------------------------------------------------------

BOTH, OURS, THEIRS = 0, 1, 2  # a step takes a letter of both texts, or of one


@dataclass(frozen=True, slots=True)
class _Row:
    """The best scores that end at each letter of theirs: with a letter of both, or in a gap of either text."""

    both: Floats
    ours: Floats
    theirs: Floats


def _way(ours: _Text, theirs: _Text, meanwhile: Callable[[], None]) -> Iterator[Pair]:
    """The pairs of letters on the best way, in order."""
    n, m = len(ours.letters), len(theirs.letters)
    row = _first(m)
    before: list[_Row] = []
    for begin in range(0, n, BLOCK):
        meanwhile()
        before.append(row)
        row, _ = _sweep(range(begin, min(begin + BLOCK, n)), row, ours, theirs)
    column = m
    state = int(np.argmax([row.both[m], row.ours[m], row.theirs[m]]))
    pairs: list[Pair] = []
    for block in reversed(range(len(before))):
        meanwhile()
        rows = range(block * BLOCK, min((block + 1) * BLOCK, n))
        alikes = alike(ours.letters[rows.start : rows.stop], theirs.letters)
        _, steps = _sweep(rows, before[block], ours, theirs)
        at = len(rows) - 1
        while at >= 0:
            if state == THEIRS:
                state = int(steps[at][THEIRS, column])
                column -= 1
                continue
            if state == BOTH:
                pairs.append(Pair(rows[at], column - 1, float(alikes[at, column - 1])))
            came = int(steps[at][state, column])
            column -= state == BOTH
            state = came
            at -= 1
    return reversed(pairs)


def _first(m: int) -> _Row:
    none = np.full(m + 1, -np.inf, np.float32)
    both = none.copy()
    both[0] = 0.0
    theirs = (-OPENED - LONGER * np.arange(m + 1)).astype(np.float32)
    theirs[0] = -np.inf
    return _Row(both, none, theirs)


def _sweep(rows: range, row: _Row, ours: _Text, theirs: _Text) -> tuple[_Row, list[NDArray[np.uint8]]]:
    """The row after these letters of ours, and from which kind of step each of its kinds came on the way."""
    m = len(theirs.letters)
    alikes = alike(ours.letters[rows.start : rows.stop], theirs.letters)
    alikes[ours.begins[rows.start : rows.stop]] += WORD_BEGINS * theirs.begins
    slope = (LONGER * np.arange(m + 1)).astype(np.float32)
    none = np.full(1, -np.inf, np.float32)
    steps: list[NDArray[np.uint8]] = []
    for letter in alikes:
        came = np.zeros((3, m + 1), np.uint8)
        ungapped, best = np.maximum(row.both, row.theirs), np.where(row.both >= row.theirs, BOTH, THEIRS)
        came[BOTH, 1:] = np.where(row.ours > ungapped, OURS, best)[:-1]
        both = np.concatenate((none, np.maximum(ungapped, row.ours)[:-1] + letter))
        came[OURS] = np.where(row.ours >= ungapped - OPENED, OURS, best)
        mine = np.maximum(row.ours, ungapped - OPENED) - np.float32(LONGER)
        # In a gap the score falls from letter to letter: the best begin for each end is a running maximum.
        begun = np.maximum(both, mine) - OPENED + slope
        running = np.maximum.accumulate(begun)
        their = np.concatenate((none, running[:-1] - slope[1:]))
        came[THEIRS, 1:] = np.where(begun >= running, np.where(both >= mine, BOTH, OURS), THEIRS)[:-1]
        row = _Row(both, mine, their)
        steps.append(came)
    return row, steps
