"""Our overlap-add against Demucs' own loop, on the same checkpoint of htdemucs' real size and the same minute of sound.

Each side is a process of its own, so that its peak of memory is its own. They take turns, and the median counts: a
machine that is busy with something else is so for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import checkpoint
from infra.settings import settings
from tasks import models
from tasks.audio import Chunk

SIDES = {"demucs": "float32", "float32": "float32", "best": "auto"}
RATE = 44_100
PIECE = 65_536  # samples that come at a time, as from a decoder


def sound(seconds: float) -> Chunk:
    """Noise that swells, as loud as Demucs wants its songs; to the network one sound is as much work as another."""
    length = int(seconds * RATE)
    swell = 1 + 0.5 * np.sin(np.arange(length) / RATE)
    mix = np.random.default_rng(1).normal(size=(2, length)) * swell
    return (mix / mix.std()).astype(np.float32)


def theirs() -> Callable[[Chunk], Chunk]:
    from demucs.apply import apply_model
    from demucs.pretrained import get_model

    model = get_model(checkpoint.NAME, repo=settings().demucs_repo)
    voice = model.sources.index("vocals")
    device = models.torch_device()

    def separate(mix: Chunk) -> Chunk:
        stems = apply_model(model, torch.from_numpy(mix)[None], shifts=0, device=device)[0]
        return torch.stack([stems[voice], stems.sum(0) - stems[voice]]).numpy()

    return separate


def ours() -> Callable[[Chunk], Chunk]:
    from tasks.separate.ladder import Pace, Way
    from tasks.separate.model import load
    from tasks.separate.overlap import pieces, summed

    way = Way(models.torch_device())
    bag = load(checkpoint.NAME, way, models.nobody)

    def separate(mix: Chunk) -> Chunk:
        length, pace = mix.shape[1], Pace(way.device, lambda batch: None)
        coming = (mix[:, begin : begin + PIECE] for begin in range(0, length, PIECE))
        stems = np.empty((2, *mix.shape), np.float32)
        done = 0
        for piece in summed([pieces(part, coming, length, way, pace) for part in bag.parts]):
            stems[..., done : done + piece.shape[-1]] = piece
            done += piece.shape[-1]
        return stems

    return separate


def side(name: str, seconds: float, into: Path) -> None:
    """One side's process: a time for every line that it reads; at the end its memory."""
    separate = theirs() if name == "demucs" else ours()
    mix = sound(seconds)
    separate(mix[:, : 2 * RATE])  # warm
    for _ in sys.stdin:
        began = time.perf_counter()
        stems = separate(mix)
        print(time.perf_counter() - began, flush=True)
        np.save(into / name, stems)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0)


def measured(seconds: float, rounds: int, into: Path) -> dict[str, Any]:
    checkpoint.write(into)
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.separate", "--side", name, "--seconds", str(seconds), "--into", into],
            env=os.environ | {"DEMUCS_REPO": str(into), "DEMUCS_PRECISION": precision},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, precision in SIDES.items()
    }
    took: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, process in processes.items():
            print("go", file=process.stdin, flush=True)
            took[name].append(float(process.stdout.readline()))
            print(f"{name}: {took[name][-1]:.1f} s", flush=True)
    peaks: dict[str, list[float]] = {}
    for name, process in processes.items():
        peaks[name] = [float(line) for line in process.communicate(timeout=60)[0].split()]
        assert process.returncode == 0
    seconds_of = {name: statistics.median(times) for name, times in took.items()}
    stems = {name: np.load(into / f"{name}.npy") for name in SIDES}
    off = {name: np.abs(stems[name] - stems["demucs"]) for name in ("float32", "best")}
    power = {
        name: float(np.mean(np.square(values, dtype=np.float64)))
        for name, values in (("best", off["best"]), ("demucs", stems["demucs"]))
    }
    return {
        "ratio": round(seconds_of["demucs"] / seconds_of["best"], 2),
        "ratio_float32": round(seconds_of["demucs"] / seconds_of["float32"], 2),
        "largest_difference": float(off["float32"].max()),
        "largest_difference_best": float(off["best"].max()),
        "loudest": float(np.abs(stems["demucs"]).max()),
        "decibels_best": round(10 * np.log10(power["demucs"] / power["best"]), 1),
        "peak_mb": round(peaks["best"][0]),
        "peak_float32_mb": round(peaks["float32"][0]),
        "demucs_peak_mb": round(peaks["demucs"][0]),
        "gpu_peak_mb": round(peaks["best"][1]),
        "rtf": round(seconds / seconds_of["best"], 1),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    if asked.side:
        side(asked.side, asked.seconds, asked.into)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(asked.seconds, asked.rounds, Path(folder))))


if __name__ == "__main__":
    main()
