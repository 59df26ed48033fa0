"""A song as a file, and back: JSON, SRT, VTT, LRC, Enhanced LRC, ASS karaoke, plain text.

Each format reads back what it writes, to its own precision, for what it carries:

    json          everything              ms
    vtt           lines, words            ms
    ass           lines, words, title     1/100 s
    elrc          lines, words, header    1/100 s
    lrc           lines, header           1/100 s; a line ends where the next begins, unless a long pause follows
    srt           lines                   ms
    txt           texts

Where a format has no word times, the words read share their line's time, and the song's notes say so.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from infra.jobs.request import Format
from tasks.lines import break_lines
from tasks.song import Line, Song, Word

WORDS_SPREAD = "word times are spread over their line"
NO_TIMES = "times are not known"

CLEAR_AFTER = 2.0  # seconds of silence after which LRC takes the last line off the screen
LEAD_IN = 1.0  # seconds that an ASS line may stand before it is sung


@dataclass(frozen=True, slots=True)
class Way:
    """How one format is written and read."""

    content_type: str
    write: Callable[[Song], str]
    read: Callable[[str], Song]


def render(song: Song, fmt: Format, *, processed_at: datetime | None = None) -> str:
    if fmt is Format.JSON:
        return json.dumps(document(song, processed_at=processed_at), ensure_ascii=False, allow_nan=False)
    return WAYS[fmt].write(tidy(song))


def read(text: str, fmt: Format) -> Song:
    return WAYS[fmt].read(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


def tidy(song: Song) -> Song:
    """The song as every format can hold it: no line breaks or control characters in texts, nothing empty."""
    lines = (
        replace(line, words=tuple(replace(word, text=text) for word in line.words if (text := _one_line(word.text))))
        for line in song.lines
    )
    return replace(
        song,
        lines=tuple(line for line in lines if line.words),
        title=_one_line(song.title or "") or None,
        artist=_one_line(song.artist or "") or None,
    )


def _one_line(text: str) -> str:
    shown = "".join(c for c in text if c.isspace() or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"))
    return " ".join(shown.split())


# --- times ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clock:
    """How a format writes a time: in ticks, its smallest step, so that roundings never add up."""

    per_second: int
    shape: str

    def ticks(self, seconds: float) -> int:
        return max(0, round(seconds * self.per_second))

    def show(self, ticks: int) -> str:
        seconds, fraction = divmod(ticks, self.per_second)
        minutes, s = divmod(seconds, 60)
        h, m = divmod(minutes, 60)
        return self.shape.format(h=h, m=m, s=s, fraction=fraction, minutes=minutes)


SRT_CLOCK = Clock(1000, "{h:02}:{m:02}:{s:02},{fraction:03}")
VTT_CLOCK = Clock(1000, "{h:02}:{m:02}:{s:02}.{fraction:03}")
ASS_CLOCK = Clock(100, "{h}:{m:02}:{s:02}.{fraction:02}")
LRC_CLOCK = Clock(100, "{minutes:02}:{s:02}.{fraction:02}")

TIME = r"(?:\d+:)?\d+:\d+(?:[.,:]\d+)?"  # any clock above, and what other programs make of them


def _seconds(time: str) -> float:
    match = re.fullmatch(r"(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?", time.strip())
    if match is None:
        raise ValueError(f"{time!r} is not a time")
    hours, minutes, seconds, fraction = (part or "0" for part in match.groups())
    whole = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return round(whole + int(fraction) / 10 ** len(fraction), 3)


# --- words in a line: what VTT, Enhanced LRC and ASS share ---------------------------------------

Piece = tuple[int, str]  # from this tick on, this text
Timed = tuple[float, str]  # the same in seconds, as read


def _pieces(line: Line, clock: Clock, escape: Callable[[str], str]) -> list[Piece]:
    """The words, with an empty piece for each silence between them and one at the line's end."""
    pieces: list[Piece] = []
    for word, following in zip(line.words, [*line.words[1:], None], strict=True):
        start, end = clock.ticks(word.start), clock.ticks(word.end)
        pieces.append((start, escape(word.text) + (line.joiner if following else "")))
        if following is None or end < clock.ticks(following.start):
            pieces.append((max(start, end), ""))
    return pieces


def _line(pieces: Sequence[Timed], end: float, unescape: Callable[[str], str]) -> Line:
    """The line that these texts make, each sung from its own time to the next one's."""
    ends = [start for start, _ in pieces[1:]] + [end]
    sung = [(text, start, stop) for (start, text), stop in zip(pieces, ends, strict=True) if text.strip()]
    words = tuple(Word(unescape(text.strip()), start, max(start, stop)) for text, start, stop in sung)
    spaced = len(sung) < 2 or any(text != text.strip() for text, _, _ in sung)
    return Line(words, " " if spaced else "")


