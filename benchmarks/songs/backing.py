"""What plays behind the voice: a band's notes as MIDI, played by fluidsynth with a General MIDI sound font."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs.melody import Key
from benchmarks.songs.voices import Missing

RATE = 48_000
PATIENCE = 300.0  # seconds for a song
SOUND_FONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf2/default-GM.sf2")
BEATS = 4  # a bar
TICKS = 480  # a beat
DRUMS = 9  # General MIDI's channel of drums
KICK, SNARE, CLAP, HAT, OPEN_HAT, CRASH, SHAKER = 36, 38, 39, 42, 46, 49, 70


@dataclass(frozen=True, slots=True)
class Style:
    """General MIDI's programs, and figures in beats of a bar."""

    chords: int
    bass: int
    lead: int
    pad: int | None
    strum: tuple[float, ...]  # when the chord is struck
    arpeggio: bool = False
    drums: tuple[tuple[int, tuple[float, ...]], ...] = ()


EIGHTHS = tuple(n / 2 for n in range(8))
STYLES = {
    "pop": Style(0, 33, 80, 89, (0, 1.5, 2, 3.5), False, ((KICK, (0, 2, 2.5)), (SNARE, (1, 3)), (HAT, EIGHTHS))),
    "folk": Style(25, 32, 73, None, EIGHTHS, True, ((SHAKER, EIGHTHS),)),
    "rock": Style(30, 34, 29, None, EIGHTHS, False, ((KICK, (0, 1.5, 2)), (SNARE, (1, 3)), (OPEN_HAT, (0, 1, 2, 3)))),
    "edm": Style(
        81, 38, 87, 90, (0.5, 1.5, 2.5, 3.5), False, ((KICK, (0, 1, 2, 3)), (CLAP, (1, 3)), (HAT, (0.5, 1.5, 2.5, 3.5)))
    ),
    "ballad": Style(0, 32, 40, 48, EIGHTHS, True, ()),
    "hiphop": Style(
        4,
        38,
        11,
        89,
        (0, 2.5),
        False,
        ((KICK, (0, 0.75, 2.5)), (SNARE, (1, 3)), (HAT, tuple(n / 4 for n in range(16)))),
    ),
}


@dataclass(frozen=True, slots=True)
class Hit:
    beat: float  # in the song
    length: float  # beats
    channel: int
    pitch: int
    loud: int  # 1–127


def play(style: Style, key: Key, tempo: float, bars: int, led: Sequence[int], seed: int) -> NDArray[np.float64]:
    """The band over so many bars; a lead instrument plays in those where nobody sings."""
    hits = [hit for bar in range(bars) for hit in _bar(style, key, bar, bar in led, np.random.default_rng((seed, bar)))]
    return _rendered(_midi(hits, (style.chords, style.bass, style.lead, style.pad), tempo))


def _bar(style: Style, key: Key, bar: int, led: bool, chance: np.random.Generator) -> Iterator[Hit]:
    first, chord = bar * BEATS, key.chord(bar)
    tones = [key.pitch(degree) for degree in chord]
    for nth, beat in enumerate(style.strum):
        struck = [tones[(0, 1, 2, 1)[nth % 4]] + 12 * (nth % 4 == 3)] if style.arpeggio else tones
        for tone in struck:
            yield Hit(first + beat, 0.9 if style.arpeggio else 0.5, 0, tone, int(chance.integers(58, 78)))
    for beat in (0, 1, 2, 3) if style.drums else (0, 2):
        yield Hit(first + beat, 0.9, 1, tones[0] - 24, 85)
    if style.pad is not None:
        for tone in tones:
            yield Hit(first, BEATS, 3, tone + 12, 45)
    if led:
        for beat in (0, 1, 1.5, 2, 3):
            if chance.random() < 0.85:
                degree = chord[int(chance.integers(3))] + 7 + int(chance.integers(-1, 2)) * (beat % 1 > 0)
                yield Hit(first + beat, 0.8, 2, key.pitch(degree), 84)
    for drum, beats in style.drums:
        for beat in beats:
            yield Hit(first + beat, 0.2, DRUMS, drum, int(chance.integers(70, 95)))


def _midi(hits: Sequence[Hit], programs: Sequence[int | None], tempo: float) -> bytes:
    """A file of one track."""
    events = [(0, bytes((0xC0 | channel, program))) for channel, program in enumerate(programs) if program is not None]
    events.insert(0, (0, b"\xff\x51\x03" + round(60e6 / tempo).to_bytes(3, "big")))
    for hit in hits:
        on, off = round(hit.beat * TICKS), round((hit.beat + hit.length) * TICKS)
        events.append((on, bytes((0x90 | hit.channel, hit.pitch, hit.loud))))
        events.append((off, bytes((0x80 | hit.channel, hit.pitch, 0))))
    track, now = bytearray(), 0
    for tick, event in sorted(events, key=lambda event: (event[0], event[1][0] & 0xF0 != 0x80)):
        track += _variable(tick - now) + event
        now = tick
    track += b"\x00\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, TICKS, b"MTrk", len(track)) + bytes(track)


def _variable(number: int) -> bytes:
    """MIDI's numbers of any length: seven bits a byte, all but the last marked."""
    found = [number & 0x7F]
    while number := number >> 7:
        found.append(number & 0x7F | 0x80)
    return bytes(reversed(found))


def _rendered(midi: bytes) -> NDArray[np.float64]:
    """Its sound: (sample, channel)."""
    font = next((font for font in SOUND_FONTS if Path(font).exists()), None)
    if not shutil.which("fluidsynth") or font is None:
        raise Missing("Fluidsynth or its sounds are not here: apt-get install fluidsynth fluid-soundfont-gm")
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "song.mid"), Path(folder, "song.wav")
        score.write_bytes(midi)
        command = ["fluidsynth", "-ni", "-q", "-F", sound, "-r", str(RATE), "-T", "wav", "-O", "s16", font, score]
        subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
        with wave.open(str(sound)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2) / 32768
