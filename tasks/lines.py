"""From words in time to lines as a lyricist would write them; the engine's own segments play no part.

Every possible way to cut the words is weighed: a break costs one, and is paid back by what speaks for it
(a pause, a held word, punctuation, a capital). Lines too long or too short cost extra. The cheapest cut wins.
"""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from tasks.song import Line, Word

UNSPACED = frozenset({"ja", "zh", "yue", "th", "lo", "my", "km"})  # written without spaces between words

SHORTEST_WORD = 20  # ms
LONGEST_SONG = 24 * 3600 * 1000  # ms; the bound where the duration is not known

LINE_WORDS = 10
LINE_PIECES = 20  # the same for scripts without spaces, where engines time single characters
LINE_SECONDS = 6.0

SENTENCE_ENDS = ".!?…。！？؟।"
CLAUSE_ENDS = ",;:—、，；：،"
CLOSERS = "\"'”’»)]」』）"


def in_order(words: Sequence[Word], duration: float) -> tuple[Word, ...]:
    """The words sorted, inside [0, duration], none empty, none overlapping, each 0.02 s or longer, all numbers finite.

    Times are whole milliseconds, so that no sum of fractions can undo a guarantee. A time that is no number
    becomes the end of the word before; words that no mouth could fit into the song are dropped.
    """
    known = math.isfinite(duration) and 0 < duration * 1000 < LONGEST_SONG
    limit = int(duration * 1000) if known else LONGEST_SONG
    timed = sorted(_timed(words, limit), key=lambda item: item[1])[: limit // SHORTEST_WORD]
    starts = _spaced([start for _, start, _ in timed], limit)
    return tuple(
        Word(word.text, start / 1000, min(max(end, start + SHORTEST_WORD), after) / 1000, word.confidence)
        for (word, _, end), (start, after) in zip(timed, pairwise([*starts, limit]), strict=True)
    )


def _timed(words: Sequence[Word], limit: int) -> list[tuple[Word, int, int]]:
    """The words that hold text, each with its start and end in milliseconds inside the song."""
    timed: list[tuple[Word, int, int]] = []
    before = 0
    for word in words:
        text = " ".join(word.text.split())
        if not text:
            continue
        start = _milliseconds(word.start, before, limit)
        end = _milliseconds(word.end, start, limit)
        confidence = 0.0 if math.isnan(word.confidence) else min(max(word.confidence, 0.0), 1.0)
        timed.append((Word(text, 0.0, 0.0, confidence), start, end))
        before = max(start, end)
    return timed


def _milliseconds(seconds: float, otherwise: int, limit: int) -> int:
    return round(min(max(seconds * 1000, 0), limit)) if math.isfinite(seconds) else otherwise


def _spaced(starts: list[int], limit: int) -> list[int]:
    """Sorted starts, moved as little as leaves each word its shortest time: first rightwards, then off the end."""
    spaced = list(starts)
    for i in range(1, len(spaced)):
        spaced[i] = max(spaced[i], spaced[i - 1] + SHORTEST_WORD)
    latest = limit
    for i in reversed(range(len(spaced))):
        latest = spaced[i] = min(spaced[i], latest - SHORTEST_WORD)
    return spaced


def break_lines(words: Sequence[Word], language: str | None) -> tuple[Line, ...]:
    unspaced = language in UNSPACED
    cuts = [0, *_cuts(words, LINE_PIECES if unspaced else LINE_WORDS), len(words)] if words else []
    lines = (tuple(words[begin:end]) for begin, end in pairwise(cuts))
    return tuple(Line(line, "" if unspaced and not _needs_spaces(line) else " ") for line in lines)


def _cuts(words: Sequence[Word], longest: int) -> list[int]:
    """Where lines begin, the first aside: the cheapest way through, by dynamic programming."""
    reasons = _reasons(words)
    cheapest, came_from = [0.0], [0]
    for end in range(1, len(words) + 1):
        costs = {
            begin: cheapest[begin] + _line_cost(words[begin:end], longest) + (1 - reasons[begin] if begin else 0)
            for begin in range(max(0, end - 2 * longest), end)
        }
        begin = min(costs, key=costs.__getitem__)
        cheapest.append(costs[begin])
        came_from.append(begin)
    cuts: list[int] = []
    at = came_from[-1]
    while at:
        cuts.append(at)
        at = came_from[at]
    return cuts[::-1]


def _line_cost(line: Sequence[Word], longest: int) -> float:
    length = len(line) / longest
    seconds = (line[-1].end - line[0].start) / LINE_SECONDS
    lonely = {1: 1.0, 2: 0.3}.get(len(line), 0.0)
    # The square keeps lines alike in length where nothing else speaks.
    return lonely + 10 * max(0.0, length - 1) + 4 * max(0.0, seconds - 1) + 0.1 * length**2


def _reasons(words: Sequence[Word]) -> list[float]:
    """What speaks for a line's begin at each word; 1 is enough for a break."""
    pairs = list(pairwise(words))
    usual = max(statistics.median(b.start - a.start for a, b in pairs), 0.1) if pairs else 1.0
    capitals = [_is_capital(word.text) for word in words]
    # Where many words are capitalised (German nouns, shouting), a capital says nothing.
    capital_weight = 0.7 if sum(capitals) < 0.3 * len(words) else 0.0
    return [0.0] + [
        _pause(a, b, usual) + _punctuation(a.text) + capital_weight * capital
        for (a, b), capital in zip(pairs, capitals[1:], strict=True)
    ]


def _pause(a: Word, b: Word, usual: float) -> float:
    """Silence, and a held last note, both measured by the song's usual step from word to word."""
    silence = max(b.start - a.end, 0.0) / usual
    held = max((a.end - a.start) / usual - 1.5, 0.0)
    return silence + min(held, 2.0) / 2


def _punctuation(text: str) -> float:
    last = text.rstrip(CLOSERS)[-1:]
    return 0.9 if last and last in SENTENCE_ENDS else 0.4 if last and last in CLAUSE_ENDS else 0.0


def _is_capital(text: str) -> bool:
    """A capital that may mark a begin: not the English "I", "I'm"."""
    letters = text.lstrip("\"'“‘«([¿¡")
    return letters[:1].isupper() and not (letters[0] == "I" and not letters[1:2].isalpha())


def _needs_spaces(line: Sequence[Word]) -> bool:
    """A Japanese song's English words run together unreadably; its Japanese with spaces still reads."""
    return any(_is_spaced_script(a.text[-1:]) and _is_spaced_script(b.text[:1]) for a, b in pairwise(line))


def _is_spaced_script(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "CYRILLIC", "GREEK")) if letter else False
