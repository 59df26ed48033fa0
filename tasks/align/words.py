"""Texts as words, words as letters, and times for words of which only the text's are known."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence
from itertools import pairwise

import numpy as np

from tasks.lines import UNSPACED
from tasks.voice import Span

# Of scripts without spaces each character is a word, with the signs before and behind it; Latin words stay whole.
CHARACTER = re.compile(r"[^\w\s]*(?:[a-zA-Z0-9'’]+|\w)[^\w\s]*")

SHORTEST = 0.02  # seconds of a word, where the song has room

Times = list[tuple[float, float]]  # start and end of each word


def split(text: str, language: str | None) -> tuple[str, ...]:
    return tuple(piece[0] for piece in CHARACTER.finditer(text)) if language in UNSPACED else tuple(text.split())


def letters(word: str, known: Container[str]) -> list[str | None]:
    """What the model listens for in a word: letters that it knows, and None for digits and whatever else is sung."""
    found: list[str | None] = []
    for letter in unicodedata.normalize("NFC", word.lower()).replace("’", "'").strip("'"):
        plain = letter if letter in known else unicodedata.normalize("NFKD", letter)[0]  # é is nearly e
        kind = unicodedata.category(letter)[0]  # of letters, marks (the vowels of Hindi), numbers
        if plain in known and (kind in "LMN" or plain == "'"):
            found.append(plain)
        elif kind in "LN":
            found.append(None)
    return found


def spread(words: Sequence[str], start: float, end: float, phrases: Sequence[Span] = ()) -> Times:
    """The words one after another from start to end, by their length; where phrases are known, only within those."""
    touched = [Span(max(p.start, start), min(p.end, end)) for p in phrases if p.start < end and start < p.end]
    touched = touched or [Span(start, end)]
    sung = np.cumsum([0.0, *(span.length for span in touched)])
    marks = np.cumsum([0.0, *(max(len(word), 1) for word in words)])
    marks *= sung[-1] / max(marks[-1], 1.0)
    times: Times = []
    for begin, stop in pairwise(map(float, marks)):
        # A word stays in the phrase that holds its middle.
        place = min(int(np.searchsorted(sung, (begin + stop) / 2, "right")), len(touched)) - 1
        span, at = touched[place], float(sung[place])
        times.append((span.start + max(begin - at, 0.0), min(span.start + stop - at, span.end)))
    return times


def settled(times: Times, duration: float) -> Times:
    """The times in order and inside the song, each word at least SHORTEST long: moved as little as that takes."""
    shortest = min(SHORTEST, duration / max(len(times), 1))
    taken = shortest * np.arange(len(times))
    room = duration - shortest * len(times)
    starts = np.clip(np.maximum.accumulate(np.array([start for start, _ in times]) - taken), 0.0, max(room, 0.0))
    starts += taken
    ends = np.maximum([end for _, end in times], starts + shortest)
    ends = np.minimum(ends, np.append(starts[1:], duration))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
