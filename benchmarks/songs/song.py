"""A planned song made: sung line by line, played, mixed, and written with its truth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs import lyrics, melody, mixing, recorded
from benchmarks.songs.backing import BEATS, STYLES, play
from benchmarks.songs.catalogue import Manner, Plan
from benchmarks.songs.known import GAP
from benchmarks.songs.melody import PROGRESSIONS, Key
from benchmarks.songs.singing import Note, Sung, leave, sing, syllables
from benchmarks.songs.voices import Spoken, speak

INTERLUDE = 4  # bars
OUTRO = 2  # bars
BARS_A_LINE = {Manner.SING: 2, Manner.RAP: 1, Manner.WHISPER: 2, Manner.SHOUT: 2, Manner.SPEAK: 2}
SUNG = {Manner.SING: 0.86, Manner.RAP: 0.9, Manner.WHISPER: 0.7, Manner.SHOUT: 0.75}  # of a line's bars
INSTRUMENTAL = 24  # bars of a song without words
LOWEST = {"female": 55, "male": 46}  # MIDI's number of the lowest note
SHOUTED = 7  # semitones over the usual
MIXES = {"mix0": 0.0, "mix6": 6.0}  # dB that the voice is over the backing


@dataclass(frozen=True, slots=True)
class Line:
    verse: lyrics.Verse
    section: str
    sung: Sung


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    plan: Plan
    seconds: float
    lines: tuple[Line, ...]
    backing: NDArray[np.float64]  # (sample, channel)

    @property
    def words(self) -> list[tuple[float, float]]:
        return [times for line in self.lines for times in line.sung.words]


@dataclass(frozen=True, slots=True)
class _Chart:
    """Where in the song each line is sung."""

    lines: tuple[tuple[int, lyrics.Verse, str], ...]  # bar, line, section
    bars: int
    led: tuple[int, ...]  # the bars in which nobody sings


def make(plan: Plan, folder: Path, seed: int = 0) -> Path:
    """Writes NAME.vocals, .backing, .mix0 and .mix6 as opus and NAME.json, the truth, whose path is given."""
    done = perform(plan, seed)
    folder.mkdir(parents=True, exist_ok=True)
    voice, backing = _levelled(done, seed)
    parts = {"backing": backing, **{name: mixing.mixed(voice, backing, over) for name, over in MIXES.items()}}
    if done.words:
        parts["vocals"] = voice
    for name, values in parts.items():
        mixing.write(folder / f"{plan.name}.{name}.opus", values)
    truth = folder / f"{plan.name}.json"
    truth.write_text(json.dumps(_truth(done), indent=1, ensure_ascii=False), encoding="utf-8")
    return truth


def perform(plan: Plan, seed: int = 0) -> Performance:
    """The same for the same seed."""
    own = int(np.random.default_rng((seed, *plan.name.encode())).integers(1 << 31))
    chance = np.random.default_rng(own)
    chart = _chart(plan)
    tonic = int(chance.integers(57, 64))
    key = Key(tonic, plan.mode, tuple(chance.choice(PROGRESSIONS[plan.mode])))
    seconds = chart.bars * BEATS * 60 / plan.tempo
    lines = tuple(_sung(plan, chart, key, own))
    return Performance(plan, seconds, lines, play(STYLES[plan.style], key, plan.tempo, chart.bars, chart.led, own))


def _levelled(done: Performance, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Voice and backing, equally loud where words are sung."""
    driven = done.plan.manner is Manner.SHOUT
    voice = mixing.track([line.sung for line in done.lines], done.seconds, driven=driven, seed=seed)
    backing = np.zeros((len(voice), 2))
    length = min(len(voice), len(done.backing))
    backing[:length] = done.backing[:length]
    where = done.words or [(0.0, done.seconds)]
    if done.words:
        voice *= mixing.VOICE_LEVEL / mixing.level(voice, where)
    return voice, backing * mixing.VOICE_LEVEL / mixing.level(backing, where)


