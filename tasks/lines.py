"""From words in time to lines as a lyricist would write them; the engine's own segments play no part.

Every possible way to cut the words is weighed, in log-odds. Each word asks to begin a line, or not to: after a pause
or a held word, a sentence, a rhyme, with a capital. Lines too long or too short cost, and so do lines that do not come
round as the song's lines do. The best cut wins.
"""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from tasks.metre import Metre, metre
from tasks.song import Line, Word
from tasks.verse import plain, rhyme

UNSPACED = frozenset({"ja", "zh", "yue", "th", "lo", "my", "km"})  # written without spaces between words

SHORTEST_WORD = 20  # ms
LONGEST_SONG = 24 * 3600 * 1000  # ms; the bound where the duration is not known

LINE_WORDS = 12
LINE_PIECES = 20  # the same for scripts without spaces, where engines time single characters
LINE_SECONDS = 6.0

# What asks for a break, in log-odds: about as in 79 songs by real people (JamendoLyrics) and in our own.
UNASKED = -2.0  # most words begin no line
SILENCE, PACE = 0.9, 0.8  # for each e-fold of a pause, of the step to the next word
HELD, BRIEF = 0.6, -0.8  # for each e-fold of the length of a line's last word, of its first
HELD_OR_HIDES, HIDES = 0.3, 0.6  # the same where pauses are hidden in words
SENTENCE, CLAUSE, CAPITAL, RHYME = 2.2, 0.3, 1.5, 0.5
ALONE, PAIR = 2.0, 0.7  # against lines of one word, of two
WORDY, SLOW, UNEQUAL = 5.0, 4.0, 2.0  # against lines longer in words, in seconds, than others
UNMETRICAL = 3.0  # against a line that the metre does not expect

JOINED = 0.05  # seconds; words that are nearer have no pause between them
DRAWN = 2.0  # times its usual length, from which a word may hide a pause
PAUSE = 1.0  # seconds of one that count
BREATHLESS = 0.5  # seconds hidden for each second heard
LOOSE = 1.1  # times its usual length that a line's first word may take
STANZA = 30  # words, within which lines rhyme
VERSE = 3  # words at least between two that rhyme

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
    cuts = [0, *_cuts(words, language), len(words)] if words else []
    lines = (tuple(words[begin:end]) for begin, end in pairwise(cuts))
    return tuple(Line(line, "" if unspaced and not _needs_spaces(line) else " ") for line in lines)


