"""A line as a synthetic voice speaks it, with the time of each sound: espeak-ng's library, festival's programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import wave
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs import espeak
from benchmarks.songs.espeak import COLUMNS, PHONE, WORD, Event

PATIENCE = 60.0  # seconds for a line

FESTIVAL = """
({voice})
(set! said (SynthText "{text}"))
(utt.save.wave said "{sound}")
(let ((nth -1))
  (mapcar (lambda (token)
    (set! nth (+ nth 1))
    (mapcar (lambda (word)
      (mapcar (lambda (syllable)
        (mapcar (lambda (phone)
          (format t "phone %d %s %f %f\\n" nth (item.feat phone "ph_vc")
            (item.feat phone "R:Segment.segment_start") (item.feat phone "R:Segment.end")))
         (item.relation.daughters syllable 'SylStructure)))
       (item.relation.daughters word 'SylStructure)))
     (item.relation.daughters token 'Token)))
   (utt.relation.items said 'Token)))
"""
FESTIVAL_VOICES = {
    "slt": "voice_cmu_us_slt_arctic_hts",
    "kal": "voice_kal_diphone",
    "ked": "voice_ked_diphone",
    "lp": "voice_lp_diphone",
    "pc": "voice_pc_diphone",
}
PACKAGES = {
    "slt": "festvox-us-slt-hts",
    "kal": "festvox-kallpc16k",
    "ked": "festvox-kdlpc16k",
    "lp": "festvox-italp16k",
    "pc": "festvox-itapc16k",
}


class Missing(Exception):
    """A Debian package that a song needs is not here."""


@dataclass(frozen=True, slots=True)
class Phone:
    start: float
    end: float
    word: int
    vowel: bool


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    values: NDArray[np.float64]
    rate: int
    phones: tuple[Phone, ...]


def speak(words: Sequence[str], voice: str) -> Spoken:
    """The words as `slt`, `kal`, `lp`, … of festival or `espeak:LANGUAGE+VARIANT` says them."""
    engine, _, name = voice.rpartition(":")
    spoken = _espeak(words, name) if engine == "espeak" else _festival(words, name)
    if {phone.word for phone in spoken.phones} != set(range(len(words))):
        raise ValueError(f"{voice} leaves out a word of: {' '.join(words)}")
    return spoken


def _festival(words: Sequence[str], name: str) -> Spoken:
    if not shutil.which("festival"):
        raise Missing("Festival is not here: apt-get install festival " + PACKAGES[name])
    with tempfile.TemporaryDirectory() as folder:
        sound, script = Path(folder, "said.wav"), Path(folder, "say.scm")
        # Apostrophes are festival's own; anything else but words would become tokens of their own.
        text = " ".join(words).replace("’", "'").replace('"', "")
        script.write_text(
            FESTIVAL.format(voice=FESTIVAL_VOICES[name], text=text, sound=sound), encoding=_encoding(name)
        )
        done = subprocess.run(["festival", "--batch", script], capture_output=True, timeout=PATIENCE, check=False)
        if not sound.exists():
            raise Missing(f"Festival has no voice {name}: apt-get install {PACKAGES[name]}")
        rows = [line.split()[1:] for line in done.stdout.decode("latin-1").splitlines() if line.startswith("phone ")]
        with wave.open(str(sound)) as file:
            rate, frames = file.getframerate(), file.readframes(file.getnframes())
    tokens = sorted({int(row[0]) for row in rows})  # punctuation is a token too, without a sound
    phones = [Phone(float(row[2]), float(row[3]), tokens.index(int(row[0])), row[1] == "+") for row in rows]
    if len(tokens) != len(words):
        raise ValueError(f"{name} reads {len(tokens)} words in: {text}")
    return Spoken(np.frombuffer(frames, np.int16) / 32768, rate, tuple(phones))


def _encoding(name: str) -> str:
    return "latin-1" if name in ("lp", "pc") else "ascii"


def _espeak(words: Sequence[str], name: str) -> Spoken:
    """What espeak-ng says; words that it draws together ("in the") are told apart by how long each is alone."""
    sound, rate, events = _said(" ".join(words), name)
    places = list(accumulate((len(word) + 1 for word in words[:-1]), initial=1))  # of each word's first character
    moments = [*(event.moment for event in events if event.kind == PHONE), len(sound) / rate]
    groups: dict[int, list[Event]] = {}  # by the first of their words
    first = 0
    for event in events:
        if event.kind == WORD and event.place:
            first = max(first, bisect_right(places, event.place) - 1)
        elif event.kind == PHONE and _is_sound(event.label):
            groups.setdefault(first, []).append(event)
    phones: list[Phone] = []
    for (first, sounds), last in zip(groups.items(), [*list(groups)[1:], len(words)], strict=True):
        for event, owner in zip(sounds, _owners(words[first:last], len(sounds), name), strict=True):
            end = moments[min(bisect_right(moments, event.moment), len(moments) - 1)]
            phones.append(Phone(event.moment, end, first + owner, _is_vowel(event.label)))
    return Spoken(sound, rate, tuple(phones))


def _owners(words: Sequence[str], sounds: int, name: str) -> list[int]:
    """To which of the words each of the sounds belongs."""
    if len(words) == 1:
        return [0] * sounds
    alone = [max(sum(kind == PHONE and _is_sound(label) for kind, _, _, label in _said(w, name)[2]), 1) for w in words]
    edges = np.cumsum(alone) / sum(alone) * sounds
    return [int(np.searchsorted(edges, nth + 0.5)) for nth in range(sounds)]


@cache
def _said(text: str, name: str) -> tuple[NDArray[np.float64], int, list[Event]]:
    """By a process of its own: in one that has spoken before, espeak-ng would not say the same words as before."""
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "said.npz")
        command = [sys.executable, espeak.__file__, name, text, sound]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if not sound.exists():
            raise Missing(done.stderr.strip().splitlines()[-1])
        with np.load(sound) as said:
            events = zip(*(said[column].tolist() for column in COLUMNS), strict=True)
            return said["sound"] / 32768, int(said["rate"]), [Event(*event) for event in events]


def _is_sound(label: str) -> bool:
    """Pauses have no label; a change of language stands in brackets."""
    return bool(label) and not label.startswith("(")


def _is_vowel(label: str) -> bool:
    letters = unicodedata.normalize("NFD", label)
    return bool(re.search("[aeiouyɑɐɒæɔəɘɛɜɝɚɞɨɪʊʉʌɵøœɶɤɯᵻ]", letters)) and not re.match("[jwɥ]", letters)
