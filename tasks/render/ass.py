"""ASS: karaoke for video players, as libass draws it.

Two lines stand on the screen in turn, the one that is sung and the next: each fills word by word from the left, and is
replaced, once it is over, by the line after the next. After a pause the first line stands above again.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from tasks.render.clock import TIME, Clock, seconds
from tasks.render.pieces import Cue, Timed, pieces, song_of
from tasks.render.text import GUARD, from_right
from tasks.render.way import LINES, Part, Way
from tasks.song import Line, Song

CLOCK = Clock(100, "{h}:{m:02}:{s:02}.{fraction:02}")
LEAD_IN = 400  # ticks that a line may stand before it is sung
PAUSE = 400  # ticks between two lines; after a longer one the upper place comes first again
FADE = 20  # ticks in which a line appears
BRIGHTEN = 40  # ticks before it is sung in which a line that waits, half transparent, becomes bright
PLACES = ("Upper", "Lower")
ROW = 44  # half ems that fit into the screen's width; players wrap at spaces by themselves
FOLD = GUARD + r"\N"  # our own line break, where a script has no spaces

# White until sung, then gold. The upper place grows upwards where a line wraps, the lower one downwards, so that the
# two never meet. Encoding -1 lets libass find the direction of a line by its letters, as Arabic and Hebrew need.
HEADER = """[Script Info]
; made by yt-lyrics
{names}ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 0
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Upper,Arial,80,&H0000C8FF,&H00FFFFFF,&H00000000,&H80000000,-1,0,0,0,100,100,0,0,1,4,2,2,80,80,230,-1
Style: Lower,Arial,80,&H0000C8FF,&H00FFFFFF,&H00000000,&H80000000,-1,0,0,0,100,100,0,0,1,4,2,8,80,80,870,-1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""

TAGS = re.compile(r"(?<!\\)\{([^{}]*)\}")  # a block of tags; \{ is a brace of the text
NAMES = re.compile(r"^(Title|Original Script):(.*)$", re.MULTILINE)
KARAOKE = re.compile(r"\\[kK][fo]?(\d+)")  # hundredths of a second
DRAWING = re.compile(r"\\p(\d)")  # how large what follows is drawn; 0: it is a text


def write(song: Song) -> str:
    names = {"Title": song.title, "Original Script": song.artist}
    told = "".join(f"{name}: {value}\n" for name, value in names.items() if value)
    return HEADER.format(names=told) + "".join(_events(song))


def _events(song: Song) -> Iterator[str]:
    free = dict.fromkeys(PLACES, 0)
    place, before = PLACES[1], 0
    for line in song.lines:
        start = CLOCK.ticks(line.start)
        place = PLACES[0] if place == PLACES[1] or start - before > PAUSE else PLACES[1]
        event, before = _event(line, place, free[place])
        free[place] = before
        yield event


def _event(line: Line, place: str, free_from: int) -> tuple[str, int]:
    """The line, shown a while before it is sung where its place is free; and where it ends."""
    sung = pieces(_folded(line), CLOCK, _escape)
    first, last = sung[0][0], max(sung[-1][0], sung[0][0] + 1)
    shown = min(max(free_from, first - LEAD_IN), first)
    spans = pairwise([(shown, ""), *sung] if shown < first else sung)
    text = "".join(f"{{\\{_fill(text)}{max(0, stop - at)}}}{text}" for (at, text), (stop, _) in spans)
    return f"Dialogue: 0,{CLOCK.show(shown)},{CLOCK.show(last)},{place},,0,0,0,,{_waiting(first - shown)}{text}\n", last


def _waiting(ticks: int) -> str:
    """How a line looks before its time; one that is sung at once has none."""
    begin, end = max(ticks - BRIGHTEN, 0) * 10, ticks * 10  # ms
    return f"{{\\fad({min(FADE, ticks) * 10},0)\\2a&H70&\\t({begin},{end},\\2a&H00&)}}" if ticks else ""


