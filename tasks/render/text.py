"""Texts: what every format can hold, and what a format would misread."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace

from tasks.song import Song

GUARD = "\u2060"  # word joiner: no width, no meaning; set behind a character, that no longer opens a tag
NOT_IN_XML = "\ufeff\ufffe\uffff"  # a byte order mark, and what would be one the wrong way round
IDEOGRAPHIC = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA")  # as Unicode's names of letters begin


def tidy(song: Song) -> Song:
    """The song as every format can hold it: no line breaks or control characters in texts, nothing empty."""
    lines = (
        replace(line, words=tuple(replace(word, text=text) for word in line.words if (text := one_line(word.text))))
        for line in song.lines
    )
    return replace(
        song,
        lines=tuple(line for line in lines if line.words),
        title=one_line(song.title or "") or None,
        artist=one_line(song.artist or "") or None,
    )


def one_line(text: str) -> str:
    shown = (c for c in text if c.isspace() or (unicodedata.category(c) not in ("Cc", "Cs") and c not in NOT_IN_XML))
    return " ".join("".join(shown).split())


def language_of(tag: str | None) -> str | None:
    """The language of a tag such as en-US; none of what is no tag."""
    match = re.match(r"([A-Za-z]{2,3})(?![A-Za-z])", (tag or "").strip())
    return match[1].lower() if match else None


def from_right(text: str) -> bool:
    """Whether the text runs from right to left: its first letter says so."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((way != "L" for way in directions if way in ("L", "R", "AL")), False)


def is_ideographic(text: str) -> bool:
    """Chinese or Japanese, each of whose characters is sung by itself."""
    names = [unicodedata.name(letter, "").removeprefix("HALFWIDTH ") for letter in text if letter.isalpha()]
    return bool(names) and all(name.startswith(IDEOGRAPHIC) for name in names)


@dataclass(frozen=True, slots=True)
class Guard:
    """Escapes for formats that know none. Guards already there are kept by adding one."""

    character: str
    behind: str

    def shut(self, text: str) -> str:
        return re.sub(f"({self.character}{GUARD}*)(?={self.behind})", rf"\1{GUARD}", text)

    def opened(self, text: str) -> str:
        return re.sub(f"({self.character}{GUARD}*){GUARD}(?={self.behind})", r"\1", text)
