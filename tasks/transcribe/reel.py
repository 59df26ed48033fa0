"""A song's singing cut out and put one piece after another, so that an engine hears, and is paid for, nothing else.

A reel maps its times back to the song's, piece by piece. Places are counted in samples, so that at the seams nothing
is lost and nothing doubled.
"""

# pyright: reportUnknownMemberType=false
# (PyAV is typed in part)

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from tasks.audio import RATE, Samples
from tasks.voice import Span

GAP = round(0.5 * RATE)  # samples of silence between two pieces at most: a pause that an engine hears as one
HOP = round(0.02 * RATE)  # samples; how finely a cut is placed
NEAR = 15  # hops over which loudness is averaged where a cut is looked for
INT16 = 32767


@dataclass(frozen=True, slots=True)
class Piece:
    """The song's samples from `start` to `end`, and where they begin in the reel."""

    start: int
    end: int
    at: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Reel:
    pieces: tuple[Piece, ...]  # in the order of the song; at least one

    @property
    def seconds(self) -> float:
        return (self.pieces[-1].at + self.pieces[-1].length) / RATE

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(Span(piece.start / RATE, piece.end / RATE) for piece in self.pieces)

    def sound(self, samples: Samples) -> NDArray[np.float32]:
        sound = np.zeros(self.pieces[-1].at + self.pieces[-1].length, np.float32)
        for piece in self.pieces:
            sound[piece.at : piece.at + piece.length] = samples.values[piece.start : piece.end]
        return sound

    def time(self, time: float) -> float:
        """The song's time at a time of the reel; the silence after a piece is that piece's end."""
        piece = self.pieces[max(bisect_right(self.pieces, time * RATE, key=lambda piece: piece.at) - 1, 0)]
        return _within(piece, time)

    def span(self, start: float, end: float) -> Span:
        """A word's times in the song: in the piece that it overlaps most, for it was sung in one."""
        piece = max(
            self.pieces, key=lambda piece: min(end * RATE, piece.at + piece.length) - max(start * RATE, piece.at)
        )
        return Span(_within(piece, start), _within(piece, end))


def reels(samples: Samples, windows: Sequence[Span], most: float) -> tuple[Reel, ...]:
    """The windows, in their order, on as few reels as may be of `most` seconds each; a longer window is cut."""
    limit = round(most * RATE)
    made: list[Reel] = []
    pieces: list[Piece] = []
    for start, end in _bearable(samples, windows, limit):
        at = _after(pieces[-1], start) if pieces else 0
        if pieces and at + end - start > limit:
            made.append(Reel(tuple(pieces)))
            pieces, at = [], 0
        pieces.append(Piece(start, end, at))
    return (*made, Reel(tuple(pieces))) if pieces else ()


def halves(samples: Samples, reel: Reel) -> tuple[Reel, ...]:
    """The same sound on shorter reels."""
    return reels(samples, reel.spans, reel.seconds / 2)


def flac(sound: NDArray[np.float32]) -> bytes:
    """Mono, 16 bits: what the engines make of every file anyway, in half the size of a WAV and without a loss."""
    import av

    file = BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        whole = np.round(sound.clip(-1.0, 1.0) * INT16).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(whole[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _within(piece: Piece, time: float) -> float:
    return min(max(time * RATE - piece.at + piece.start, piece.start), piece.end) / RATE


def _after(piece: Piece, start: int) -> int:
    """Where in the reel the song's sample `start` belongs: windows that touch in the song touch here."""
    return piece.at + piece.length + min(start - piece.end, GAP)


def _bearable(samples: Samples, windows: Iterable[Span], limit: int) -> Iterator[tuple[int, int]]:
    """The windows in samples, those over the limit cut where they are quietest."""
    for window in windows:
        start, end = round(window.start * RATE), min(round(window.end * RATE), len(samples.values))
        while end - start > limit:
            cut = _quietest(samples, start + limit // 2, start + limit)
            yield start, cut
            start = cut
        if end > start:
            yield start, end


def _quietest(samples: Samples, first: int, last: int) -> int:
    """The place between two others, the last one included, with the least sound around it."""
    power = np.square(samples.values[first:last], dtype=np.float64)[: (last - first) // HOP * HOP].reshape(-1, HOP)
    if len(power) < NEAR:
        return last
    around = np.convolve(power.mean(axis=1), np.ones(NEAR), mode="valid")
    return first + (int(np.argmin(around)) + NEAR // 2) * HOP
