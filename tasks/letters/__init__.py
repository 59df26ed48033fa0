"""Which letter is sung when, as a small network hears it through the ears of whisper base.

The encoder turns the sound into features, and a network of its own (`letters.npz`, which `python -m benchmarks.letters`
trains on synthetic voices over synthetic bands) says which of the 26 letters is sung in each fiftieth of a second, or
none. It cannot transcribe. It knows where in a line a letter stands whose place in the text is known, and it hears
through a band whether anybody sings at all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.align import viterbi

MODEL = "base"  # whose features the network was trained on
WEIGHTS = Path(__file__).with_name("letters.npz")

FRAME = 0.02  # seconds
NONE = 0  # the column of "no letter"; those of a to z follow
ANY = 1  # the column that stands for a word without letters of ours, as long as it is short
PRIOR = 0.5  # how far a letter is forgiven that it is rare
PAUSED, TORN = 0.1, 4.0  # what a frame of silence costs, in log-likelihood, within a line and within a word

Floats = NDArray[np.float32]
Places = NDArray[np.intp]
Bounds = Sequence[tuple[float, float]]  # seconds between which each word must lie


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a word is sung, and how clearly its letters are heard there, each at its best."""

    start: float
    end: float
    likelihood: float  # 0–1


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Two small convolutions over the encoder's features."""

    mean: Floats
    scale: Floats
    first: Floats  # features × hidden
    first_bias: Floats
    second: Floats  # steps × hidden × hidden
    second_bias: Floats
    last: Floats  # hidden × letters
    last_bias: Floats
    prior: Floats  # log-likelihood of each letter anywhere

    def __call__(self, features: Floats) -> Floats:
        """The log-likelihood of each letter in each frame."""
        hidden = np.maximum((features - self.mean) / self.scale @ self.first + self.first_bias, 0)
        reach = len(self.second) // 2
        padded = np.pad(hidden, ((reach, reach), (0, 0)))
        near = self.second_bias + sum(
            padded[step : step + len(hidden)] @ weights for step, weights in enumerate(self.second)
        )
        scores = (hidden + np.maximum(near, 0)) @ self.last + self.last_bias
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@cache
def network() -> Network:
    with np.load(WEIGHTS) as weights:
        return Network(**{name: weights[name].astype(np.float32) for name in weights.files})


def columns(word: str) -> list[int]:
    """The letters of a word as the network knows them; none of other scripts."""
    plain = unicodedata.normalize("NFKD", word.casefold().replace("œ", "oe").replace("æ", "ae"))
    letters = [ord(letter) - ord("a") + 1 for letter in plain if "a" <= letter <= "z"]
    return [letter for letter, before in zip(letters, [None, *letters], strict=False) if letter != before]


def placed(
    heard: Floats,
    words: Sequence[str],
    begins: Sequence[bool],
    bounds: Bounds,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Placed] | None:
    """Each word where its letters are, by the one way that suits them all best; None if there is no room for them.

    A word may begin a line, or the one before it may be as near as words in a line are.
    """
    spelt = [columns(word) or [ANY] for word in words]
    if not spelt:
        return []
    letters = np.array([letter for word in spelt for letter in word], np.intp)
    owners = np.repeat(np.arange(len(spelt)), [len(word) for word in spelt])
    # Both bounds rise from word to word, as the words do.
    begin, end = np.array(bounds).T / FRAME
    begin, end = np.maximum.accumulate(begin), np.minimum.accumulate(end[::-1])[::-1]
    firsts = np.clip(np.floor(begin), 0, len(heard) - 1).astype(np.intp)[owners]
    lasts = np.clip(np.ceil(end), 1, len(heard)).astype(np.intp)[owners]
    scores, blanks = _scores(heard, owners, np.array(begins))
    found = viterbi.align(scores, letters, firsts, lasts, meanwhile, blanks)
    if found is None:
        return None
    likely = np.array([np.exp(heard[a:b, x].max()) for a, b, x in zip(found.begins, found.ends, letters, strict=True)])
    first = np.searchsorted(owners, np.arange(len(spelt) + 1))
    return [
        Placed(float(found.begins[a]) * FRAME, float(found.ends[b - 1]) * FRAME, float(likely[a:b].mean()))
        for a, b in pairwise(first)
    ]


def _scores(heard: Floats, owners: Places, begins: NDArray[np.bool_]) -> tuple[Floats, Places]:
    """What each letter and each kind of silence scores in each frame, and the silence before each letter."""
    scores = (heard - PRIOR * network().prior).astype(np.float32)
    silence = scores[:, NONE]
    scores = np.column_stack((scores, silence - PAUSED, silence - TORN))
    in_line, in_word = scores.shape[1] - 2, scores.shape[1] - 1
    between = np.where(begins[owners[1:]], NONE, in_line)
    return scores, np.concatenate(([NONE], np.where(owners[1:] == owners[:-1], in_word, between), [NONE]))