def _timed_pieces(text: str, start: float) -> list[Timed]:
    """Text cut at the <times> inside; nothing where it has none."""
    before, *rest = re.split(rf"<({TIME})>", text)
    pieces = [(_seconds(at), text) for at, text in zip(rest[::2], rest[1::2], strict=True)]
    return [(start, before), *pieces] if pieces and before.strip() else pieces


def _spread(text: str, start: float, end: float) -> Line:
    """The line's words, sharing its time by their length."""
    texts = text.split()
    total = sum(map(len, texts))
    at = [start + (end - start) * sum(map(len, texts[:i])) / total for i in range(len(texts))] + [end]
    return Line(tuple(Word(text, round(a, 3), round(b, 3)) for text, (a, b) in zip(texts, pairwise(at), strict=True)))


Cue = tuple[float, float, str]  # from, until, a line's text as the format writes it


def _no_pieces(_text: str, _start: float) -> list[Timed]:
    return []


def _song(
    cues: Iterable[Cue],
    unescape: Callable[[str], str],
    cut: Callable[[str, float], list[Timed]] = _no_pieces,
) -> Song:
    """The song of these lines; where a format times words, `cut` finds them."""
    lines: list[Line] = []
    words_timed = False
    for start, end, text in cues:
        pieces = cut(text, start)
        words_timed |= bool(pieces)
        line = _line(pieces, end, unescape) if pieces else _spread(unescape(text), start, end)
        lines += [line] if line.words else []
    notes = () if words_timed or not lines else (WORDS_SPREAD,)
    return Song(tuple(lines), duration=lines[-1].end if lines else 0.0, notes=notes)


# --- texts that a format would misread ------------------------------------------------------------

GUARD = "\u2060"  # word joiner: no width, no meaning; set behind a character, that no longer opens a tag


