"""A song of any length through a model that hears some seconds at a time.

What comes out equals `demucs.apply.apply_model` without shifts: the same segments, a quarter of each over the next one,
each with the real sound around it where the model wants to see more than it answers for, faded into each other by
the same triangles. But several go through the model at once, and what is finished leaves at once.
"""

# pyright: reportUnknownMemberType=false
# (torch is typed in part)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice, takewhile

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.audio import Chunk
from tasks.separate.ladder import Pace, Way, out_of_memory
from tasks.separate.model import Part

OVERLAP = 0.25  # of a segment

Pair = NDArray[np.float32]  # (voice or music, channel, sample)


@dataclass(frozen=True, slots=True)
class Segment:
    length: int  # samples that it answers for
    sound: Chunk  # as many as the model wants, with those in their middle


def pieces(part: Part, sound: Iterable[Chunk], length: int, way: Way, pace: Pace) -> Iterator[Pair]:
    """The voice and the music, finished stretch by finished stretch."""
    part = part.shorter(way.seconds)
    size = int(part.model.samplerate * part.model.segment)
    fade = Fade(size, int((1 - OVERLAP) * size), part.device)
    coming = segments(part, sound, length, size, fade.stride)
    waiting: list[Segment] = []
    while waiting := [*waiting, *islice(coming, max(pace.batch - len(waiting), 0))]:
        batch = _alike(waiting[: pace.batch])
        try:
            stems = part.stems(torch.from_numpy(np.stack([segment.sound for segment in batch])))
        except Exception as error:
            if not out_of_memory(error) or not pace.slower():
                raise
            continue
        pace.measure()
        waiting = waiting[len(batch) :]
        for segment, stem in zip(batch, stems.unbind(1), strict=True):
            yield fade.add(_middle(stem, segment.length)).cpu().numpy()


def segments(part: Part, sound: Iterable[Chunk], length: int, size: int, stride: int) -> Iterator[Segment]:
    window = Window(sound, part.model.audio_channels, length)
    for offset in range(0, length, stride):
        own = min(size, length - offset)
        wide = part.bears(own)
        begin = offset - (wide - own) // 2
        yield Segment(own, window.between(begin, begin + wide))


class Window:
    """A sound that streams by, of which a stretch at a time is looked at, each further on than the last."""

    def __init__(self, sound: Iterable[Chunk], channels: int, length: int) -> None:
        self._sound = iter(sound)
        self._length = length
        self._kept: Chunk = np.zeros((channels, 0), np.float32)
        self._begin = 0

    def between(self, begin: int, end: int) -> Chunk:
        """With silence before the sound's first sample and after its last."""
        first, last = max(begin, 0), min(end, self._length)
        self._read(first, last)
        own = self._kept[:, : last - first]
        return np.pad(own, ((0, 0), (first - begin, end - first - own.shape[1])))

    def _read(self, first: int, last: int) -> None:
        new = [self._kept]
        read = self._begin + self._kept.shape[1]
        while read < last and (chunk := next(self._sound, None)) is not None:
            new.append(chunk)
            read += chunk.shape[1]
        self._kept = np.concatenate(new, axis=1)[:, first - self._begin :]
        self._begin = first


class Fade:
    """Each segment's end fades into the next one's begin."""

    def __init__(self, size: int, stride: int, device: str) -> None:
        self.stride = stride
        rising = torch.arange(1, size // 2 + 1, device=device)
        falling = torch.arange(size - size // 2, 0, -1, device=device)
        triangle = torch.cat([rising, falling])
        self._triangle = triangle / triangle.max()
        self._end, self._weights = torch.zeros(0, device=device), torch.zeros(0, device=device)

    def add(self, stem: torch.Tensor) -> torch.Tensor:
        """What is finished now: all that the next segment does not reach."""
        length = stem.shape[-1]
        weights = self._triangle[:length].clone()
        total = weights * stem
        over = len(self._weights)
        if over:
            total[..., :over] += self._end
            weights[:over] += self._weights
        # Copies, for a view would keep the whole segment in memory.
        self._end, self._weights = total[..., self.stride :].clone(), weights[self.stride :].clone()
        return total[..., : self.stride] / weights[: self.stride]


def summed(parts: Sequence[Iterator[Pair]]) -> Iterator[Pair]:
    """What the models of a bag make of a song, each in stretches of its own length, added up."""
    left: list[Pair | None] = [None] * len(parts)
    while True:
        left = [next(part, None) if rest is None else rest for rest, part in zip(left, parts, strict=True)]
        ready = [rest for rest in left if rest is not None]
        if len(ready) < len(parts):
            return
        length = min(rest.shape[-1] for rest in ready)
        yield reduce(np.add, [rest[..., :length] for rest in ready])
        left = [rest[..., length:] if rest.shape[-1] > length else None for rest in ready]


def _alike(batch: Sequence[Segment]) -> list[Segment]:
    """Of a batch, the first that the model wants to see at one length: old models want less of a last segment."""
    return list(takewhile(lambda segment: segment.sound.shape == batch[0].sound.shape, batch))


def _middle(stem: torch.Tensor, length: int) -> torch.Tensor:
    begin = (stem.shape[-1] - length) // 2
    return stem[..., begin : begin + length]
