"""The best way through a song for letters whose order is known: CTC's forced alignment, each letter within its reach.

The states are blank, letter, blank, letter, …, blank. From one frame to the next the way stays, goes one state on, or
goes two on, over a blank between letters that differ. Where a way came from is kept for BLOCK frames only and worked
out again on the way back: a whole album's text costs no more memory than its scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

BLOCK = 1000  # frames
BLANK = 0  # the column of "no letter here"


@dataclass(frozen=True, slots=True)
class Found:
    """For each letter the frames in which it is sung, and how likely it is there."""

    begins: Places
    ends: Places  # the frame after its last
    likelihoods: NDArray[np.float64]


def align(
    logs: Floats,
    letters: Places,
    firsts: Places,
    lasts: Places,
    meanwhile: Callable[[], None] = lambda: None,
    blanks: Places | int = BLANK,
) -> Found | None:
    """Where the letters (columns of `logs`) are sung, each from its first frame to before its last.

    Both bounds must rise with the letters. None where no way keeps to them. `blanks` are the columns of what is
    before each letter and after the last one, where that is not the same everywhere.
    """
    path = _path(_lattice(logs, letters, firsts, lasts, blanks), len(logs), meanwhile)
    if path is None:
        return None
    own = 2 * np.arange(len(letters)) + 1
    begins, ends = np.searchsorted(path, own, "left"), np.searchsorted(path, own, "right")
    chosen = np.exp(logs[np.arange(len(path)), _columns(letters, blanks)[path]].astype(np.float64))
    total = np.concatenate(([0.0], np.cumsum(chosen)))
    return Found(begins, ends, (total[ends] - total[begins]) / (ends - begins))


@dataclass(frozen=True, slots=True)
class _Lattice:
    logs: Floats  # frames × columns
    columns: Places  # of each state
    skips: NDArray[np.bool_]  # the states that can be entered over the blank before them
    lows: Places  # of each frame: the first state that is open,
    highs: Places  # and the one after the last

    def sweep(self, frames: range, score: Floats) -> tuple[Floats, list[Places]]:
        """The score of each state after these frames, and how many states on each of them came from.

        The score begins with two states that nothing comes to.
        """
        steps: list[Places] = []
        for frame in frames:
            low, high = self.lows[frame], self.highs[frame]
            over = np.where(self.skips[low:high], score[low:high], -np.inf)
            came = np.stack((score[low + 2 : high + 2], score[low + 1 : high + 1], over))
            score = np.full_like(score, -np.inf)
            score[low + 2 : high + 2] = came.max(0) + self.logs[frame, self.columns[low:high]]
            steps.append(came.argmax(0).astype(np.uint8))
        return score, steps


def _lattice(logs: Floats, letters: Places, firsts: Places, lasts: Places, blanks: Places | int = BLANK) -> _Lattice:
    frames = np.arange(len(logs))
    columns = _columns(letters, blanks)
    skips = np.zeros(len(columns), bool)
    skips[1] = True  # the first letter needs no blank before it
    skips[3::2] = letters[1:] != letters[:-1]
    lows = 2 * np.searchsorted(lasts, frames, "right")
    highs = 2 * np.searchsorted(firsts, frames, "right") + 1
    return _Lattice(logs, columns, skips, lows, np.maximum(highs, lows + 1))


def _columns(letters: Places, blanks: Places | int) -> Places:
    columns = np.empty(2 * len(letters) + 1, np.intp)
    columns[::2] = blanks
    columns[1::2] = letters
    return columns


def _path(lattice: _Lattice, length: int, meanwhile: Callable[[], None]) -> Places | None:
    """The state of each frame."""
    score = np.full(len(lattice.columns) + 2, -np.inf)
    score[1] = 0.0  # before the first state
    bounds = [*range(0, length, BLOCK), length]
    blocks = [range(begin, end) for begin, end in pairwise(bounds)]
    before: list[Floats] = []
    for frames in blocks:
        meanwhile()
        before.append(score)
        score, _ = lattice.sweep(frames, score)
    state = len(lattice.columns) - (1 if score[-1] >= score[-2] else 2)
    if not np.isfinite(score[state + 2]):
        return None
    path = np.empty(length, np.intp)
    for frames, score in zip(reversed(blocks), reversed(before), strict=True):
        meanwhile()
        _, steps = lattice.sweep(frames, score)
        for frame, step in zip(reversed(frames), reversed(steps), strict=True):
            path[frame] = state
            state -= int(step[state - lattice.lows[frame]])
    return path