def _guarding(character: str, behind: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Escape and unescape for formats that know no escapes. Guards already there are kept by adding one."""
    shut = re.compile(f"({character}{GUARD}*)(?={behind})")
    opened = re.compile(f"({character}{GUARD}*){GUARD}(?={behind})")
    return lambda text: shut.sub(rf"\1{GUARD}", text), lambda text: opened.sub(r"\1", text)


_srt_escape, _srt_unescape = _guarding(r"[<{\\]", r"[A-Za-z/\\]")  # <i>, </i>, {\an8}, \N
_lrc_escape, _lrc_unescape = _guarding(r"[<\[]", r"\d")  # <00:01.00>, [00:01.00]


ASS_TAGS = r"(?<!\\)\{([^}]*)\}"  # a block of tags; \{ is a brace of the text


def _vtt_escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ass_escape(text: str) -> str:
    return re.sub(r"[{}]", r"\\\g<0>", text.replace("\\", "\\" + GUARD))


def _ass_unescape(text: str) -> str:
    plain = re.sub(ASS_TAGS, "", text)
    broken = re.sub(r"\\[Nnh]", " ", plain)  # ours has a guard behind each backslash
    return re.sub(r"\\([{}])", r"\1", broken).replace("\\" + GUARD, "\\")


# --- SRT --------------------------------------------------------------------------------------


def _cue_times(line: Line, clock: Clock) -> str:
    start, end = clock.ticks(line.start), clock.ticks(line.end)
    return f"{clock.show(start)} --> {clock.show(max(end, start + 1))}"


def _cues(text: str) -> Iterable[Cue]:
    """Each block that has a line of times, with the text below it."""
    for block in re.split(r"\n[ \t]*\n", text):
        if match := re.search(rf"^[ \t]*({TIME})[ \t]*-->[ \t]*({TIME})[^\n]*\n(.+)", block, re.MULTILINE | re.DOTALL):
            start, end, below = match.groups()
            yield _seconds(start), _seconds(end), below.strip()


def _write_srt(song: Song) -> str:
    return "\n".join(
        f"{number}\n{_cue_times(line, SRT_CLOCK)}\n{_srt_escape(line.text)}\n"
        for number, line in enumerate(song.lines, 1)
    )


def _read_srt(text: str) -> Song:
    tags = re.compile(r"</?[A-Za-z][^>]*>|\{\\[^}]*\}")
    return _song(_cues(text), lambda cue: _srt_unescape(tags.sub("", cue)))


# --- VTT --------------------------------------------------------------------------------------


def _write_vtt(song: Song) -> str:
    return "\n".join(["WEBVTT\n", *(f"{_cue_times(line, VTT_CLOCK)}\n{_vtt_words(line)}\n" for line in song.lines)])


def _vtt_words(line: Line) -> str:
    *pieces, _ = _pieces(line, VTT_CLOCK, _vtt_escape)  # the line's end is the cue's
    return "".join(f"<{VTT_CLOCK.show(at)}>" + re.sub(r"^(.*\S)", r"<c>\1</c>", text) for at, text in pieces)


def _read_vtt(text: str) -> Song:
    cues = ((start, end, re.sub(r"<[^>\d][^>]*>", "", cue)) for start, end, cue in _cues(text))
    return _song(cues, html.unescape, _timed_pieces)


# --- LRC and Enhanced LRC -----------------------------------------------------------------------


def _write_lrc(song: Song) -> str:
    return _lrc(song, lambda line: _lrc_escape(line.text))


def _write_elrc(song: Song) -> str:
    return _lrc(song, _elrc_words)


def _lrc(song: Song, body: Callable[[Line], str]) -> str:
    rows = [f"[{tag}:{value}]" for tag, value in _lrc_header(song).items() if value]
    for line, following in zip(song.lines, [*song.lines[1:], None], strict=False):
        start, end = LRC_CLOCK.ticks(line.start), LRC_CLOCK.ticks(line.end)
        rows.append(f"[{LRC_CLOCK.show(start)}]{body(line)}")
        if following is None or LRC_CLOCK.ticks(following.start) - end >= CLEAR_AFTER * LRC_CLOCK.per_second:
            rows.append(f"[{LRC_CLOCK.show(max(end, start + 1))}]")
    return "\n".join(rows) + "\n"


def _lrc_header(song: Song) -> dict[str, str | None]:
    length = LRC_CLOCK.show(LRC_CLOCK.ticks(song.duration))
    return {"ti": song.title, "ar": song.artist, "la": song.language, "length": length, "re": "yt-lyrics"}


def _elrc_words(line: Line) -> str:
    return "".join(f"<{LRC_CLOCK.show(at)}>{text}" for at, text in _pieces(line, LRC_CLOCK, _lrc_escape))


def _read_lrc(text: str) -> Song:
    rows = sorted(_lrc_rows(text), key=lambda row: row[0])
    ends = [start for start, _ in [*rows[1:], *rows[-1:]]]
    cues = ((start, end, row) for (start, row), end in zip(rows, ends, strict=True))
    song = _song(cues, _lrc_unescape, _timed_pieces)
    header = dict(re.findall(r"^\[(ti|ar|la|length):[ \t]*(.*?)[ \t]*\][ \t]*$", text, re.MULTILINE))
    length = _seconds(header["length"]) if re.fullmatch(TIME, header.get("length", "")) else song.duration
    return replace(song, title=header.get("ti"), artist=header.get("ar"), language=header.get("la"), duration=length)


def _lrc_rows(text: str) -> Iterable[tuple[float, str]]:
    """Each time with its text; a line may stand at several times."""
    for row in text.split("\n"):
        if match := re.match(rf"[ \t]*((?:\[{TIME}\])+)(.*)", row):
            times, body = match.groups()
            yield from ((_seconds(time), body) for time in re.findall(TIME, times))


# --- ASS --------------------------------------------------------------------------------------

# White until sung, then gold, filled from left to right by \kf. Encoding -1 lets libass find the direction of
# a line by its letters, as Arabic and Hebrew need.
ASS_HEADER = """[Script Info]
; made by yt-lyrics
{title}ScriptType: v4.00+
PlayResX: 1920
PlayResY: 1080
WrapStyle: 0
ScaledBorderAndShadow: yes

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,88,&H0000C8FF,&H00FFFFFF,&H00000000,&H80000000,-1,0,0,0,100,100,0,0,1,4,2,2,80,80,100,-1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def _write_ass(song: Song) -> str:
    shown_from = 0
    events: list[str] = []
    for line in song.lines:
        event, shown_from = _ass_event(line, shown_from)
        events.append(event)
    return ASS_HEADER.format(title=f"Title: {song.title}\n" if song.title else "") + "".join(events)


def _ass_event(line: Line, free_from: int) -> tuple[str, int]:
    """The line, shown a little before it is sung where the line before leaves room; and where it ends."""
    pieces = _pieces(line, ASS_CLOCK, _ass_escape)
    first, last = pieces[0][0], max(pieces[-1][0], pieces[0][0] + 1)
    shown = min(max(free_from, first - round(LEAD_IN * ASS_CLOCK.per_second)), first)
    spans = pairwise([(shown, ""), *pieces] if shown < first else pieces)
    text = "".join(f"{{\\{_ass_tag(text)}{max(0, stop - at)}}}{text}" for (at, text), (stop, _) in spans)
    return f"Dialogue: 0,{ASS_CLOCK.show(shown)},{ASS_CLOCK.show(last)},Default,,0,0,0,,{text}\n", last


def _ass_tag(text: str) -> str:
    """Fill from the left, or at once: silences, and words written from the right, which players fill from the left."""
    from_right = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
    return "kf" if text and not from_right else "k"


def _read_ass(text: str) -> Song:
    rows = [row.split(",", 9) for row in re.findall(r"^Dialogue:(.*)$", text, re.MULTILINE)]
    cues = ((_seconds(row[1]), _seconds(row[2]), row[9]) for row in rows if len(row) == 10)
    title = re.search(r"^Title:[ \t]*(.+)$", text, re.MULTILINE)
    return replace(_song(cues, _ass_unescape, _ass_pieces), title=title[1].strip() if title else None)


ASS_KARAOKE = r"\\[kK][fo]?(\d+)"


def _ass_pieces(text: str, start: float) -> list[Timed]:
    """Text cut at its karaoke tags, which count hundredths from the event's start; nothing where it has none."""
    before, *rest = re.split(ASS_TAGS, text)
    pieces: list[Timed] = [(start, before)] if before.strip() else []
    at = round(start * ASS_CLOCK.per_second)
    for tags, piece in zip(rest[::2], rest[1::2], strict=True):
        lengths = re.findall(ASS_KARAOKE, tags)
        if not lengths and pieces:  # colours and the like, inside a word
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + piece)
            continue
        pieces.append((at / ASS_CLOCK.per_second, piece))
        at += sum(map(int, lengths))
    end = at / ASS_CLOCK.per_second
    return [*pieces, (end, "")] if end > start else []


