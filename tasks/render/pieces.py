"""Words in a line: what VTT, Enhanced LRC, ASS and TTML share. And lines without them, for those that time no words."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from tasks.render.clock import Clock
from tasks.render.text import is_ideographic
from tasks.render.way import WORDS_SPREAD
from tasks.song import Line, Song, Word

LAST_LINE = 4.0  # seconds that a line lasts whose end nothing tells

Piece = tuple[int, str]  # from this tick on, this text
Timed = tuple[float, str]  # the same in seconds, as read
Cue = tuple[float, float, str]  # from, until, a line's text as the format writes it


def pieces(line: Line, clock: Clock, escape: Callable[[str], str]) -> list[Piece]:
    """The words, with an empty piece for each silence between them and one at the line's end."""
    found: list[Piece] = []
    for word, following in zip(line.words, [*line.words[1:], None], strict=True):
        start, end = clock.ticks(word.start), clock.ticks(word.end)
        found.append((start, escape(word.text) + (line.joiner if following else "")))
        if following is None or end < clock.ticks(following.start):
            found.append((max(start, end), ""))
    return found


def line_of(found: Sequence[Timed], end: float, unescape: Callable[[str], str] = str) -> Line:
    """The line that these texts make, each sung from its own time to the next one's.

    In a line with spaces, pieces without one between them are syllables of one word.
    """
    ends = [start for start, _ in found[1:]] + [end]
    words: list[Word] = []
    begins: list[bool] = []  # whether a space stands before the word
    space = False
    for (start, raw), stop in zip(found, ends, strict=True):
        space |= raw[:1].isspace()
        if text := " ".join(unescape(raw).split()):
            words.append(Word(text, start, max(start, stop)))
            begins.append(space)
            space = False
        space |= raw[-1:].isspace()
    if len(words) > 1 and not any(begins[1:]):
        return Line(tuple(words), "")
    return Line(_whole(words, begins))


def _whole(syllables: Sequence[Word], begins: Sequence[bool]) -> tuple[Word, ...]:
    words = list(syllables[:1])
    for syllable, begin in zip(syllables[1:], begins[1:], strict=True):
        if begin:
            words.append(syllable)
        else:
            words[-1] = replace(words[-1], text=words[-1].text + syllable.text, end=syllable.end)
    return tuple(words)


def spread(text: str, start: float, end: float) -> Line:
    """The line's words, sharing its time by their length."""
    texts = text.split()
    by_character = len(texts) == 1 and is_ideographic(texts[0])
    if by_character:
        texts = re.findall(r"^\W*\w\W*|\w\W*", texts[0])  # each with the punctuation behind it
    before = list(accumulate(map(len, texts), initial=0))
    at = [start + (end - start) * letters / before[-1] for letters in before[:-1]] + [end]
    words = (Word(text, round(a, 3), round(b, 3)) for text, (a, b) in zip(texts, pairwise(at), strict=True))
    return Line(tuple(words), "" if by_character else " ")


def next_start(start: float, starts: Sequence[float], length: float = 0.0) -> float:
    """Where a line ends that has no end of its own: where the next begins that begins later. The last one guesses."""
    following = bisect_right(starts, start)
    if following < len(starts):
        return starts[following]
    return min(start + LAST_LINE, length) if length > start else start + LAST_LINE


def _no_pieces(_text: str, _start: float) -> list[Timed]:
    return []


def song_of(
    cues: Iterable[Cue],
    unescape: Callable[[str], str],
    cut: Callable[[str, float], list[Timed]] = _no_pieces,
) -> Song:
    """The song of these lines; where a format times words, `cut` finds them."""
    lines: list[Line] = []
    words_timed = False
    for start, end, text in cues:
        found = cut(text, start)
        words_timed |= bool(found)
        line = line_of(found, end, unescape) if found else spread(unescape(text), start, end)
        lines += [line] if line.words else []
    return of_lines(lines, words_timed=words_timed)


def of_lines(lines: Sequence[Line], *, words_timed: bool) -> Song:
    notes = () if words_timed or not lines else (WORDS_SPREAD,)
    return Song(tuple(lines), duration=lines[-1].end if lines else 0.0, notes=notes)
