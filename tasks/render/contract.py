"""JSON: the contract's document, with all that is known of a song."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from infra.jobs.request import PIPELINE_VERSION
from tasks.lines import break_lines
from tasks.render import srt, txt
from tasks.render.text import tidy
from tasks.render.way import EVERYTHING, Way
from tasks.song import Line, Song, Word


def document(song: Song, *, processed_at: datetime | None = None) -> dict[str, Any]:
    """The result document that clients rely on, with lines and what else we know beside it."""
    song = tidy(song)
    return {
        "words": [_word_entry(word) for word in song.words],
        "srt": srt.write(song),
        "plain": txt.write(song).rstrip("\n"),
        "lines": [_line_entry(line) for line in song.lines],
        "language": song.language,
        "engine": song.engine,
        "pipeline": PIPELINE_VERSION,
        "notes": list(song.notes),
        "metadata": {
            "title": song.title or "",
            "artist": song.artist,
            "videoId": song.video_id,
            "duration": round(song.duration, 3),
            "quality": _share(song.quality),
            "processedAt": _instant(processed_at or datetime.now(UTC)),
        },
    }


def write(song: Song, *, processed_at: datetime | None = None) -> str:
    return json.dumps(document(song, processed_at=processed_at), ensure_ascii=False, allow_nan=False)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _share(quality: float | None) -> float | None:
    return None if quality is None else round(quality, 3)


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
        "quality": _share(line.quality),
        "words": [_word_entry(word) for word in line.words],
    }


def read(text: str) -> Song:
    data: dict[str, Any] = json.loads(text)
    about: dict[str, Any] = data.get("metadata", {})
    language = _text(data.get("language"))
    if "lines" in data:
        lines = tuple(_line_of(entry) for entry in data["lines"])
    else:  # written by the system before this one
        lines = break_lines([_word_of(entry) for entry in data["words"]], language)
    return Song(
        lines,
        language=language,
        duration=_number(about.get("duration") or 0.0),
        title=_text(about.get("title")) or None,
        artist=_text(about.get("artist")),
        video_id=_text(about.get("videoId")),
        engine=_text(data.get("engine")) or "",
        notes=tuple(data.get("notes", ())),
        quality=_share_of(about),
    )


def _line_of(entry: dict[str, Any]) -> Line:
    words = tuple(_word_of(word) for word in entry["words"])
    apart = " ".join(word.text for word in words) == entry["text"]
    return Line(words, " " if apart else "", _share_of(entry))


def _word_of(entry: dict[str, Any]) -> Word:
    confidence = _number(entry.get("confidence", 1.0))
    return Word(_text(entry["word"]) or "", _number(entry["start"]), _number(entry["end"]), confidence)


def _share_of(entry: dict[str, Any]) -> float | None:
    quality = entry.get("quality")  # earlier versions do not say it
    return None if quality is None else _number(quality)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{value} is no text")


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a number of seconds")
    return number


JSON = Way("application/json; charset=utf-8", write, read, EVERYTHING)