def _folded(line: Line) -> Line:
    """A long line without spaces as rows of about the same width."""
    widths = list(accumulate(sum(map(_width, word.text)) for word in line.words))
    rows = math.ceil(widths[-1] / ROW) if not line.joiner else 1
    ends = {bisect_left(widths, widths[-1] * row / rows) for row in range(1, rows)} - {len(widths) - 1}
    words = (replace(word, text=word.text + "\n") if i in ends else word for i, word in enumerate(line.words))
    return replace(line, words=tuple(words)) if ends else line


def _width(letter: str) -> int:
    """In half ems."""
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 0 if unicodedata.combining(letter) else 1


def _fill(text: str) -> str:
    """Fill from the left, or at once: silences, and words written from the right, which players fill from the left."""
    return "kf" if text and not from_right(text) else "k"


def _escape(text: str) -> str:
    return re.sub(r"[{}]", r"\\\g<0>", text.replace("\\", "\\" + GUARD)).replace("\n", FOLD)


def _unescape(text: str) -> str:
    return re.sub(r"\\([{}])", r"\1", TAGS.sub("", text)).replace("\\" + GUARD, "\\")


def read(text: str) -> Song:
    cues = sorted(_cues(text), key=lambda cue: cue[0])
    header = {name: value.strip() for name, value in NAMES.findall(text)}
    song = song_of(cues, _unescape, _timed_pieces)
    return replace(song, title=header.get("Title") or None, artist=header.get("Original Script") or None)


@dataclass(frozen=True, slots=True)
class _Fields:
    """What stands where in an event, as its section says."""

    names: tuple[str, ...] = ("layer", "start", "end", "style", "name", "left", "right", "vertical", "effect", "text")

    def of(self, row: str) -> dict[str, str]:
        values = row.split(",", len(self.names) - 1)
        return dict(zip(self.names, values, strict=False))


def _cues(text: str) -> Iterator[Cue]:
    fields = _Fields()
    for row in text.split("\n"):
        kind, _, rest = row.partition(":")
        if kind == "Format" and "text" in rest.lower():  # the styles have one of their own
            fields = _Fields(tuple(name.strip().lower() for name in rest.split(",")))
        if kind in ("Dialogue", "Comment") and _is_sung(kind, event := fields.of(rest)):
            yield seconds(event["start"]), seconds(event["end"]), _shown(event["text"])


def _is_sung(kind: str, event: dict[str, str]) -> bool:
    """A dialogue; where Aegisub made an effect of each syllable, the karaoke that it keeps as a comment instead."""
    times = (event.get("start", ""), event.get("end", ""))
    if "text" not in event or not all(re.fullmatch(TIME, time.strip()) for time in times):
        return False
    effect = event.get("effect", "").strip().lower()
    return effect == "karaoke" if kind == "Comment" else effect != "fx"


def _shown(text: str) -> str:
    """The text without drawings; its line breaks are spaces, but our own backslashes have a guard behind them."""
    shown, *rest = TAGS.split(text)
    drawn = False
    for tags, piece in zip(rest[::2], rest[1::2], strict=True):
        if sizes := DRAWING.findall(tags):
            drawn = sizes[-1] != "0"
        shown += f"{{{tags}}}{'' if drawn else piece}"
    return re.sub(r"\\[Nnh]", " ", shown.replace(FOLD, ""))


def _timed_pieces(text: str, start: float) -> list[Timed]:
    """Text cut at its karaoke tags, which count hundredths from the event's start; nothing where it has none."""
    before, *rest = TAGS.split(text)
    found: list[Timed] = [(start, before)] if before.strip() else []
    at = begin = round(start * CLOCK.per_second)
    for tags, piece in zip(rest[::2], rest[1::2], strict=True):
        lengths = KARAOKE.findall(tags)
        if not lengths and found:  # colours and the like, inside a word
            found[-1] = (found[-1][0], found[-1][1] + piece)
            continue
        found.append((at / CLOCK.per_second, piece))
        at += sum(map(int, lengths))
    return [*found, (at / CLOCK.per_second, "")] if at > begin else []


ASS = Way("text/x-ssa; charset=utf-8", write, read, LINES | {Part.WORDS, Part.TITLE, Part.ARTIST})
