"""Where a signal sings: by its own loudness, without a model, and how much a speech detector hears of it.

The gate is made for a voice by itself, where it beats every speech detector: those hold long notes for music. Over a
mix it finds the places to cut and the silence, no more; there the words' own credit decides (`tasks/transcribe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.audio import RATE, Samples
from tasks.song import Word

FRAME = 0.02  # seconds between two measures of loudness, each over twice as long
SILENCE = -60.0  # dB of full scale; a file nowhere louder is silent
FLOOR_PERCENTILE = 10
LOUD_PERCENTILE = 98  # so that a single verse in a long stem counts
VOICE_RANGE = 30.0  # dB under its loud passages that a voice may sink and still sing
OVER_FLOOR = 6.0  # dB over the noise floor where singing begins
HYSTERESIS = 6.0  # dB under its beginning where singing ends
MUSIC_RANGE = 20.0  # dB between floor and loud passages; where it is less, something plays all the time

BREATH = 0.3  # seconds; a shorter gap is within a phrase
BLIP = 0.1  # seconds; anything shorter is no phrase
MARGIN = 0.2  # seconds around a phrase: consonants are quieter than vowels

PAUSE = 1.0  # seconds; a longer gap ends a window
WINDOW = 29.0  # seconds at most: whisper hears 30 at a time
QUIETER = 12.0  # dB under the usual level, where a window may be cut
CUT_AFTER = 15.0  # seconds at least before a window is cut

SPEECH_FRAME = 512  # samples that Silero judges at once


@dataclass(frozen=True, slots=True)
class Span:
    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def sung(samples: Samples) -> tuple[Span, ...]:
    """The phrases: where the signal is loud by its own measure."""
    level = _loudness(samples)
    if not len(level) or level.max() < SILENCE:
        return ()
    runs = _joined(_runs(_above(level, *_gate(level))), BREATH)
    padded = [
        Span(max(run.start - MARGIN, 0.0), min(run.end + MARGIN, samples.duration)) for run in runs if run.length > BLIP
    ]
    return _joined(padded, 0.0)


def windows(samples: Samples, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans as stretches to be heard one by one: joined over short pauses; long ones cut where it is quiet."""
    level = _loudness(samples)
    smooth = np.convolve(level, np.ones(15) / 15, mode="same") if len(level) >= 15 else level
    found: list[Span] = []
    for span in _joined(spans, PAUSE):
        while span.length > WINDOW:
            first, last = round((span.start + CUT_AFTER) / FRAME), round((span.start + WINDOW) / FRAME)
            quietest = first + int(np.argmin(smooth[first:last]))
            if smooth[quietest] > np.median(level[first:last]) - QUIETER:
                break  # a cut through a word costs more than it helps: whisper finds its own way in music
            found.append(Span(span.start, quietest * FRAME))
            span = Span(quietest * FRAME, span.end)
        found.append(span)
    return tuple(found)


def inside(words: Sequence[Word], spans: Sequence[Span]) -> tuple[Word, ...]:
    """The words that touch a phrase, cut to it: engines let words begin and end in the silence around."""
    found: list[Word] = []
    for word in words:
        touched = [span for span in spans if span.start < word.end and word.start < span.end]
        if touched:
            start, end = max(word.start, touched[0].start), min(word.end, touched[-1].end)
            found.append(replace(word, start=start, end=end))
    return tuple(found)


def speech(samples: Samples) -> NDArray[np.float32]:
    """What Silero makes of each `SPEECH_FRAME`: 0–1, the likelihood of a voice that speaks or nearly so."""
    from faster_whisper.vad import get_vad_model  # pyright: ignore[reportMissingTypeStubs]

    padded = np.pad(samples.values, (0, -len(samples.values) % SPEECH_FRAME))
    return np.asarray(get_vad_model()(padded), np.float32).ravel()


def _loudness(samples: Samples) -> NDArray[np.float64]:
    """dB of full scale, one value for each FRAME."""
    hop = round(FRAME * RATE)
    values = samples.values[: len(samples.values) // hop * hop].reshape(-1, hop)
    power = np.mean(np.square(values, dtype=np.float64), axis=1)
    if len(power) > 1:
        power[:-1] = (power[:-1] + power[1:]) / 2
    return 10 * np.log10(power + 1e-12)


def _gate(level: NDArray[np.float64]) -> tuple[float, float]:
    """How loud singing begins, and how quiet it ends."""
    floor, loud = (float(value) for value in np.percentile(level, (FLOOR_PERCENTILE, LOUD_PERCENTILE)))
    if loud - floor < MUSIC_RANGE:
        begin = max(loud - 2 * MUSIC_RANGE, SILENCE)
        return begin, begin - HYSTERESIS
    begin = max(loud - VOICE_RANGE, floor + OVER_FLOOR, SILENCE)
    return begin, max(begin - HYSTERESIS, floor + OVER_FLOOR / 2)


def _above(level: NDArray[np.float64], begin: float, end: float) -> NDArray[np.bool_]:
    """True from where the level rises over `begin` to where it sinks under `end`."""
    marks = np.where(level >= begin, 1, np.where(level < end, -1, 0))
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(len(marks)), 0))
    return marks[last] > 0


def _runs(on: NDArray[np.bool_]) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], on, [False]))))
    return [Span(float(a) * FRAME, float(b) * FRAME) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _joined(spans: Sequence[Span], gap: float) -> tuple[Span, ...]:
    """Spans closer than the gap become one."""
    if not spans:
        return ()
    breaks = [(a, b) for a, b in pairwise(spans) if b.start - a.end > gap]
    starts = [spans[0].start, *(b.start for _, b in breaks)]
    ends = [*(a.end for a, _ in breaks), spans[-1].end]
    return tuple(Span(a, b) for a, b in zip(starts, ends, strict=True))
