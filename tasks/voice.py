"""Where a signal sings: by its own loudness, without a model, and how much a speech detector hears of it.

The gate is made for a voice by itself, where it beats every speech detector: those hold long notes for music. Over a
mix it finds the places to cut and the silence, no more: where somebody sings there, a network hears (`tasks/singing`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, takewhile

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

EVEN = 0.5  # likelihood over which somebody sings

BREATH = 0.3  # seconds; a shorter gap is within a phrase
BLIP = 0.1  # seconds; anything shorter is no phrase
MARGIN = 0.2  # seconds around a phrase: consonants are quieter than vowels

SOFT = 20.0  # dB under its loud passages where a voice sounds no more, though it may sing
STOP = 0.1  # seconds; a shorter silence is a consonant
CONSONANT = 0.03  # seconds around what sounds
SYLLABLE = 0.1  # seconds of a word, the shortest that may be all of it

PAUSE = 3.0  # seconds; a longer gap ends a window: whisper hears a line better between others
WINDOW = 29.0  # seconds at most: whisper hears 30 at a time
QUIETER = 12.0  # dB under the usual level, where a window may be cut
CUT_AFTER = 15.0  # seconds at least before a window is cut

SPEECH_FRAME = 512  # samples that Silero judges at once
SPEECH_STRETCH = 9375  # frames, five minutes, that it is given at once: its memory grows with them
SPEECH_BEFORE = 94  # frames, three seconds, that it is given before those: its first guesses are wild
SPEECH_AFTER = 1  # frame: it is given its last one with a click at the end


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
    return _phrases(_above(level, *_gate(level)), samples.duration, BREATH, BLIP, MARGIN)


def drowned(samples: Samples) -> bool:
    """Whether something plays all the time, so that loudness says nothing of singing."""
    level = _loudness(samples)
    return bool(len(level)) and _quiet_to_loud(level) < MUSIC_RANGE


def likely(chances: NDArray[np.float32], duration: float) -> tuple[Span, ...]:
    """The phrases by the likelihood of singing in each FRAME."""
    return _phrases(_smooth(chances, BREATH) > EVEN, duration, BREATH, BLIP, MARGIN)


def likely_sounding(chances: NDArray[np.float32], duration: float) -> tuple[Span, ...]:
    """The same without the pauses in them."""
    return _phrases(_smooth(chances, STOP) > EVEN, duration, STOP, STOP, CONSONANT)


def sounding(samples: Samples) -> tuple[Span, ...]:
    """The phrases without the pauses in them: where the signal is near its loud passages."""
    level = _loudness(samples)
    if not len(level) or level.max() < SILENCE:
        return ()
    begin, end = _gate(level)
    begin = max(begin, float(np.percentile(level, LOUD_PERCENTILE)) - SOFT)
    return _phrases(_above(level, begin, max(begin - HYSTERESIS, end)), samples.duration, STOP, STOP / 2, CONSONANT)


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
    """The words that touch a phrase, each cut to its own: engines let words begin and end in the silence around."""
    return tuple(_cut(word, span) for word in words if (span := _nearest(word, spans)))


def tightened(words: Sequence[Word], spans: Sequence[Span]) -> tuple[Word, ...]:
    """The words, those that touch a span cut to it."""
    return tuple(_cut(word, span) if (span := _nearest(word, spans)) else word for word in words)


def speech(
    samples: Samples, spans: Sequence[Span] | None = None, say: Callable[[], None] = lambda: None
) -> NDArray[np.float32]:
    """What Silero makes of each `SPEECH_FRAME`: 0–1, the likelihood of a voice that speaks or nearly so.

    Outside of the spans it is not asked, and the likelihood is 0. What `say` raises (a cancel) ends the work.
    """
    from faster_whisper.vad import get_vad_model  # pyright: ignore[reportMissingTypeStubs]

    silero = get_vad_model()
    found = np.zeros(math.ceil(len(samples.values) / SPEECH_FRAME), np.float32)
    for first, last in _stretches(len(found), spans):
        say()
        before = max(first - SPEECH_BEFORE, 0)
        sound = samples.values[before * SPEECH_FRAME : (last + SPEECH_AFTER) * SPEECH_FRAME]
        whole = np.pad(sound, (0, -len(sound) % SPEECH_FRAME))  # a copy, for it writes there
        found[first:last] = np.asarray(silero(whole), np.float32).ravel()[first - before : last - before]
    return found


def _stretches(frames: int, spans: Sequence[Span] | None) -> Iterator[tuple[int, int]]:
    """The spans in frames of Silero's, none longer than it is given at once."""
    for span in spans if spans is not None else [Span(0.0, frames * SPEECH_FRAME / RATE)]:
        last = min(math.ceil(span.end * RATE / SPEECH_FRAME), frames)
        for first in range(int(span.start * RATE / SPEECH_FRAME), last, SPEECH_STRETCH):
            yield first, min(first + SPEECH_STRETCH, last)


