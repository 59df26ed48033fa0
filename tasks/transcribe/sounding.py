"""Where exactly the voice sounds in what whisper heard, and so when its words are sung.

Whisper's own times are off by a tenth of a second and more, and swallow the pauses. With the base model the letters
are heard in what its encoder made anyway (`tasks/letters`); with the others the sound's loudness must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tasks import letters, voice
from tasks.letters import FRAME, NONE, Floats
from tasks.song import Word
from tasks.transcribe.ear import Features
from tasks.voice import Span

REACH = 0.6  # seconds that a word may lie beside the place where whisper puts it
SLACK = 0.1  # seconds that it may lie outside of its phrase
ENOUGH = 0.5  # share of the words that are of letters the network knows


@dataclass(frozen=True, slots=True, eq=False)
class Sounding:
    """The voice in one piece of a song."""

    piece: Span
    spans: tuple[Span, ...]  # in the song, without the pauses between words
    letters: Floats | None = None  # the log-likelihood of each letter in each frame

    @property
    def seconds(self) -> float:
        return self.within(self.piece)

    def within(self, own: Span) -> float:
        """Seconds of voice."""
        return sum(max(min(span.end, own.end) - max(span.start, own.start), 0.0) for span in self.spans)

    def timed(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """The words where they are sung."""
        near = voice.tightened(words, self.spans)
        if self.letters is None or sum(bool(letters.columns(word.text)) for word in near) <= ENOUGH * len(near):
            return near
        begin = self.piece.start
        bounds = [(first - begin, last - begin) for first, last in map(self._bounds, near)]
        places = letters.placed(self.letters, [word.text for word in near], [True] * len(near), bounds)
        if places is None:
            return near
        return tuple(
            replace(word, start=begin + place.start, end=begin + place.end)
            for word, place in zip(near, places, strict=True)
        )

    def _bounds(self, word: Word) -> tuple[float, float]:
        """Where the word may lie: near its place, and in the phrase there, for that was chosen with care."""
        own = next((span for span in self.spans if span.start <= word.start < span.end), self.piece)
        return max(word.start - REACH, own.start - SLACK), min(word.end + REACH, own.end + SLACK)


def heard_in(features: Features, piece: Span) -> Sounding:
    """The voice as the letters tell of it, in what the encoder made of the piece."""
    heard = letters.network()(features[: round(piece.length / FRAME)])
    spans = voice.likely_sounding(1 - np.exp(heard[:, NONE]), piece.length)
    return Sounding(piece, tuple(Span(piece.start + s.start, piece.start + s.end) for s in spans), heard)
