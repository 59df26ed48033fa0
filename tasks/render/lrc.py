"""LRC and Enhanced LRC: lyrics for music players, by the line and by the word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tasks.render.clock import TIME, Clock, seconds
from tasks.render.pieces import Timed, line_of, next_start, of_lines, pieces, spread
from tasks.render.text import Guard, language_of
from tasks.render.way import EVERYTHING, Part, Way
from tasks.song import Line, Song

CLOCK = Clock(100, "{minutes:02}:{s:02}.{fraction:02}")
CLEAR_AFTER = 2.0  # seconds of silence after which the last line is taken off the screen

TAG = Guard(r"[<\[]", r"\d")  # <00:01.00>, [00:01.00]
WORD_TIME = re.compile(rf"[<\[]({TIME})[>\]]")  # some programs time words in brackets, too
ROW = re.compile(rf"[ \t]*((?:\[{TIME}\][ \t]*)+)(.*)")
HEADER = re.compile(r"^[ \t]*\[(ti|ar|la|length|offset):(.*)\][ \t]*$", re.MULTILINE | re.IGNORECASE)


def write(song: Song) -> str:
    return _written(song, lambda line: TAG.shut(line.text))


def write_words(song: Song) -> str:
    return _written(song, _words)


def _written(song: Song, body: Callable[[Line], str]) -> str:
    rows = [f"[{tag}:{value}]" for tag, value in _header(song).items() if value]
    for line, following in zip(song.lines, [*song.lines[1:], None], strict=False):
        start, end = CLOCK.ticks(line.start), CLOCK.ticks(line.end)
        rows.append(f"[{CLOCK.show(start)}]{body(line)}")
        if following is None or CLOCK.ticks(following.start) - end >= CLEAR_AFTER * CLOCK.per_second:
            rows.append(f"[{CLOCK.show(max(end, start + 1))}]")
    return "\n".join(rows) + "\n"


def _header(song: Song) -> dict[str, str | None]:
    length = CLOCK.show(CLOCK.ticks(song.duration))
    return {"ti": song.title, "ar": song.artist, "la": song.language, "length": length, "re": "yt-lyrics"}


def _words(line: Line) -> str:
    return "".join(f"<{CLOCK.show(at)}>{text}" for at, text in pieces(line, CLOCK, TAG.shut))


def read(text: str) -> Song:
    header = {tag.lower(): value.strip() for tag, value in HEADER.findall(text)}
    length = seconds(header["length"]) if re.fullmatch(TIME, header.get("length", "")) else 0.0
    sooner = int(header["offset"]) / 1000 if re.fullmatch(r"[+-]?\d{1,9}", header.get("offset", "")) else 0.0
    rows = sorted(_rows(text), key=lambda row: row.start)
    starts = [row.start for row in rows]
    lines = [_moved(row.line(next_start(row.start, starts, length)), -sooner) for row in rows]
    song = of_lines([line for line in lines if line.words], words_timed=any(row.words for row in rows))
    return replace(
        song,
        title=header.get("ti") or None,
        artist=header.get("ar") or None,
        language=language_of(header.get("la")),
        duration=length or song.duration,
    )


@dataclass(frozen=True, slots=True)
class _Row:
    start: float
    text: str
    words: Sequence[Timed]  # none where it times none

    def line(self, end: float) -> Line:
        if not self.words:
            return spread(TAG.opened(self.text), self.start, end)
        return line_of(self.words, max(end, self.words[-1][0]), TAG.opened)


def _rows(text: str) -> Iterator[_Row]:
    """What stands at each time. A row may stand at several: its words are timed for one of them."""
    for row in text.split("\n"):
        if match := ROW.match(row):
            stamps, body = match.groups()
            times = [_seconds(time) for time in re.findall(TIME, stamps)]
            before, *rest = WORD_TIME.split(body)
            words = [(_seconds(at), text) for at, text in zip(rest[::2], rest[1::2], strict=True)]
            own = min(times, key=lambda time: abs(time - words[0][0])) if words else 0.0
            for time in times:
                here = [(round(at + (time - own), 3), text) for at, text in words]
                yield _Row(time, body, [(time, before), *here] if words and before.strip() else here)


def _seconds(time: str) -> float:
    """Minutes run on beyond an hour here: what follows a second colon is a fraction."""
    return seconds(re.sub(r"^(\d+:\d+):(\d+)$", r"\1.\2", time))


def _moved(line: Line, by: float) -> Line:
    """Later, or sooner, never before the song begins."""
    if not by:
        return line
    moved = (replace(word, start=max(word.start + by, 0.0), end=max(word.end + by, 0.0)) for word in line.words)
    return replace(line, words=tuple(moved))


LRC = Way("text/plain; charset=utf-8", write, read, EVERYTHING - {Part.WORDS, Part.ENDS})
ELRC = Way("text/plain; charset=utf-8", write_words, read, EVERYTHING)
