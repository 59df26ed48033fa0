"""Lyrics files from one format into others, whoever made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.client import file_named
from flows.here import names
from flows.lyrics import decoded
from infra.errors import BadRequest, UnreadableLyrics
from infra.jobs.request import Format
from tasks.render import WAYS, Part, Unreadable, parts, read, render
from tasks.render.signs import SUFFIXES, looks_like
from tasks.song import Song

LARGEST = 32_000_000  # bytes; ten hours of timed words
WINDOWS = "cp1252"  # what is no Unicode is taken for it

# What readers stumble on in files that are broken, or in another format.
BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Lyrics:
    """A file as it was read."""

    name: str
    source: Format
    song: Song
    certain: bool  # that its letters are the right ones

    def asides(self, formats: Sequence[Format]) -> Iterator[str]:
        """What is lost or made up on the way into these formats, each in a sentence."""
        there = parts(self.song) & WAYS[self.source].holds
        if not self.certain:
            yield f"{self.name} is not in Unicode; it was read as Windows-1252."
        if not self.song.lines:
            yield f"{self.name} has no words."
        if self.song.lines and Part.WORDS not in there and any(Part.WORDS in WAYS[fmt].holds for fmt in formats):
            yield f"{self.name} has no times of words; each line's time is spread over its words."
        losing: dict[tuple[Part, ...], list[str]] = defaultdict(list)
        for fmt in formats:
            losing[tuple(part for part in Part if part in there - WAYS[fmt].holds)].append(fmt.upper())
        told = (f"{' and '.join(who)} cannot hold its {', '.join(lost)}" for lost, who in losing.items() if lost)
        if sentence := "; ".join(told):
            yield f"{self.name}: {sentence}."


def opened(name: str, formats: Sequence[Format], source: Format | None = None) -> Lyrics:
    """The file's lyrics, if they can be had in these formats."""
    with file_named(name).open("rb") as file:
        content = file.read(LARGEST + 1)
    text = decoded(content) if len(content) <= LARGEST else None
    if text is None:
        raise BadRequest(what=f"{name} is no text: `yt-lyrics transcribe` makes lyrics of sound.")
    source = source or _source(Path(name), text)
    song = _song(name, text, source)
    timed = [fmt for fmt in formats if Part.TIMES in WAYS[fmt].holds]
    if song.lines and timed and Part.TIMES not in parts(song):
        timing = f"`yt-lyrics transcribe SONG --lyrics {name}` finds them in the song"
        raise BadRequest(what=f"{name} has no times, and {timed[0].upper()} needs them: {timing}.")
    return Lyrics(name, source, song, certain=content.isascii() or content.decode(WINDOWS, "ignore") != text)


def _source(path: Path, text: str) -> Format:
    """By the suffix, but for one that any text may have."""
    by_suffix = SUFFIXES.get(path.suffix.lower(), Format.TXT)
    return looks_like(text) if by_suffix is Format.TXT else by_suffix


def _song(name: str, text: str, source: Format) -> Song:
    likely = looks_like(text)
    is_likely = WAYS[likely].read is WAYS[source].read
    try:
        song = read(text, source)
        render(song, Format.JSON)  # what this format takes, every one does
        if not song.lines and text.strip() and not is_likely:
            raise Unreadable("nothing in it is")
    except BROKEN as error:
        reason = str(error) if isinstance(error, Unreadable) else "it is broken"
        if likely is not Format.TXT and not is_likely:
            reason = f"it looks like {likely.upper()}, which `--from {likely}` says"
        raise UnreadableLyrics(name=name, format=source.upper(), reason=reason) from error
    return song


def free_name(stem: str, formats: Sequence[Format], out: Path, taken: set[str], inputs: Sequence[Path]) -> str:
    """A name for the files that is neither taken by this run nor one of its inputs; taken from now on."""
    name = next(name for name in names(stem) if name not in taken and not _hits(out, name, formats, inputs))
    taken.add(name)
    return name


def _hits(out: Path, name: str, formats: Sequence[Format], inputs: Sequence[Path]) -> bool:
    there = [path for fmt in formats if (path := out / f"{name}.{fmt}").exists()]
    return any(path.samefile(file) for path in there for file in inputs if file.exists())
