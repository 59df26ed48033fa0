"""A song's words as somebody keeps them in a file."""

from __future__ import annotations

import codecs
import sys

from flows.client import file_named
from infra.errors import BadRequest

STDIN = "-"
LARGEST = 200_000  # bytes; ten times what a song may have in letters


def lyrics_in(name: str, *, songs: int) -> str:
    """The text of the file, or of the input."""
    if songs != 1:
        raise BadRequest(what="Lyrics are one song's: give one song with --lyrics.")
    if name == STDIN:
        content = sys.stdin.buffer.read(LARGEST + 1)
    else:
        with file_named(name).open("rb") as file:
            content = file.read(LARGEST + 1)
    text = decoded(content) if len(content) <= LARGEST else None
    shown = "the input" if name == STDIN else name
    if text is None:
        raise BadRequest(what=f"{shown} is not a text with a song's words.")
    if not text.strip():
        raise BadRequest(what=f"There are no words in {shown}.")
    return text


def decoded(content: bytes) -> str | None:
    """The text, in the ways that editors write it; None where it is none."""
    for encoding in _encodings(content):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    return None


def _encodings(content: bytes) -> tuple[str, ...]:
    """UTF-16 only where it shows: any bytes of an even number could be it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    if b"\0" in content[:2]:
        return ("utf-16-le", "utf-16-be") if content[1:2] == b"\0" else ("utf-16-be",)
    return ("utf-8-sig", "cp1252")
