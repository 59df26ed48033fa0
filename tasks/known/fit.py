"""Whether lyrics are this song's, and where the two differ: what a user should know of it, by the lines' numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, groupby, pairwise

from infra.errors import OtherLyrics
from tasks.known.matching import Match
from tasks.known.text import Given
from tasks.song import Word

HEARD = 0.5  # share of a word's letters by which it counts as heard
CLEAR = 0.5  # likelihood of its letters by which it is clear where it is sung
# Of right lyrics one of these shares is reached, of another song's none (docs/quality.md has the figures): words that
# were heard among others that were, and words whose letters are clear. The first is sure, the second never fails.
FITS_HEARD = 0.07
FITS_CLEAR = 0.3
MORE = 5  # words in a row that are heard and not given, before they are worth a note
SHOWN = 40  # characters of what is sung there


def share(found: Sequence[bool], weights: Sequence[int]) -> float:
    """How much of the lyrics was heard, word by word: long ones count for more, for short ones are everywhere."""
    return sum(compress(weights, found)) / max(sum(weights), 1)


def is_heard(match: Match | None) -> bool:
    return match is not None and match.share >= HEARD


def check(heard: Sequence[bool], clear: Sequence[bool], weights: Sequence[int]) -> None:
    """Whether lyrics of which these words were heard, and these are clear, are the song's."""
    if share(heard, weights) < FITS_HEARD and share(clear, weights) < FITS_CLEAR:
        either = [a or b for a, b in zip(heard, clear, strict=True)]
        raise OtherLyrics(heard=f"{share(either, weights):.0%} of their words were heard")


def unheard(lines: Sequence[Given]) -> tuple[str, ...]:
    """The note on lines that are left out, because nobody sings them."""
    if not lines:
        return ()
    numbers = sorted({line.number for line in lines})
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda each: each[1] - each[0])]
    named = ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    one = len(numbers) == 1
    return (f"{'Line' if one else 'Lines'} {named} of the lyrics {'was' if one else 'were'} not heard and left out.",)


def additions(heard: Sequence[Word], lines: Sequence[tuple[Given, float, float]]) -> tuple[str, ...]:
    """Notes on what is sung between the lines: heard words far from any of them, many in a row."""
    notes: list[str] = []
    edges = [(None, 0.0, 0.0), *lines, (None, float("inf"), float("inf"))]
    for (before, _, begin), (after, end, _) in pairwise(edges):
        words = [word for word in heard if begin < word.start and word.end < end]
        if len(words) >= MORE:
            said = " ".join(word.text for word in words)
            notes.append(f"{_where(before, after)} more is sung: “{said[:SHOWN]}{'…' if len(said) > SHOWN else ''}”")
    return tuple(notes)


def _where(before: Given | None, after: Given | None) -> str:
    if before is None:
        return f"Before line {after.number}" if after else "In the song"
    return f"Between lines {before.number} and {after.number}" if after else f"After line {before.number}"
