"""python -m benchmarks.letters --out FILE [--minutes N] [--epochs N] [--songs DIR]

Trains the network of `tasks/letters`: which letter is sung, by the features of whisper base's encoder.

Synthetic voices sing, rap, shout and whisper sentences out of the translations of this machine's programs (Debian's
/usr/share/locale), alone and over backings at 9 to -5 dB, some of it through opus; noise and backings without a voice
are heard, too, and songs that `python -m benchmarks.songs` made are added. A word's time is known, its letters' are
not: they share it evenly at first, then each goes where the network hears it, twice over.

The shipped weights came about in steps, by scripts that this one sums up: 128 hidden units learned from 120 chunks,
each heard alone and in two mixes, and the songs of the set `dev`. Widened to 160, they went on learning with 93 chunks
more (shouts, whispers, high notes, other vibratos; each alone and in a mix at 6 to -3 dB) and 32 pieces without a
voice: noise, drums, strings, choirs, backings.
"""

from __future__ import annotations

import gettext
import json
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.songs import melody
from benchmarks.songs.backing import STYLES, Style, play
from benchmarks.songs.mixing import RATE as WRITTEN
from benchmarks.songs.mixing import write
from benchmarks.songs.singing import sing, syllables
from benchmarks.songs.voices import Missing, speak
from tasks import models
from tasks.audio import RATE, decode
from tasks.known.sounds import spoken
from tasks.letters import FRAME, MODEL, columns
from tasks.transcribe.ear import Ear
from tasks.transcribe.whisper import FasterWhisper

LOCALE = Path("/usr/share/locale")
VOICES = {
    "en": ("slt", "kal", "ked", "espeak:en-us", "espeak:en-gb", "espeak:en-gb-x-rp", "espeak:en-gb-scotland"),
    "it": ("lp", "pc", "espeak:it"),
    "es": ("espeak:es", "espeak:es-419"),
    "de": ("espeak:de",),
    "fr": ("espeak:fr", "espeak:fr-be", "espeak:fr-ch"),
    "pt": ("espeak:pt", "espeak:pt-br"),
}
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5")
LANGUAGES = ("en", "en", "fr", *VOICES)  # by lot: English is asked most, French is heard worst
MANNERS = ("sing", "sing", "sing", "high", "rap", "shout", "whisper")  # by lot, one a chunk
HIGHER = {"high": 10, "shout": 7}  # semitones over the usual
CHUNK = 26.0  # seconds of singing that are heard at a time
RATIOS = (None, (9, 6, 3, 0), (3, 0, 0, -3, -5))  # dB of the voice over the backing; each chunk is heard in each way
CODED = 0.4  # of what is heard has been through opus
VOICELESS = 0.1  # of the lessons are noise or a backing
COLOURS = (0, 0, 1, 2)  # power by which noise falls with its frequency: white, pink, brown
STRINGS = Style(48, 43, 48, 49, (0,), True)  # with General MIDI's choirs they are the nearest to a voice
CHOIR = Style(52, 32, 53, 52, (0,), True)
LETTERS = 27
HIDDEN = 160
NEAR = 5  # frames that the second layer sees
SKIPPED = -2.0  # log-likelihood of a letter that is written and not sung
HOP = round(FRAME * RATE)

