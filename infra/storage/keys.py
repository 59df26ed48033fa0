"""What a key says by itself: the way to its file, and what a browser may take the file for."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

from infra.errors import MissingFile

TEXTS = {
    ".json": "application/json",
    ".srt": "application/x-subrip",
    ".lrc": "text/plain",
    ".elrc": "text/plain",
    ".ass": "text/plain",
    ".ttml": "text/plain",  # as what it is, XML, a browser would run scripts in a file that only bears its name
}
ANYTHING = "application/octet-stream"


def parts(key: str) -> tuple[str, ...]:
    """The folders and the name. A key never leads out of the storage."""
    found = PurePosixPath(key).parts
    if not found or key.startswith("/") or "\\" in key or "\0" in key or any(part in ("..", ".") for part in found):
        raise MissingFile(name=key)
    return found


def content_type(key: str) -> str:
    """Only media and our own formats have a type that a browser acts on."""
    suffix = PurePosixPath(key).suffix
    if suffix in (".opus", ".ogg"):
        return "audio/ogg"
    guessed = TEXTS.get(suffix) or mimetypes.guess_type(f"x{suffix}")[0] or ""
    safe = guessed.startswith(("audio/", "video/", "text/plain", "text/vtt")) or guessed in TEXTS.values()
    return guessed if safe else ANYTHING
