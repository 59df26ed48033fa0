"""A spoken line set to notes: WORLD takes the voice apart, its sounds get other lengths and another pitch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs.voices import Missing, Phone, Spoken

FRAME = 0.005  # seconds between two of WORLD's frames
GLIDE = 0.06  # seconds in which the voice goes from one note to the next
VIBRATO = 5.6  # Hz
VIBRATO_DEPTH = 0.25  # semitones
VIBRATO_AFTER = 0.25  # seconds that a note is held before
CONSONANTS = 0.5  # of the time between two vowels at most
LONGER = 0.3  # of what a vowel is stretched, a consonant is too: clearer than a short one between long vowels
ATTACK = 0.04  # seconds at both ends of a vowel that keep their pace


@dataclass(frozen=True, slots=True)
class Note:
    """A syllable's: its vowel begins with it."""

    start: float
    end: float
    pitch: float  # MIDI's number


@dataclass(frozen=True, slots=True, eq=False)
class Sung:
    values: NDArray[np.float64]
    rate: int
    start: float  # seconds in the song
    words: tuple[tuple[float, float], ...]  # start and end of each, seconds in the song


Knots = list[tuple[float, float]]  # a moment in the song, the moment in the spoken line


def sing(spoken: Spoken, notes: Sequence[Note], *, breathy: bool = False, seed: int = 0) -> Sung:
    """The line with a vowel on each note. `breathy` leaves out the vocal folds: whispered."""
    knots, words = placed(spoken.phones, notes)
    moments = np.arange(knots[0][0], knots[-1][0], FRAME)
    source = np.interp(moments, [song for song, _ in knots], [said for _, said in knots])
    pitch = _pitch(moments, notes, np.random.default_rng(seed))
    return Sung(_voiced(spoken, source, pitch, breathy), spoken.rate, knots[0][0], words)


def leave(spoken: Spoken, start: float) -> Sung:
    """The line as it was spoken, from this moment of the song on."""
    first = spoken.phones[0].start
    words = tuple((phone.start - first + start, phone.end - first + start) for phone in spoken.phones)
    return Sung(spoken.values[round(first * spoken.rate) :], spoken.rate, start, words)


def syllables(spoken: Spoken) -> list[int]:
    """The word of each vowel."""
    return [phone.word for phone in spoken.phones if phone.vowel]


def placed(phones: Sequence[Phone], notes: Sequence[Note]) -> tuple[Knots, tuple[tuple[float, float], ...]]:
    """Where each sound goes: consonants keep their length nearly and stand before the beat, vowels fill the rest."""
    vowels = [nth for nth, phone in enumerate(phones) if phone.vowel]
    starts: dict[int, tuple[float, float]] = {}  # a phone's place in the song
    before = phones[: vowels[0]]
    at = notes[0].start - sum(phone.end - phone.start for phone in before)
    for nth, phone in enumerate(before):
        starts[nth] = (at, at := at + phone.end - phone.start)
    for (nth, following), note in zip(pairwise([*vowels, len(phones)]), notes, strict=True):
        between = phones[nth + 1 : following]
        natural = sum(phone.end - phone.start for phone in between)
        length = note.end - note.start
        stretched = length / (natural + phones[nth].end - phones[nth].start)
        share = min(max(1 + (stretched - 1) * LONGER, 1.0), length * CONSONANTS / natural) if natural else 1.0
        at = note.end - natural * share
        starts[nth] = (note.start, at)
        for place, phone in enumerate(between, nth + 1):
            starts[place] = (at, at := at + (phone.end - phone.start) * share)
    knots = [knot for nth, phone in enumerate(phones) for knot in _knots(phone, *starts[nth])]
    count = phones[-1].word + 1
    own = [[starts[nth] for nth, phone in enumerate(phones) if phone.word == word] for word in range(count)]
    return knots, tuple((float(times[0][0]), float(times[-1][1])) for times in own)


def _knots(phone: Phone, start: float, end: float) -> Knots:
    edge = min(ATTACK, (phone.end - phone.start) / 3)
    if not phone.vowel or end - start < phone.end - phone.start:
        return [(start, phone.start), (end - 1e-6, phone.end)]
    return [
        (start, phone.start),
        (start + edge, phone.start + edge),
        (end - edge, phone.end - edge),
        (end - 1e-6, phone.end),
    ]


def _pitch(moments: NDArray[np.float64], notes: Sequence[Note], chance: np.random.Generator) -> NDArray[np.float64]:
    """Hz at each moment."""
    tone = np.full(len(moments), float(notes[0].pitch))
    for before, note in pairwise(notes):
        way = np.clip((moments - (note.start - GLIDE)) / GLIDE, 0, 1)
        tone += (3 * way**2 - 2 * way**3) * (note.pitch - before.pitch)
    for note in notes:
        held = (moments >= note.start) & (moments < note.end)
        since = moments[held] - note.start
        depth = VIBRATO_DEPTH * np.clip((since - VIBRATO_AFTER) / 0.3, 0, 1)
        tone[held] += depth * np.sin(2 * np.pi * VIBRATO * since)
        scoop = 0.7 * np.exp(-since / 0.05)
        tone[held] -= scoop
    drift = np.convolve(chance.normal(0, 1, len(moments) + 60), np.hanning(61) / 61, "valid")
    return 440 * 2 ** ((tone + 0.4 * drift - 69) / 12)


def _voiced(
    spoken: Spoken, source: NDArray[np.float64], pitch: NDArray[np.float64], breathy: bool
) -> NDArray[np.float64]:
    pyworld = _world()
    values = np.ascontiguousarray(spoken.values)
    rough, times = pyworld.dio(values, spoken.rate, frame_period=FRAME * 1000)
    own = pyworld.stonemask(values, rough, times, spoken.rate)
    envelope = pyworld.cheaptrick(values, own, times, spoken.rate)
    noise = pyworld.d4c(values, own, times, spoken.rate)
    place = np.clip(source / FRAME, 0, len(own) - 1.001)
    below, share = place.astype(int), (place % 1)[:, None]
    envelope = np.exp((1 - share) * np.log(envelope[below] + 1e-16) + share * np.log(envelope[below + 1] + 1e-16))
    noise = (1 - share) * noise[below] + share * noise[below + 1]
    voiced = own[np.round(place).astype(int)] > 0
    if breathy:
        voiced[:] = False
        noise[:] = 1.0
    return pyworld.synthesize(
        np.where(voiced, pitch, 0.0),
        np.ascontiguousarray(envelope),
        np.ascontiguousarray(noise),
        spoken.rate,
        frame_period=FRAME * 1000,
    )


def _world() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks setuptools for its own version, which setuptools regrets
            import pyworld
    except ImportError:
        raise Missing("The vocoder WORLD is not here: uv sync --group songs") from None
    return pyworld