Words = list[tuple[str, float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    features: np.ndarray
    words: Words
    language: str

    def spans(self) -> Iterator[tuple[list[int], int, int]]:
        """The letters of each word, and its frames."""
        for word, start, end in self.words:
            first, last = (
                round(start / FRAME),
                min(max(round(end / FRAME), round(start / FRAME) + 1), len(self.features)),
            )
            if (letters := columns(spoken(word, self.language))) and first < last:
                yield letters, first, last


def main(
    out: Annotated[Path, typer.Option(help="The file of the network.")],
    minutes: Annotated[float, typer.Option(help="Of singing.")] = 60.0,
    epochs: Annotated[int, typer.Option(help="In each of three rounds.")] = 5,
    songs: Annotated[Path | None, typer.Option(help="A folder of songs with their truth.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn by lot.")] = 0,
) -> None:
    """Make the singing, hear it, train."""
    began = time.perf_counter()
    chance, lot = np.random.default_rng(seed), random.Random(seed)
    ear = FasterWhisper(MODEL, models.locate(MODEL), "cpu").ear()
    lessons = [lesson for chunk in _chunks(minutes * 60, lot, chance) for lesson in _heard(ear, *chunk, lot, chance)]
    lessons += [_voiceless(ear, lot, chance) for _ in range(round(len(lessons) * VOICELESS))]
    lessons += list(_songs(ear, songs)) if songs else []
    loss = _trained(lessons, epochs, seed, out)
    frames = sum(len(lesson.features) for lesson in lessons)
    print(json.dumps({"minutes": round(frames * FRAME / 60, 1), "loss": loss, "s": round(time.perf_counter() - began)}))


# --- singing ------------------------------------------------------------------------------------


def _sentences(language: str) -> list[list[str]]:
    """What programs say in this language, without signs and figures."""
    found: set[str] = set()
    folders = {"pt": ("pt_BR", "pt"), "en": ("es",)}.get(language, (language,))
    for file in (file for folder in folders for file in (LOCALE / folder / "LC_MESSAGES").glob("*.mo")):
        try:
            with file.open("rb") as opened:
                catalog: dict[Any, str] = getattr(gettext.GNUTranslations(opened), "_catalog", {})
        except UnicodeDecodeError:  # an old one, in another encoding than it says
            continue
        for key, value in catalog.items():
            text = (key[0] if isinstance(key, tuple) else key) if language == "en" else value
            found |= {part.strip() for part in re.split(r"[^\w\s'’]|[\d_]", text) if len(part.split()) >= 3}
    return [text.split() for text in sorted(found) if all(len(word) <= 11 for word in text.split())]


def _chunks(seconds: float, lot: random.Random, chance: np.random.Generator) -> Iterator[tuple[np.ndarray, Words, str]]:
    """Stretches of singing with silences between the lines."""
    sentences = {language: _sentences(language) for language in VOICES}
    for _ in range(round(seconds / CHUNK)):
        language, manner = lot.choice(LANGUAGES), lot.choice(MANNERS)
        singers = cycle([_singer(language, lot) for _ in range(lot.choice((1, 1, 2)))])
        sound, words, at = np.zeros(round((CHUNK + 1) * RATE)), [], lot.uniform(0.1, 2.5)
        for voice in singers:
            values, own = _line(lot.choice(sentences[language]), voice, manner, lot, chance)
            if at + len(values) / RATE > CHUNK:
                break
            sound[round(at * RATE) :][: len(values)] += values
            words += [(word, at + start, at + end) for word, start, end in own]
            at += len(values) / RATE + lot.choice((lot.uniform(0.15, 0.9), lot.uniform(0.9, 3.0)))
        yield sound, words, language


def _singer(language: str, lot: random.Random) -> str:
    voice = lot.choice(VOICES[language])
    return f"{voice}+{lot.choice(VARIANTS)}" if voice.startswith("espeak") else voice


def _line(
    said: Sequence[str], voice: str, manner: str, lot: random.Random, chance: np.random.Generator
) -> tuple[np.ndarray, Words]:
    """A few of the words in one manner; nothing where the voice cannot say them."""
    words = list(said[: lot.randint(2, 9)])
    try:
        spoken = speak(words, voice)
    except (Missing, ValueError):
        return np.zeros(0), []
    vowels = syllables(spoken)
    if not vowels or {phone.word for phone in spoken.phones} != set(range(len(words))):
        return np.zeros(0), []
    lowest = (57 if voice in ("slt", "lp") or "+f" in voice else 45) + lot.randint(-4, 6) + HIGHER.get(manner, 0)
    if manner in ("rap", "whisper"):
        starts = [phone.start for phone in spoken.phones if phone.vowel]
        pace = lot.uniform(0.15, 0.3) if manner == "rap" else lot.uniform(0.25, 0.6)  # seconds a syllable
        notes = melody.rapped(starts, spoken.phones[-1].end, len(vowels) * pace, lowest, chance)
    else:
        key = melody.Key(lot.randint(55, 66), lot.choice(("major", "minor")), (0, 4, 5, 3))
        notes = melody.sung(words, vowels, key, 0, 2, len(vowels) * lot.uniform(0.22, 0.75), lowest, chance)
    sung = sing(spoken, notes, breathy=manner == "whisper", seed=lot.randrange(1 << 30))
    values = np.interp(np.arange(0, len(sung.values), sung.rate / RATE), np.arange(len(sung.values)), sung.values)
    own = [(word, start - sung.start, end - sung.start) for word, (start, end) in zip(words, sung.words, strict=True)]
    values *= 0.1 / (np.sqrt(np.mean(values**2)) + 1e-9)
    return 0.1 * np.tanh(np.diff(values, prepend=0.0) * 12 + values * 12) if manner == "shout" else values, own


# --- hearing ------------------------------------------------------------------------------------


def _heard(
    ear: Ear, sound: np.ndarray, words: Words, language: str, lot: random.Random, chance: np.random.Generator
) -> Iterator[Lesson]:
    for ratios in RATIOS:
        mixed = _coloured(sound, chance)
        if ratios:
            style = STYLES[lot.choice(list(STYLES))]
            backing = _coloured(_backing(style, len(sound), lot, chance), chance)
            mixed = mixed + backing * _level(mixed) / _level(backing) * 10 ** (-lot.choice(ratios) / 20)
        mixed = mixed / (np.abs(mixed).max() + 1e-9) * lot.uniform(0.2, 0.95)
        mixed = _coded(mixed) if lot.random() < CODED else mixed
        features = ear.features(mixed.astype(np.float32))[: len(sound) // HOP]
        yield Lesson(features.astype(np.float16), words, language)


def _voiceless(ear: Ear, lot: random.Random, chance: np.random.Generator) -> Lesson:
    """What is not to be taken for a voice, to its very end."""
    length = round(lot.uniform(4.0, CHUNK) * RATE)
    if lot.random() < 0.5:
        spectrum = np.fft.rfft(chance.normal(0, 1, length))
        places = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 20.0)
        sound = np.fft.irfft(spectrum * places ** (-lot.choice(COLOURS) / 2), length)
    else:
        sound = _coloured(_backing(lot.choice((*STYLES.values(), STRINGS, CHOIR)), length, lot, chance), chance)
    sound *= 10 ** lot.uniform(-2.7, -0.3) / np.abs(sound).max()
    return Lesson(ear.features(sound.astype(np.float32))[: length // HOP].astype(np.float16), [], "en")


def _coded(sound: np.ndarray) -> np.ndarray:
    """As opus leaves it."""
    with tempfile.TemporaryDirectory() as folder:
        places = np.arange(0, len(sound), RATE / WRITTEN)
        write(file := Path(folder) / "sound.opus", np.interp(places, np.arange(len(sound)), sound))
        return np.pad(decode(file, max_seconds=60.0).values, (0, HOP))[: len(sound)]


def _backing(style: Style, length: int, lot: random.Random, chance: np.random.Generator) -> np.ndarray:
    key = melody.Key(lot.randint(55, 66), "minor", (0, 5, 2, 6))
    played = play(style, key, lot.uniform(85, 125), 16, (0, 3, 6), int(chance.integers(1 << 30)))
    mono = played.mean(axis=1)[:: WRITTEN // RATE]
    return np.resize(mono, length)


def _coloured(sound: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """As another microphone would have it."""
    spectrum, places = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / RATE)
    points = np.array([0, 150, 400, 1000, 2500, 5000, 8000])
    return np.fft.irfft(spectrum * 10 ** (np.interp(places, points, chance.normal(0, 4, len(points))) / 20), len(sound))


def _level(sound: np.ndarray) -> float:
    """Of what is not silence."""
    power = (sound[: len(sound) // HOP * HOP].reshape(-1, HOP) ** 2).mean(axis=1)
    return float(np.sqrt(power[power > np.percentile(power, 95) / 100].mean() + 1e-12))


def _songs(ear: Ear, folder: Path) -> Iterator[Lesson]:
    for file in sorted(folder.glob("*.json")):
        truth = json.loads(file.read_text())
        for part in ("vocals", "mix0"):
            if not (sound := file.with_suffix(f".{part}.opus")).exists():
                continue
            values = decode(sound, max_seconds=3600).values
            for begin in range(0, len(values) - 5 * RATE, round(CHUNK * RATE)):
                at = begin / RATE
                own = [w for w in truth["words"] if at <= w["start"] < at + CHUNK]
                piece = values[begin : begin + round(CHUNK * RATE)]
                features = ear.features(piece)[: len(piece) // HOP].astype(np.float16)
                words = [(w["word"], w["start"] - at, w["end"] - at) for w in own]
                yield Lesson(features, words, truth["language"] or "en")


# --- training -----------------------------------------------------------------------------------


def _evenly(lesson: Lesson) -> np.ndarray:
    targets = np.zeros(len(lesson.features), np.int64)
    for letters, first, last in lesson.spans():
        targets[first:last] = [letters[n * len(letters) // (last - first)] for n in range(last - first)]
    return targets


def _aligned(lesson: Lesson, logs: np.ndarray) -> np.ndarray:
    """Each word's letters where the network hears them, in its frames; one or another may be silent."""
    targets = np.zeros(len(lesson.features), np.int64)
    for letters, first, last in lesson.spans():
        own = logs[first:last][:, letters]
        score = np.full(len(letters) + 2, -np.inf)
        score[2] = own[0, 0]
        if len(letters) > 1:
            score[3] = own[0, 1] + SKIPPED
        came: list[np.ndarray] = []
        for row in own[1:]:
            ways = np.stack((score[2:], score[1:-1], score[:-2] + SKIPPED))
            came.append(ways.argmax(0))
            score[2:] = ways.max(0) + row
        at = len(letters) - 1
        for frame, step in zip(range(last - 1, first - 1, -1), [*came[::-1], np.zeros(len(letters), int)], strict=True):
            targets[frame] = letters[at]
            at -= int(step[at])
    return targets


def _trained(lessons: Sequence[Lesson], epochs: int, seed: int, out: Path) -> float:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    lot = np.random.default_rng(seed)
    first, second = nn.Linear(512, HIDDEN), nn.Conv1d(HIDDEN, HIDDEN, NEAR, padding=NEAR // 2)
    last, dropped = nn.Linear(HIDDEN, LETTERS), nn.Dropout(0.1)
    every = np.concatenate([lesson.features[::7].astype(np.float32) for lesson in lessons])
    mean, scale = torch.from_numpy(every.mean(0)), torch.from_numpy(every.std(0) + 1e-3)

    def scores(features: np.ndarray) -> torch.Tensor:
        hidden = torch.relu(first((torch.from_numpy(features).float() - mean) / scale))
        near = second(dropped(hidden).T[None])[0].T
        return last(hidden + torch.relu(near))

    layers = nn.ModuleList((first, second, last, dropped))
    targets = [_evenly(lesson) for lesson in lessons]
    loss = 0.0
    for turn in range(3):
        if turn:
            layers.eval()
            with torch.no_grad():
                logs = (torch.log_softmax(scores(lesson.features), -1).numpy() for lesson in lessons)
                targets = [_aligned(lesson, own) for lesson, own in zip(lessons, logs, strict=True)]
        layers.train()
        optimizer = torch.optim.AdamW(layers.parameters(), 1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(lessons))
        for _ in range(epochs):
            losses: list[float] = []
            for nth in lot.permutation(len(lessons)):
                error = nn.functional.cross_entropy(
                    scores(lessons[nth].features), torch.from_numpy(targets[nth]), label_smoothing=0.05
                )
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
                losses.append(error.item())
            loss = round(float(np.mean(losses)), 4)
            print(f"round {turn + 1}: {loss}", flush=True)
    prior = np.bincount(np.concatenate(targets), minlength=LETTERS) / sum(map(len, targets))
    weights = {
        "mean": mean,
        "scale": scale,
        "first": first.weight.T,
        "first_bias": first.bias,
        "second": second.weight.permute(2, 1, 0),
        "second_bias": second.bias,
        "last": last.weight.T,
        "last_bias": last.bias,
        "prior": torch.from_numpy(np.log(prior + 1e-4)),
    }
    np.savez_compressed(out, **{name: value.detach().numpy().astype(np.float16) for name, value in weights.items()})
    return loss


if __name__ == "__main__":
    typer.run(main)
