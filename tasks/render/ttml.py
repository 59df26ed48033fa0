"""TTML: lyrics as Apple Music and its like take them, a span with its times for each word.

In that dialect, which the root declares (`itunes:timing`), every time counts from the song's begin. By the W3C
alone a span's times count from its paragraph's begin: files without the declaration are read so, where that can be.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tasks.render.clock import Clock
from tasks.render.pieces import Timed, line_of, next_start, of_lines, spread
from tasks.render.text import from_right, language_of
from tasks.render.way import EVERYTHING, NO_TIMES, Unreadable, Way
from tasks.song import Line, Song

CLOCK = Clock(1000, "{h:02}:{m:02}:{s:02}.{fraction:03}")
FROM_RIGHT = ' tts:direction="rtl" tts:unicodeBidi="embed"'
APPLE = "http://music.apple.com/lyric-ttml-internal"

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" \
xmlns:tts="http://www.w3.org/ns/ttml#styling" xmlns:itunes="{apple}" itunes:timing="Word" xml:lang="{language}">
  <head>
    <metadata>
{about}    </metadata>
  </head>
  <body{duration}>
    <div>
{lines}    </div>
  </body>
</tt>
"""


def write(song: Song) -> str:
    title = f"      <ttm:title>{html.escape(song.title)}</ttm:title>\n" if song.title else ""
    artist = f'<ttm:name type="full">{html.escape(song.artist)}</ttm:name>' if song.artist else ""
    agent = f'      <ttm:agent type="other" xml:id="v1">{artist}</ttm:agent>\n' if artist else ""
    return DOCUMENT.format(
        apple=APPLE,
        language=html.escape(song.language or ""),
        about=title + agent,
        duration=f' dur="{CLOCK.show(CLOCK.ticks(song.duration))}"' if song.duration else "",
        lines="".join(f"      {_paragraph(line, number)}\n" for number, line in enumerate(song.lines, 1)),
    )


def _paragraph(line: Line, number: int) -> str:
    way = FROM_RIGHT if from_right(line.text) else ""
    return f'<p{_times(line.start, line.end)} itunes:key="L{number}"{way}>{_spans(line)}</p>'


def _spans(line: Line) -> str:
    return line.joiner.join(
        f"<span{_times(word.start, word.end)}>{html.escape(word.text, quote=False)}</span>" for word in line.words
    )


def _times(start: float, end: float) -> str:
    begin, until = CLOCK.span(start, end)
    return f' begin="{begin}" end="{until}"'


# --- reading ------------------------------------------------------------------------------------

NEVER_SUNG = {"metadata", "set", "animate", "desc", "title"}  # elements
BESIDE = {"x-translation", "x-roman"}  # what Apple's roles say of a span that is another span's words again
OVER = {"textContainer", "text", "delimiter"}  # ruby: how a word is read, written over it


def read(text: str) -> Song:
    if "<!DOCTYPE" in text:  # its entities may be without end, or name files of this machine
        raise Unreadable("it declares a document type, which is not read for safety")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no document type, no entities
    except ElementTree.ParseError as error:
        raise Unreadable(f"it is no XML: {error}") from error
    measure = _Measure.of(root, absolute=APPLE in text)
    body = next((element for element in root if _name(element) == "body"), root)
    paragraphs = list(_paragraphs(body, _Interval(0.0, None), measure))
    starts = sorted(paragraph.inside.start for paragraph in paragraphs)
    lines = [line for paragraph in paragraphs if (line := paragraph.line(starts)).words]
    lines.sort(key=lambda line: line.start)
    song = of_lines(lines, words_timed=any(paragraph.words_timed for paragraph in paragraphs))
    timed = any("begin" in element.attrib for element in root.iter())
    return replace(
        song,
        title=_text_of(root, "title"),
        artist=_text_of(root, "name"),
        language=language_of(_attributes(root).get("lang")),
        duration=max(measure.seconds(_attributes(body).get("dur")) or 0.0, song.duration),
        notes=song.notes if timed or not lines else (NO_TIMES,),
    )


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _attributes(element: Element) -> dict[str, str]:
    """By their names without the namespace, of which each program has its own."""
    return {name.rpartition("}")[2]: value for name, value in element.attrib.items()}


def _text_of(root: Element, name: str) -> str | None:
    texts = ("".join(element.itertext()) for element in root.iter() if _name(element) == name)
    return next((found for text in texts if (found := " ".join(text.split()))), None)


