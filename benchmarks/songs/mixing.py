"""Voices and band put together: room, levels, files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.songs.backing import RATE
from benchmarks.songs.singing import Sung

VOICE_LEVEL = 0.06  # RMS where words are sung
ROOM = 0.25  # seconds that the room sounds
WET = 0.04  # of the voice's energy, in the room's sound
PEAK = 0.97
BITS = 96_000  # a second, of opus


def track(sung: Sequence[Sung], seconds: float, *, driven: bool = False, seed: int = 0) -> NDArray[np.float64]:
    """The voices in one channel as long as the song, with some room around; `driven` as a shout is."""
    found = np.zeros(round(seconds * RATE))
    for line in sung:
        values = resampled(line.values, line.rate)
        values *= VOICE_LEVEL / (np.sqrt(np.mean(values**2)) + 1e-9)
        if driven:
            values = 0.1 * np.tanh(np.diff(values, prepend=0.0) * 12 + values * 12)
        first = round(line.start * RATE)
        values = values[: max(len(found) - first, 0)]
        found[first : first + len(values)] += values
    return _in_a_room(found, np.random.default_rng(seed))


def level(values: NDArray[np.float64], words: Sequence[tuple[float, float]]) -> float:
    """RMS of the channels where words are sung."""
    parts = [values[round(start * RATE) : round(end * RATE)] for start, end in words]
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))


def mixed(vocals: NDArray[np.float64], backing: NDArray[np.float64], decibels: float) -> NDArray[np.float64]:
    """The voice so much louder than it is against the backing."""
    both = vocals[:, None] + backing * 10 ** (-decibels / 20)
    return both * min(1.0, PEAK / float(np.abs(both).max()))


def resampled(values: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    import av

    frame = av.AudioFrame.from_ndarray(values.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    return np.concatenate([piece.to_ndarray()[0] for f in (frame, None) for piece in resampler.resample(f)]).astype(
        float
    )


def write(path: Path, values: NDArray[np.float64]) -> None:
    """As opus, in one channel or two."""
    import av

    samples = np.atleast_2d(values.T).astype(np.float32)
    layout = "mono" if len(samples) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus", rate=RATE, layout=layout)
        stream.bit_rate = BITS
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate = RATE
        fifo = av.AudioResampler(format="flt", layout=layout, rate=RATE, frame_size=RATE // 50)
        for given in (frame, None):
            for piece in fifo.resample(given):
                container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def _in_a_room(values: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.float64]:
    length = round(ROOM * RATE)
    decay = chance.normal(0, 1, length) * np.exp(-6.9 * np.arange(length) / length)
    decay[: RATE // 100] = 0.0
    decay *= np.sqrt(WET / np.sum(decay**2))
    size = 1 << (len(values) + length).bit_length()
    room = np.fft.irfft(np.fft.rfft(values, size) * np.fft.rfft(decay, size), size)[: len(values)]
    return values + room
