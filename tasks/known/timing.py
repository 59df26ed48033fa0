"""Times for words that are known: the one way through the song that suits the letters best.

Where a word was heard, its letters may lie near that place only; the others lie between those. So a chorus finds its
own place, and a word that nobody could understand is where the letters say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from tasks import letters
from tasks.align.words import spread
from tasks.known.matching import Match
from tasks.known.sounds import spoken
from tasks.letters import FRAME, Floats, Placed
from tasks.voice import Span

CLEAR = 0.7  # share of a word's letters that must have been heard
NEAR = 2  # words on both sides …
AGREEING = 0.7  # … of which so many must be clear, too: a word alone may be another one
REACH = 2.0  # seconds that a word may lie beside the place where it was heard
UNHEARD = 0.1  # likelihood of a word whose place is a guess


def anchored(matches: Sequence[Match | None]) -> list[Match | None]:
    """The matches that can be relied on: clear ones among others that are clear."""
    clear = np.array([match is not None and match.share >= CLEAR for match in matches], float)
    around = np.convolve(np.pad(clear, NEAR, mode="edge"), np.ones(2 * NEAR + 1), "valid") / (2 * NEAR + 1)
    return [
        match if near >= AGREEING and own else None for match, near, own in zip(matches, around, clear, strict=True)
    ]


def placed(
    heard: Floats,
    words: Sequence[str],
    begins: Sequence[bool],
    anchors: Sequence[Match | None],
    language: str | None,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Placed] | None:
    """Each word where it is sung; None where the song is too short for them. Some words begin a line."""
    texts = [spoken(word, language) for word in words]
    duration = len(heard) * FRAME
    for bounds in (_bounds(anchors, duration), [(0.0, duration)] * len(texts)):
        if (found := letters.placed(heard, texts, begins, bounds, meanwhile)) is not None:
            return found
    return None


def between(
    words: Sequence[str], anchors: Sequence[Match | None], spans: Sequence[Span], duration: float
) -> list[Placed]:
    """The words that were heard where they were heard; the others share the singing between those."""
    found: list[Placed] = []
    for is_heard, run in groupby(enumerate(anchors), key=lambda each: each[1] is not None):
        some = list(run)
        if is_heard:
            found += [Placed(match.start, match.end, match.confidence) for _, match in some if match]
            continue
        after = anchors[some[-1][0] + 1] if some[-1][0] + 1 < len(anchors) else None
        start, end = found[-1].end if found else spans[0].start, after.start if after else duration
        texts = [words[nth] for nth, _ in some]
        found += [Placed(a, b, UNHEARD) for a, b in spread(texts, start, max(start, end), spans)]
    return found


def _bounds(anchors: Sequence[Match | None], duration: float) -> list[tuple[float, float]]:
    """The seconds between which each word must lie: near its anchor, if it has one."""
    return [(match.start - REACH, match.end + REACH) if match else (0.0, duration) for match in anchors]