def begun(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines without the silence in which engines let a first word begin: they know when it ends."""
    words = [word for line in lines for word in line.words]
    starts = _starts(words, _usual(words)) if words else []
    firsts = accumulate((len(line.words) for line in lines), initial=0)
    return tuple(
        replace(line, words=(replace(line.words[0], start=round(starts[first], 3)), *line.words[1:]))
        for line, first in zip(lines, firsts, strict=False)
    )


def _cuts(words: Sequence[Word], language: str | None) -> list[int]:
    """Where lines begin, the first one aside."""
    longest = LINE_PIECES if language in UNSPACED else LINE_WORDS
    usual = _usual(words)
    starts = _starts(words, usual)
    asked = _alike(words, _asked(words, usual, language))
    song = metre([(start, 1 / (1 + math.exp(-ask))) for start, ask in zip(starts, asked, strict=True)])
    return _cheapest(words, starts, asked, longest, song)


def _cheapest(
    words: Sequence[Word], starts: Sequence[float], asked: Sequence[float], longest: int, song: Metre
) -> list[int]:
    """The cheapest way through, by dynamic programming."""
    cheapest, came_from = [0.0], [0]
    for end in range(1, len(words) + 1):
        best, chosen = math.inf, end - 1
        for begin in range(max(0, end - 3 * longest // 2), end):
            cost = cheapest[begin] - asked[begin]
            cost += _line_cost(end - begin, words[end - 1].end - starts[begin], longest)
            if song.trust and end < len(words):
                cost += UNMETRICAL * song.off(starts[end] - starts[begin])
            if cost < best:
                best, chosen = cost, begin
        cheapest.append(best)
        came_from.append(chosen)
    cuts: list[int] = []
    at = came_from[-1]
    while at:
        cuts.append(at)
        at = came_from[at]
    return cuts[::-1]


def _line_cost(count: int, seconds: float, longest: int) -> float:
    length = count / longest
    few = {1: ALONE, 2: PAIR}.get(count, 0.0)
    # The square keeps lines alike in length where nothing else speaks.
    return few + WORDY * max(0.0, length - 1) + SLOW * max(0.0, seconds / LINE_SECONDS - 1) + UNEQUAL * length**2


# --- when words begin ---------------------------------------------------------------------------


def _usual(words: Sequence[Word]) -> list[float]:
    """For each word the seconds that one so long usually takes in this song."""
    sizes = [len(plain(word.text)) + 2 for word in words]
    rate = statistics.median((word.end - word.start) / size for word, size in zip(words, sizes, strict=True))
    return [max(rate * size, 0.05) for size in sizes]


def _starts(words: Sequence[Word], usual: Sequence[float]) -> list[float]:
    """For each word when it begins, were it a line's first: a pause before it is often told as a part of it."""
    breathless = _breathless(words, usual)
    joined = [False, *(b.start - a.end < JOINED for a, b in pairwise(words))]
    return [
        max(word.start, word.end - LOOSE * length) if after or breathless else word.start
        for word, length, after in zip(words, usual, joined, strict=True)
    ]


def _breathless(words: Sequence[Word], usual: Sequence[float]) -> bool:
    """Whether the engine heard few pauses, as in music, and made words longer instead."""
    pauses = [b.start - a.end for a, b in pairwise(words)]
    hidden = sum(
        max(word.end - word.start - DRAWN * length, 0.0)
        for word, length, before, after in zip(words[1:-1], usual[1:-1], pauses, pauses[1:], strict=False)
        if before < JOINED and after < JOINED  # else it is a note that is held before a breath
    )
    return hidden > BREATHLESS * sum(min(pause, PAUSE) for pause in pauses if pause > JOINED)


# --- what asks for a break ----------------------------------------------------------------------


def _asked(words: Sequence[Word], usual: Sequence[float], language: str | None) -> list[float]:
    """How much each word asks to begin a line: about the log-odds that it does. The first one does."""
    capitals = [_is_capital(word.text) for word in words]
    # Where many words are capitalised (German nouns, shouting), a capital says nothing.
    capital = CAPITAL if sum(capitals) < 0.3 * len(words) else 0.0
    last, first = (HELD_OR_HIDES, HIDES) if _breathless(words, usual) else (HELD, BRIEF)
    step = max(statistics.median(b.start - a.start for a, b in pairwise(words)), 0.1) if len(words) > 1 else 1.0
    drawn = [_folds((word.end - word.start) / length) for word, length in zip(words, usual, strict=True)]
    rhyming = _rhyming(words, language)
    asked = [0.0]
    for i, (a, b) in enumerate(pairwise(words), start=1):
        silence = SILENCE * math.log1p(4 * max(b.start - a.end, 0.0) / step)
        pace = PACE * _folds((b.start - a.start) / step)
        signs = _punctuation(a.text) + capital * capitals[i] + RHYME * rhyming[i - 1]
        asked.append(UNASKED + silence + pace + last * drawn[i - 1] + first * drawn[i] + signs)
    return asked


def _folds(ratio: float) -> float:
    return math.log(max(ratio, 0.1))


def _alike(words: Sequence[Word], asked: Sequence[float]) -> list[float]:
    """What is asked, shared among places with the same words around them: a chorus breaks alike each time."""
    texts = [plain(word.text) for word in words]
    places: dict[tuple[int, str], list[int]] = {}
    for i in range(1, len(words)):
        for before in (2, 1):  # words before the place; three in all
            if before <= i <= len(words) - 3 + before:
                places.setdefault((before, " ".join(texts[i - before : i - before + 3])), []).append(i)
    same: dict[int, set[int]] = {}
    for found in places.values():
        if all(b - a > 3 for a, b in pairwise(found)):  # "la la la la" is no place
            for i in found:
                same.setdefault(i, set()).update(found)
    return [statistics.fmean(asked[j] for j in same.get(i, (i,))) for i in range(len(words))]


def _rhyming(words: Sequence[Word], language: str | None) -> list[bool]:
    """Whether each word rhymes with another one near by."""
    rhyming = [False] * len(words)
    before: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        end = rhyme(word.text, language)
        if len(end) < 2:  # a single vowel rhymes everywhere
            continue
        near = [j for j in before.get(end, ()) if i - j <= STANZA]
        for j in near:
            if i - j >= VERSE and plain(words[j].text) != plain(word.text):
                rhyming[i] = rhyming[j] = True
        before[end] = [*near, i]
    return rhyming


def _punctuation(text: str) -> float:
    last = text.rstrip(CLOSERS)[-1:]
    return SENTENCE if last and last in SENTENCE_ENDS else CLAUSE if last and last in CLAUSE_ENDS else 0.0


def _is_capital(text: str) -> bool:
    """A capital that may mark a begin: not the English "I", "I'm"."""
    letters = text.lstrip("\"'“‘«([¿¡")
    return letters[:1].isupper() and not (letters[0] == "I" and not letters[1:2].isalpha())


def _needs_spaces(line: Sequence[Word]) -> bool:
    """A Japanese song's English words run together unreadably; its Japanese with spaces still reads."""
    return any(_is_spaced_script(a.text[-1:]) and _is_spaced_script(b.text[:1]) for a, b in pairwise(line))


def _is_spaced_script(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "CYRILLIC", "GREEK")) if letter else False
