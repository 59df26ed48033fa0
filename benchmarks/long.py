"""Whether memory stays flat however long the sound is: separation at 5 and 20 minutes, the whole stage at two hours.

Each in a process of its own, for a peak is never forgotten. Separation runs the small model of the tests: what
would grow with the song is the sound, not the model, and two hours of the real one would take as long on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from infra.jobs.request import Request
from tasks import models
from tasks.audio import RATE, decode
from tasks.gpu import sing
from tasks.separate import separate
from tasks.song import Audio
from tests.running import DEMO, ROOT

MINUTES = {"separate_5min": 5, "separate_20min": 20, "peak_2h": 120}
MODEL = "base"


def long_song(path: Path, minutes: float) -> Audio:
    """The demo song over and over."""
    once = (decode(DEMO / "harbor-light.mix.opus", max_seconds=900).values * 32767).astype(np.int16)
    seconds = minutes * 60
    with av.open(path, "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        for begin in range(0, round(seconds * RATE), len(once)):
            samples = once[: round(seconds * RATE) - begin]
            frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Audio(path, seconds)


def measure(part: str, folder: Path) -> None:
    """One part's process; its last line is its peak."""
    audio = long_song(folder / f"{part}.flac", MINUTES[part])
    if part == "peak_2h":
        sing(audio, Request(link="upload:long", model=MODEL, separate=False))
    else:
        separate(audio, folder / part, models.nobody, "cpu", insisted=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def peak(part: str, folder: Path) -> int:
    environment = os.environ | {
        "MAX_MINUTES": "130",
        "DEMUCS_REPO": str(ROOT / "tests" / "checkpoints"),
        "DEMUCS_MODEL": "tinydemucs",
    }
    command = [sys.executable, "-m", "benchmarks.long", "--part", part, "--into", str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=MINUTES, help="this part alone")
    parser.add_argument("--part", choices=MINUTES)
    parser.add_argument("--into", type=Path)
    asked = parser.parse_args()
    if asked.part:
        measure(asked.part, asked.into)
        return
    figures: dict[str, int] = {}
    for part in [asked.only] if asked.only else MINUTES:
        with tempfile.TemporaryDirectory() as folder:
            figures[f"{part}_mb"] = peak(part, Path(folder))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
