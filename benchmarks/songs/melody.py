"""Which note each syllable gets: how long by its weight in the line, how high by a walk over the chords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.songs.singing import Note

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (0, 2, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 4), (0, 6, 5, 4), (0, 2, 6, 3)),
}

LIGHT = 0.45  # a short word's weight, against a syllable's of a longer word
LONG = 1.35  # a word of one syllable that is not short
LAST = 2.6  # the line's last syllable
COMMA = 1.7


@dataclass(frozen=True, slots=True)
class Key:
    tonic: int  # MIDI's number
    mode: str
    progression: tuple[int, ...]  # scale degrees, a bar each

    def pitch(self, degree: int) -> int:
        scale = SCALES[self.mode]
        return self.tonic + 12 * (degree // len(scale)) + scale[degree % len(scale)]

    def chord(self, bar: int) -> tuple[int, ...]:
        """The degrees of the bar's chord, from its root."""
        root = self.progression[bar % len(self.progression)]
        return (root, root + 2, root + 4)


def lengths(words: Sequence[str], syllables: Sequence[int]) -> np.ndarray:
    """Each syllable's share of its line."""
    counts = np.bincount(syllables, minlength=len(words))
    weights: list[float] = []
    for nth, word in enumerate(syllables):
        last = nth + 1 == len(syllables) or syllables[nth + 1] != word
        weight = 1.0
        if counts[word] == 1:
            weight = LIGHT if len(words[word].strip(",.!?")) <= 3 else LONG
        if last and words[word][-1] in ",;:":
            weight = max(weight, COMMA)
        weights.append(weight)
    weights[-1] = LAST
    return np.array(weights) / sum(weights)


def sung(
    words: Sequence[str],
    syllables: Sequence[int],
    key: Key,
    bar: int,
    bars: int,
    seconds: float,
    lowest: int,
    chance: np.random.Generator,
) -> list[Note]:
    """A melody over the line's bars: heavy syllables on the chord, light ones on the way."""
    shares = lengths(words, syllables) * (1 + 0.1 * chance.uniform(-1, 1, len(syllables)))
    edges = np.concatenate(([0.0], np.cumsum(shares / shares.sum())))
    degree = min(range(-14, 29), key=lambda d: abs(key.pitch(d) - lowest - 5))
    notes: list[Note] = []
    for start, end in pairwise(edges):
        chord = key.chord(bar + int(start * bars))
        wish = degree + int(chance.integers(-2, 3))
        if (end - start) * len(syllables) > 0.8:
            tones = [tone + octave for tone in chord for octave in (-14, -7, 0, 7, 14)]
            wish = min(tones, key=lambda tone: (abs(tone - wish), tone))
        while key.pitch(wish) < lowest:
            wish += 2
        while key.pitch(wish) > lowest + 12:
            wish -= 2
        degree = wish
        notes.append(Note(start * seconds, end * seconds, key.pitch(degree)))
    return notes


def rapped(starts: Sequence[float], end: float, seconds: float, lowest: int, chance: np.random.Generator) -> list[Note]:
    """The voice's own rhythm in the time that the beat leaves, nearly on one tone, which sinks at the end."""
    natural = np.array([*starts, end])
    edges = (natural - natural[0]) / (natural[-1] - natural[0]) * seconds
    tones = lowest + 4 + chance.integers(-2, 3, len(starts)).astype(float)
    tones[-1] -= 3
    return [Note(float(a), float(b), float(t)) for a, b, t in zip(edges[:-1], edges[1:], tones, strict=True)]
