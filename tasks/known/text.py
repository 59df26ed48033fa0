"""Lyrics as people write them down, and the lines of them that are sung.

Section headers ("[Verse 2: Ann]") are not sung. "(chorus)" where nothing stands under it is that section again; "x2"
repeats a line, or alone on its line the stanza above it. A file with times (LRC, SRT, VTT) counts for its words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from infra.errors import BadRequest
from tasks.lines import UNSPACED

MOST_LINES = 1000  # sung; a page of "x9" is a joke, or worse
MOST_TIMES = 9

SECTIONS = (
    r"(?:pre|post)?[- ]?chorus|refrain|verse|bridge|hook|intro|outro|interlude|instrumental|solo|coda|break(?:down)?"
    r"|drop|pre-?estribillo|estribillo|coro|estrofa|verso|puente|strophe|kehrreim|br[üu]cke|couplet|pr[ée]-?refrain|pont"
    r"|ritornello|strofa|ponte|refr[ãa]o|pr[ée]-?refr[ãa]o|サビ|[ABC]メロ|副歌|主歌"
)
NAMED = re.compile(rf"(?:repeat\s+)?(?:{SECTIONS})\s*\d*(?:\s+repeat(?:s|ed)?)?", re.IGNORECASE)
TIMES = r"(?:[x×✕*]\s*(?P<after>\d{1,2})|(?P<before>\d{1,2})\s*[x×✕*]|(?P<twice>bis))"  # "bis" is Romance for "x2"
REPEATED = re.compile(rf"(?:^|(?<=[\s)\]]))[(\[]?\s*{TIMES}\s*[)\]]?\s*$", re.IGNORECASE)
WHOLE = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
BRACKETED = re.compile(r"[\[【](?P<inside>[^\]】]*)[\]】]")

CLOCK = r"\d+:\d+(?:[.:,]\d+)?(?:[.,]\d+)?"
LRC_ROW = re.compile(rf"\s*((?:\[{CLOCK}\]\s*)+)(.*)")
LRC_ABOUT = re.compile(r"\s*\[[a-z#]+:.*\]\s*", re.IGNORECASE)
CUE_TIMES = re.compile(rf"\s*{CLOCK}\s*-->\s*{CLOCK}.*")
TAG = re.compile(rf"<{CLOCK}>|</?[a-z][^>]*>|\{{\\[^}}]*\}}", re.IGNORECASE)

# In scripts without spaces each character is a unit, with the signs around it; Latin words, and what stands around a
# space, stay together, so that the line can be put together again as it was written.
UNIT = r"[^\w\s]*(?:[a-zA-Z0-9À-ɏ'’]+|\w)[^\w\s（「『(\[]*"
UNSPACED_UNIT = re.compile(rf"{UNIT}(?:\s+{UNIT})*")


@dataclass(frozen=True, slots=True)
class Part:
    """A word of a line as it is shown; in scripts without spaces a character."""

    text: str
    backing: bool = False  # in round brackets: sung behind the line, and not to be heard in every recording


@dataclass(frozen=True, slots=True)
class Given:
    """A line to be sung."""

    number: int  # in the text, counted as editors do: what a note can name
    text: str

    def parts(self, language: str | None) -> tuple[Part, ...]:
        """The words that show the line as it was given, when its joiner joins them."""
        texts = [unit[0] for unit in UNSPACED_UNIT.finditer(self.text)] if language in UNSPACED else self.text.split()
        parts: list[Part] = []
        depth = 0
        for text in texts:
            opened = depth + text.count("(") + text.count("（")
            parts.append(Part(text, backing=opened > 0))
            depth = max(opened - text.count(")") - text.count("）"), 0)
        return tuple(parts) if depth == 0 else tuple(Part(part.text) for part in parts)  # never closed: no brackets


NOTHING = Given(0, "")


def sung_lines(text: str) -> tuple[Given, ...]:
    """The lines in the order in which they are sung."""
    sheet = _Sheet()
    rows = [row for row in _headers_apart(_untimed(text)) if not row.text or _says(row.text)]
    for row, following in pairwise([*rows, NOTHING]):
        sheet.take(row, alone=not following.text or _header(following.text) is not None)
    if not sheet.sung:
        raise BadRequest(what="The lyrics hold no line that could be sung.")
    return tuple(sheet.sung)


# --- rows as they are written ---------------------------------------------------------------------


def _untimed(text: str) -> list[Given]:
    """The rows, as they stand; of a file with times those that hold words, in the order of their times."""
    rows = [Given(number, _one_line(row)) for number, row in enumerate(text.splitlines(), 1)]
    if any(CUE_TIMES.fullmatch(row.text) for row in rows):
        return list(_of_cues(rows))
    if any(LRC_ROW.fullmatch(row.text) for row in rows):
        timed = [(time, row) for row in rows for time, row in _at_its_times(row)]
        return [row for _, row in sorted(timed, key=lambda each: each[0])]
    return rows


def _of_cues(rows: Sequence[Given]) -> Iterator[Given]:
    """The words of SRT or VTT: what stands before the first time is a header, a number before a time is a name."""
    begun = False
    for row, following in pairwise([*rows, NOTHING]):
        if CUE_TIMES.fullmatch(row.text):
            begun = True
        elif begun and not CUE_TIMES.fullmatch(following.text):
            yield Given(row.number, " ".join(TAG.sub("", row.text).split()))


def _at_its_times(row: Given) -> Iterator[tuple[float, Given]]:
    """The row of an LRC file at each of its times; a row without any says something about the file."""
    if match := LRC_ROW.fullmatch(row.text):
        said = " ".join(TAG.sub("", match[2]).split())
        yield from ((_seconds(clock), Given(row.number, said)) for clock in re.findall(CLOCK, match[1]))


def _seconds(clock: str) -> float:
    seconds = 0.0
    for part in clock.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _one_line(text: str) -> str:
    """Without what has no shape: control characters, byte order marks, runs of spaces."""
    shaped = "".join(c for c in text if c.isspace() or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"))
    return " ".join(shaped.split())


def _headers_apart(rows: Sequence[Given]) -> Iterator[Given]:
    """A header that a line follows on the same row becomes a row; brackets within a line are stage directions."""
    for row in rows:
        match = BRACKETED.match(row.text)
        rest = row.text[match.end() :].strip() if match else ""
        if not match or not rest or REPEATED.fullmatch(match[0]) or REPEATED.fullmatch(rest):
            yield row
        else:
            yield Given(row.number, match[0])
            yield Given(row.number, rest)


# --- what they mean -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    times: int


@dataclass(slots=True)
class _Sheet:
    """What is sung so far, and what can be sung again."""

    sung: list[Given] = field(default_factory=list[Given])
    sections: dict[str, list[Given]] = field(default_factory=dict[str, list[Given]])
    stanza: list[Given] = field(default_factory=list[Given])
    name: str | None = None  # of the section whose lines are being read
    times: int = 1  # that it is sung
    ended: bool = False  # whether a blank row has ended the stanza

    def take(self, row: Given, *, alone: bool) -> None:
        """The next row, and whether no line stands under it."""
        header = _header(row.text)
        if header is not None:
            self._begin(header, alone=alone)
        elif not row.text:
            self._end()
        elif match := REPEATED.fullmatch(row.text):
            self._sing(self.stanza, _count(match) - 1)
        else:
            self._line(row)
            if alone:
                self._end()

    def _begin(self, header: _Header, *, alone: bool) -> None:
        self._end()
        known = self.sections.get(header.name) or self.sections.get(header.name.rstrip(" 0123456789"))
        if alone and known:
            self._sing(known, header.times)
            self.name, self.times = None, 1
        else:
            self.name, self.times = header.name, header.times

    def _line(self, row: Given) -> None:
        if self.ended:
            self.stanza, self.ended = [], False
        match = REPEATED.search(row.text)
        text = " ".join(BRACKETED.sub(" ", row.text[: match.start()] if match else row.text).split())
        if _says(text):
            lines = [Given(row.number, text)] * (_count(match) if match else 1)
            self._sing(lines, 1)
            self.stanza += lines

    def _end(self) -> None:
        """The stanza is over; under a header it is that section."""
        if self.stanza and not self.ended and self.name is not None:
            self.sections.setdefault(self.name, list(self.stanza))
            self._sing(self.stanza, self.times - 1)
            self.name, self.times = None, 1
        self.ended = True

    def _sing(self, lines: Sequence[Given], times: int) -> None:
        if len(self.sung) + len(lines) * times > MOST_LINES:
            raise BadRequest(what=f"The lyrics hold more than {MOST_LINES} lines, those that are repeated included.")
        self.sung += list(lines) * times


def _header(text: str) -> _Header | None:
    """What the row announces, if it is a header: anything in square brackets, or a section's name in round ones."""
    said, times = _once(text)
    if not said:
        return None
    if whole := BRACKETED.fullmatch(said):
        inside, more = _once(whole["inside"])
        return _Header(_name(inside), max(times, more)) if _says(inside) else None
    if not (said.endswith(":") or (said.startswith("(") and said.endswith(")"))):
        return None
    inside, more = _once(said.strip("():"))
    return _Header(_name(inside), max(times, more)) if NAMED.fullmatch(inside.strip(" :.")) else None


def _once(text: str) -> tuple[str, int]:
    """The text without its "x2", and how often it is sung."""
    match = None if WHOLE.fullmatch(text) else REPEATED.search(text)
    return (text[: match.start()].strip(), _count(match)) if match else (text, 1)


def _name(text: str) -> str:
    """The section as it is called again: without its singer."""
    name = re.sub(r"\brepeat(s|ed)?\b", " ", re.split(r"[:(–—]| - ", text)[0].casefold())
    return " ".join(name.split()).replace("-", " ")


def _count(match: re.Match[str]) -> int:
    """How often it is sung altogether."""
    return 2 if match["twice"] else min(max(int(match["after"] or match["before"]), 1), MOST_TIMES)


def _says(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
