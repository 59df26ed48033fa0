"""What is sung: a text for each song, its sections named as a lyricist names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("lyrics")


@dataclass(frozen=True, slots=True)
class Verse:
    """A line as it is shown, and as a voice has to read it where that is not the same."""

    words: tuple[str, ...]
    said: tuple[str, ...]
    joiner: str = " "  # "" for scripts without spaces

    @property
    def text(self) -> str:
        return self.joiner.join(self.words)


@dataclass(frozen=True, slots=True)
class Section:
    name: str  # verse, chorus, interlude
    lines: tuple[Verse, ...]


def read(name: str) -> tuple[Section, ...]:
    """The sections in their order; one without lines that had some before is sung again."""
    found: list[Section] = []
    for part in re.split(r"^\[", (FOLDER / f"{name}.txt").read_text(), flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("]")
        lines = tuple(_verse(line) for line in text.strip().splitlines())
        before = next((section.lines for section in found if section.name == head), ())
        found.append(Section(head, lines or before))
    return tuple(found)


def language(name: str) -> str:
    return name.partition("-")[0]


def _verse(line: str) -> Verse:
    shown, _, said = (part.strip() for part in line.partition("|"))
    if said:
        return Verse(tuple(shown), tuple(said.split()), "")
    return Verse(tuple(shown.split()), tuple(shown.split()))