def _nearest(word: Word, spans: Sequence[Span]) -> Span | None:
    """The span that a word is sung in: engines draw a word over the pause before it, so the last one that fits."""
    first = bisect_right(spans, word.start, key=lambda span: span.end)
    touched = list(takewhile(lambda span: span.start < word.end, islice(spans, first, None)))
    shares = [min(span.end, word.end) - max(span.start, word.start) for span in touched]
    fitting = [span for span, share in zip(touched, shares, strict=True) if share >= SYLLABLE]
    return fitting[-1] if fitting else max(touched, key=lambda span: shares[touched.index(span)], default=None)


def _cut(word: Word, span: Span) -> Word:
    return replace(word, start=max(word.start, span.start), end=min(word.end, span.end))


def _loudness(samples: Samples) -> NDArray[np.float64]:
    """dB of full scale, one value for each FRAME."""
    hop = round(FRAME * RATE)
    values = samples.values[: len(samples.values) // hop * hop].reshape(-1, hop)
    power = np.einsum("ij,ij->i", values, values, dtype=np.float64) / hop
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


def _quiet_to_loud(level: NDArray[np.float64]) -> float:
    floor, loud = np.percentile(level, (FLOOR_PERCENTILE, LOUD_PERCENTILE))
    return float(loud - floor)


def _smooth(chances: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    frames = round(seconds / FRAME)
    mean = np.full(frames, 1 / frames, np.float32)
    return np.convolve(chances, mean)[frames // 2 :][: len(chances)].astype(np.float32)


def _above(level: NDArray[np.float64], begin: float, end: float) -> NDArray[np.bool_]:
    """True from where the level rises over `begin` to where it sinks under `end`."""
    marks = np.where(level >= begin, 1, np.where(level < end, -1, 0))
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(len(marks)), 0))
    return marks[last] > 0


def _runs(on: NDArray[np.bool_]) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], on, [False]))))
    return [Span(float(a) * FRAME, float(b) * FRAME) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _phrases(on: NDArray[np.bool_], duration: float, gap: float, shortest: float, margin: float) -> tuple[Span, ...]:
    """Runs as spans: joined over short gaps, then those that are no blip, with a margin around."""
    runs = [run for run in _joined(_runs(on), gap) if run.length > shortest]
    return _joined([Span(max(run.start - margin, 0.0), min(run.end + margin, duration)) for run in runs], 0.0)


def _joined(spans: Sequence[Span], gap: float) -> tuple[Span, ...]:
    """Spans closer than the gap become one."""
    if not spans:
        return ()
    breaks = [(a, b) for a, b in pairwise(spans) if b.start - a.end > gap]
    starts = [spans[0].start, *(b.start for _, b in breaks)]
    ends = [*(a.end for a, _ in breaks), spans[-1].end]
    return tuple(Span(a, b) for a, b in zip(starts, ends, strict=True))