# --- plain text ---------------------------------------------------------------------------------


def _write_txt(song: Song) -> str:
    return "".join(f"{line.text}\n" for line in song.lines)


def _read_txt(text: str) -> Song:
    song = _song(((0.0, 0.0, line) for line in text.split("\n")), str)
    return replace(song, notes=(NO_TIMES,) if song.lines else ())


# --- JSON: the contract's document ----------------------------------------------------------------


def document(song: Song, *, processed_at: datetime | None = None) -> dict[str, Any]:
    """The result document that clients rely on, with lines and what else we know beside it."""
    song = tidy(song)
    return {
        "words": [_word_entry(word) for word in song.words],
        "srt": _write_srt(song),
        "plain": _write_txt(song).rstrip("\n"),
        "lines": [_line_entry(line) for line in song.lines],
        "language": song.language,
        "engine": song.engine,
        "notes": list(song.notes),
        "metadata": {
            "title": song.title or "",
            "artist": song.artist,
            "videoId": song.video_id,
            "duration": round(song.duration, 3),
            "quality": None if song.quality is None else round(song.quality, 3),
            "processedAt": _instant(processed_at or datetime.now(UTC)),
        },
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word_entry(word: Word) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "confidence": round(word.confidence, 3),
    }


def _line_entry(line: Line) -> dict[str, Any]:
    return {
        "text": line.text,
        "start": round(line.start, 3),
        "end": round(line.end, 3),
        "words": [_word_entry(word) for word in line.words],
    }


def _read_json(text: str) -> Song:
    data: dict[str, Any] = json.loads(text)
    about: dict[str, Any] = data.get("metadata", {})
    language: str | None = data.get("language")
    if "lines" in data:
        lines = tuple(_line_of(entry) for entry in data["lines"])
    else:  # written by the system before this one
        lines = break_lines([_word_of(entry) for entry in data["words"]], language)
    return Song(
        lines,
        language=language,
        duration=float(about.get("duration") or 0.0),
        title=about.get("title") or None,
        artist=about.get("artist"),
        video_id=about.get("videoId"),
        engine=data.get("engine", ""),
        notes=tuple(data.get("notes", ())),
    )


def _line_of(entry: dict[str, Any]) -> Line:
    words = tuple(_word_of(word) for word in entry["words"])
    spaced = Line(words)
    return spaced if spaced.text == entry["text"] else replace(spaced, joiner="")


def _word_of(entry: dict[str, Any]) -> Word:
    return Word(entry["word"], float(entry["start"]), float(entry["end"]), float(entry.get("confidence", 1.0)))


# --- all of them --------------------------------------------------------------------------------


def _write_json(song: Song) -> str:
    return json.dumps(document(song), ensure_ascii=False, allow_nan=False)


WAYS: dict[Format, Way] = {
    Format.JSON: Way("application/json; charset=utf-8", _write_json, _read_json),
    Format.SRT: Way("application/x-subrip; charset=utf-8", _write_srt, _read_srt),
    Format.VTT: Way("text/vtt; charset=utf-8", _write_vtt, _read_vtt),
    Format.LRC: Way("text/plain; charset=utf-8", _write_lrc, _read_lrc),
    Format.ELRC: Way("text/plain; charset=utf-8", _write_elrc, _read_lrc),
    Format.ASS: Way("text/x-ssa; charset=utf-8", _write_ass, _read_ass),
    Format.TXT: Way("text/plain; charset=utf-8", _write_txt, _read_txt),
}

CONTENT_TYPES: dict[Format, str] = {fmt: way.content_type for fmt, way in WAYS.items()}