def _chart(plan: Plan) -> _Chart:
    if plan.manner is Manner.PLAY:
        return _Chart((), INSTRUMENTAL, tuple(range(INSTRUMENTAL)))
    lines: list[tuple[int, lyrics.Verse, str]] = []
    led, bar = list(range(plan.intro)), plan.intro
    for section in _source(plan).read(plan.lyrics):
        for verse in section.lines:
            lines.append((bar, verse, section.name))
            bar += BARS_A_LINE[plan.manner]
        if not section.lines:
            led += range(bar, bar := bar + INTERLUDE)
    return _Chart(tuple(lines), bar + OUTRO, (*led, *range(bar, bar + OUTRO)))


def _sung(plan: Plan, chart: _Chart, key: Key, seed: int) -> Iterator[Line]:
    said = cache(recorded.speak if _source(plan) is recorded else speak)
    for nth, (bar, verse, section) in enumerate(chart.lines):
        voice = plan.voices[nth % len(plan.voices)]
        spoken = said(verse.said, voice)
        # The same words get the same melody: a chorus is sung again as it was.
        chance = np.random.default_rng((seed, *verse.text.encode()))
        at = bar * BEATS * 60 / plan.tempo
        if plan.manner is Manner.SPEAK:
            yield Line(verse, section, leave(spoken, at))
            continue
        notes = _notes(plan, verse, spoken, key, bar, _lowest(plan, voice), chance)
        notes = [Note(note.start + at, note.end + at, note.pitch) for note in notes]
        yield Line(verse, section, sing(spoken, notes, breathy=plan.manner is Manner.WHISPER, seed=seed))


def _notes(
    plan: Plan, verse: lyrics.Verse, spoken: Spoken, key: Key, bar: int, lowest: int, chance: np.random.Generator
) -> list[Note]:
    bars = BARS_A_LINE[plan.manner]
    seconds = bars * BEATS * 60 / plan.tempo * SUNG[plan.manner]
    if plan.manner in (Manner.SING, Manner.SHOUT):
        return melody.sung(verse.words, syllables(spoken), key, bar, bars, seconds, lowest, chance)
    starts = [phone.start for phone in spoken.phones if phone.vowel]
    return melody.rapped(starts, spoken.phones[-1].end, seconds, lowest, chance)


def _source(plan: Plan) -> ModuleType:
    """Who has the words and says them."""
    return recorded if plan.lyrics.startswith(recorded.PREFIX) else lyrics


def _lowest(plan: Plan, voice: str) -> int:
    female = voice in ("slt", "lp") or "+f" in voice
    return LOWEST["female" if female else "male"] + SHOUTED * (plan.manner is Manner.SHOUT)


def _truth(done: Performance) -> dict[str, Any]:
    plan, seconds = done.plan, round(done.seconds, 3)
    words = [
        {"word": text, "start": round(start, 3), "end": round(end, 3), "line": nth}
        for nth, line in enumerate(done.lines)
        for text, (start, end) in zip(line.verse.words, line.sung.words, strict=True)
    ]
    lines = [
        {
            "text": line.verse.text,
            "start": round(line.sung.words[0][0], 3),
            "end": round(line.sung.words[-1][1], 3),
            "section": line.section,
        }
        for line in done.lines
    ]
    return {
        "id": plan.name,
        "language": _source(plan).language(plan.lyrics) if plan.lyrics else None,
        "duration": seconds,
        "voice": "/".join(Path(voice).stem for voice in plan.voices),
        "mode": plan.manner.value,
        "backing": f"fluidsynth:{plan.style}",
        "timing": "exact (synthesis)",
        "lines": lines,
        "words": words,
        "instrumental": _instrumental(lines, seconds),
    }


def _instrumental(lines: Sequence[dict[str, Any]], seconds: float) -> list[dict[str, float]]:
    edges = [0.0, *(time for line in lines for time in (line["start"], line["end"])), seconds]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return [{"start": start, "end": end} for start, end in gaps if end - start > GAP]
