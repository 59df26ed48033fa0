"""How tinydemucs.th was made: a small HTDemucs, trained for some minutes on songs that nobody ever played.

    python -m tests.checkpoints.train_htdemucs --minutes 10

A voice is a row of vowels with vibrato and glides between consonants of noise; beside it play chords, a bass and
drums. Nothing of the demo songs is in it, so that they can judge it.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray

Sound = NDArray[np.float32]

SOURCES = ["drums", "bass", "other", "vocals"]
RATE = 22_050  # half of the real one's, and windows of half its length: the same times, half the work
SEGMENT = Fraction(39, 10)  # seconds; half of the real one's
SHAPE = {
    "sources": SOURCES,
    "channels": 8,
    "nfft": 2048,
    "dconv_mode": 1,
    "bottom_channels": 0,
    "t_layers": 1,
    "t_heads": 2,
    "samplerate": RATE,
    "segment": SEGMENT,
}

LENGTH = int(SEGMENT * RATE)  # samples
POOL = 128  # sounds of each source, mixed anew for every step
JUDGED = 12  # and others to judge by
BATCH = 4
PEAK_RATE = 2e-3  # of learning
VOICE_WEIGHT = 3.0  # of the voice in the loss: it is what is wanted

VOWELS = np.array(  # Hz, the first three formants
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410], [490, 1350, 1690]]
)
FORMANT_LEVELS = np.array([1.0, 0.5, 0.25])
FORMANT_WIDTH = 0.16  # of its frequency
SCALE = np.array([0, 2, 4, 5, 7, 9, 11])  # semitones


def smooth(values: Sound, seconds: float) -> Sound:
    width = max(int(seconds * RATE), 1)
    return np.convolve(values, np.hanning(width + 2)[1:-1] / np.hanning(width + 2).sum(), "same").astype(np.float32)


def noise(random: np.random.Generator, length: int, low: float, high: float) -> Sound:
    """Noise between two frequencies."""
    spectrum = np.fft.rfft(random.normal(size=length))
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, length).astype(np.float32)


def vocals(random: np.random.Generator) -> Sound:
    pitch, loud, hiss = (np.zeros(LENGTH, np.float32) for _ in range(3))
    vowel = np.zeros((LENGTH, 3), np.float32)
    base, key = random.uniform(100, 300), random.integers(12)
    at = int(random.uniform(-0.5, 1.0) * RATE)
    while at < LENGTH:
        for _ in range(random.integers(2, 8)):
            long = int(random.uniform(0.12, 0.8) * RATE)
            note = slice(max(at, 0), max(at + long, 0))
            semitones = (key + random.choice(SCALE) + 12 * random.integers(0, 2)) % 24
            pitch[note] = base * 2 ** (semitones / 12)
            vowel[note] = VOWELS[random.integers(len(VOWELS))] * random.uniform(0.95, 1.2)
            loud[note] = random.uniform(0.4, 1.0)
            if random.random() < 0.6:  # a consonant
                begin = slice(max(at - int(0.03 * RATE), 0), max(at + int(random.uniform(0.02, 0.1) * RATE), 0))
                hiss[begin], loud[begin] = random.uniform(0.03, 0.15), random.choice([0.0, 0.2])
            at += long
        at += int(random.choice([0.1, 0.3, 1.5]) * random.uniform(0.5, 1.5) * RATE)
    pitch[pitch == 0], vowel[vowel[:, 0] == 0] = base, VOWELS[0]
    times = np.arange(LENGTH) / RATE
    vibrato = random.uniform(0.1, 0.6) * np.sin(2 * np.pi * random.uniform(4.5, 6.5) * times + random.uniform(0, 6))
    pitch = smooth(pitch, 0.06) * 2 ** (vibrato / 12)
    pitch *= 1 + 0.004 * smooth(random.normal(size=LENGTH).astype(np.float32), 0.02) * 20
    loud, hiss = smooth(loud, 0.03), smooth(hiss, 0.01)
    formants = np.stack([smooth(vowel[:, one], 0.05) for one in range(3)])
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros(LENGTH, np.float32)
    for harmonic in range(1, 41):
        hertz = harmonic * pitch
        shaped = np.exp(-0.5 * ((hertz - formants) / (FORMANT_WIDTH * formants + 40)) ** 2)
        level = (FORMANT_LEVELS @ shaped + 0.04) / harmonic**0.5 * (hertz < 0.45 * RATE)
        sound += (level * np.sin(harmonic * phase)).astype(np.float32)
    return sound * loud * 0.5 + hiss * noise(random, LENGTH, 2500, 10_000) * 3


def chord(random: np.random.Generator, root: float, length: int, decay: float, bright: float) -> Sound:
    times = np.arange(length) / RATE
    sound = np.zeros(length)
    for interval in (0, random.choice([3, 4]), 7, random.choice([10, 12])):
        hertz = root * 2 ** (interval / 12)
        for harmonic in range(1, int(min(0.45 * RATE / hertz, 24)) + 1):
            level = harmonic**-bright * np.exp(-times * decay * (1 + 0.2 * harmonic))
            sound += level * np.sin(2 * np.pi * harmonic * hertz * times + random.uniform(0, 6))
    attack = np.minimum(times / random.choice([0.003, 0.003, 0.2]), 1) * np.minimum((length / RATE - times) / 0.02, 1)
    return (sound * attack).astype(np.float32)


def rhythm(random: np.random.Generator) -> tuple[int, int]:
    """Samples from beat to beat, and to the first."""
    beat = int(random.uniform(0.25, 0.6) * RATE)
    return beat, int(random.uniform(0, beat))


def other(random: np.random.Generator) -> Sound:
    sound = np.zeros(LENGTH, np.float32)
    beat, at = rhythm(random)
    root, decay, bright = random.uniform(110, 300), random.choice([0.0, 1.0, 4.0]), random.uniform(0.8, 2.0)
    while at < LENGTH:
        long = min(beat * int(random.choice([1, 2, 4])), LENGTH - at)
        played = root * 2 ** (random.choice([0, 5, 7, 9, -3]) / 12)
        sound[at : at + long] += chord(random, played, long, decay, bright)
        at += long
    return sound


def bass(random: np.random.Generator) -> Sound:
    sound = np.zeros(LENGTH, np.float32)
    beat, at = rhythm(random)
    root, decay = random.uniform(40, 75), random.uniform(0.5, 4.0)
    while at < LENGTH:
        long = min(beat * int(random.choice([1, 2])), LENGTH - at)
        times = np.arange(long) / RATE
        hertz = root * 2 ** (random.choice([0, 5, 7, 9, -3]) / 12)
        tone = sum(np.sin(2 * np.pi * k * hertz * times) / k**2 for k in range(1, 6))
        sound[at : at + long] = tone * np.exp(-times * decay) * np.minimum((long / RATE - times) / 0.02, 1)
        at += long
    return sound


def drums(random: np.random.Generator) -> Sound:
    sound = np.zeros(LENGTH, np.float32)
    beat, at = rhythm(random)
    times = np.arange(beat) / RATE
    sweep = 50 * times + random.uniform(3, 8) * (1 - np.exp(-times * 25)) / 2
    kick = np.sin(2 * np.pi * sweep) * np.exp(-times * 10)
    snare = noise(random, beat, 300, 8000) * np.exp(-times * 18) + 0.5 * np.sin(2 * np.pi * 190 * times) * np.exp(
        -times * 22
    )
    hat = noise(random, beat, 5000, 11_000) * np.exp(-times * 50)
    hits = [kick, snare * random.uniform(0.3, 1.0)]
    count = 0
    while at < LENGTH:
        hit = hits[count % 2] + random.uniform(0.2, 0.8) * hat
        hit[beat // 2 :] += 0.5 * hat[: beat - beat // 2]
        sound[at : at + beat] += hit[: LENGTH - at]
        at, count = at + beat, count + 1
    return sound


def stereo(random: np.random.Generator, sound: Sound) -> Sound:
    """At one loudness, somewhere between left and right."""
    sound = sound / (np.sqrt(np.mean(sound**2)) + 1e-3)
    side = random.uniform(-0.4, 0.4)
    return np.stack([sound * (1 + side), sound * (1 - side)]).astype(np.float32)


def pool(random: np.random.Generator, size: int) -> torch.Tensor:
    """(source, sound, channel, sample)"""
    makers = (drums, bass, other, vocals)
    return torch.from_numpy(
        np.stack([np.stack([stereo(random, make(random)) for _ in range(size)]) for make in makers])
    )


def batch(random: np.random.Generator, sounds: torch.Tensor, size: int) -> torch.Tensor:
    """(song, source, channel, sample): sounds that never met, each as loud as chance has it, some silent."""
    songs: list[torch.Tensor] = []
    for _ in range(size):
        chosen = torch.stack([sounds[source, random.integers(sounds.shape[1])] for source in range(len(SOURCES))])
        decibels = random.uniform([-9, -9, -9, -6], [3, 3, 3, 3])
        loud = 10 ** (decibels / 20) * (random.random(len(SOURCES)) > 0.1)
        turned = torch.roll(chosen, int(random.integers(LENGTH)), dims=-1)
        songs.append(turned * torch.tensor(loud, dtype=torch.float32)[:, None, None])
    return torch.stack(songs)


def gain(model: HTDemucs, songs: torch.Tensor) -> float:
    """dB of signal to distortion by which the voice is better than the mix."""
    with torch.inference_mode():
        heard = model(songs.sum(1))[:, -1]
    truth, mix = songs[:, -1], songs.sum(1)
    sung = truth.square().mean((1, 2)) > 1e-3
    before, after = ((truth - guess).square().mean((1, 2))[sung] for guess in (mix, heard))
    return float((10 * torch.log10(before / after)).mean())


def train(model: HTDemucs, minutes: float) -> None:
    random = np.random.default_rng(5)
    sounds = pool(random, POOL)
    judged = batch(np.random.default_rng(6), pool(np.random.default_rng(7), JUDGED), JUDGED)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE)
    weights = torch.tensor([1.0, 1.0, 1.0, VOICE_WEIGHT])[None, :, None, None]
    began, step = time.monotonic(), 0
    while (share := (time.monotonic() - began) / (minutes * 60)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 20) * (0.5 + 0.5 * np.cos(np.pi * share)) + 1e-5
        model.train()
        songs = batch(random, sounds, BATCH)
        loss = ((model(songs.sum(1)) - songs).abs() * weights).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            model.eval()
            print(f"{step}: {share:.2f}, loss {loss.item():.3f}, gain {gain(model, judged):.1f} dB", flush=True)
    model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--into", type=Path, default=Path(__file__).parent / "tinydemucs.th")
    asked = parser.parse_args()
    torch.manual_seed(4)
    torch.set_num_threads(asked.threads)
    model = HTDemucs(**SHAPE)
    train(model, asked.minutes)
    state = {name: values.half() for name, values in model.state_dict().items()}
    torch.save({"klass": HTDemucs, "args": (), "kwargs": SHAPE, "state": state}, asked.into)


if __name__ == "__main__":
    main()