@dataclass(frozen=True, slots=True)
class _Measure:
    """What the times of this document mean."""

    frames: float  # a second
    ticks: float  # a second
    absolute: bool  # from the song's begin, not from the parent's

    @classmethod
    def of(cls, root: Element, *, absolute: bool) -> _Measure:
        told = _attributes(root)
        times, by = (float(part) for part in re.split("[ :]", told.get("frameRateMultiplier", "1 1")))
        frames = float(told.get("frameRate", 30)) * times / by
        ticks = float(told.get("tickRate", frames if "frameRate" in told else 1))
        measure = cls(frames or 30.0, ticks or 1.0, absolute)
        return measure if absolute else replace(measure, absolute=measure.must_be_absolute(root))

    def must_be_absolute(self, root: Element) -> bool:
        """Whether a word would begin after its own line has ended."""
        for paragraph in root.iter():
            line = _attributes(paragraph)
            start, end = self.seconds(line.get("begin")), self.seconds(line.get("end"))
            if _name(paragraph) == "p" and start is not None and end is not None:
                spans = (self.seconds(_attributes(span).get("begin")) for span in paragraph.iter() if span != paragraph)
                if any(begin is not None and begin >= end - start for begin in spans):
                    return True
        return False

    def seconds(self, time: str | None) -> float | None:
        """A clock's time, with frames where it has them; or a count and its unit."""
        if time is None:
            return None
        if match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)(h|ms|m|s|f|t)?\s*", time):
            count, unit = match.groups()
            units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001, "f": 1 / self.frames, "t": 1 / self.ticks, None: 1}
            return round(float(count) * units[unit], 3)
        if match := re.fullmatch(r"\s*(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)(?::(\d+)(?:\.\d+)?)?\s*", time):
            hours, minutes, whole, frames = (part or "0" for part in match.groups())
            clock = int(hours) * 3600 + int(minutes) * 60 + float(whole)
            return round(clock + int(frames) / self.frames, 3)
        raise Unreadable(f'"{time}" is not a time')


@dataclass(frozen=True, slots=True)
class _Interval:
    start: float
    end: float | None

    def of(self, element: Element, measure: _Measure) -> _Interval:
        """When this element is shown, inside the one around it."""
        told = _attributes(element)
        origin = 0.0 if measure.absolute else self.start
        begin, end, lasts = (measure.seconds(told.get(name)) for name in ("begin", "end", "dur"))
        start = self.start if begin is None else origin + begin
        if end is not None:
            return _Interval(start, origin + end)
        return _Interval(start, self.end if lasts is None else start + lasts)


@dataclass(frozen=True, slots=True)
class _Paragraph:
    inside: _Interval
    pieces: tuple[Timed, ...]
    words_timed: bool

    def line(self, starts: Sequence[float]) -> Line:
        """One that has no end lasts until the next begins."""
        end = next_start(self.inside.start, starts) if self.inside.end is None else self.inside.end
        if self.words_timed:
            return line_of(self.pieces, end)
        return spread("".join(text for _, text in self.pieces), self.inside.start, end)


def _paragraphs(element: Element, around: _Interval, measure: _Measure) -> Iterator[_Paragraph]:
    inside = around.of(element, measure)
    if _name(element) != "p":
        for child in element:
            yield from _paragraphs(child, inside, measure)
        return
    found = accumulate(_pieces(element, inside, measure), lambda a, b: (max(a[0], b[0]), b[1]))
    timed = any("begin" in span.attrib for span in element.iter() if span is not element)
    yield _Paragraph(inside, tuple(found), timed)


def _pieces(element: Element, inside: _Interval, measure: _Measure) -> Iterator[Timed]:
    """The texts inside, each from its own span's begin; what stands behind a span, from the span's end."""
    yield inside.start, element.text or ""
    for child in element:
        own, told = inside.of(child, measure), _attributes(child)
        if _name(child) == "br":
            yield own.start, " "
        elif _is_sung(child, told):
            yield from _pieces(child, own, measure)
        until = own.end if "begin" in told and own.end is not None else own.start
        yield until, child.tail or ""


def _is_sung(element: Element, told: dict[str, str]) -> bool:
    return _name(element) not in NEVER_SUNG and told.get("role") not in BESIDE and told.get("ruby") not in OVER


TTML = Way("application/ttml+xml; charset=utf-8", write, read, EVERYTHING)
