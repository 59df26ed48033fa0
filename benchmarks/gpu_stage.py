"""The whole GPU stage on a warm process, against the commands that a user would run: `demucs`, then `whisperx`.

A song of a minute, the same weights on both sides: a separator of htdemucs' size (benchmarks/checkpoint.py), whisper
base, and the small aligner of the tests. Ours is asked to align, too. On a machine with a GPU both use it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from benchmarks import checkpoint
from infra.jobs.request import Request
from infra.settings import settings
from tasks import gpu, models
from tasks.audio import probe, stream
from tasks.separate.writing import writer
from tasks.song import Audio, Song
from tests.running import DEMO, ROOT

SONG = DEMO / "harbor-light.vocals.opus"
ALIGNER = ROOT / "tests" / "checkpoints" / "tinyctc"
ASKED = Request(link="https://youtu.be/harborlight", model="base", separate=True, align=True)


def as_flac(folder: Path) -> Path:
    """The song in a format that Demucs reads by itself."""
    path = folder / f"{SONG.stem}.flac"
    with writer(path, 44_100, 2) as write:
        for chunk in stream(SONG, rate=44_100, channels=2, max_seconds=900):
            write(chunk)
    return path


def theirs(song: Path, folder: Path) -> float:
    """Seconds of the two commands."""
    (folder / "bin").mkdir()
    (folder / "bin" / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())  # whisperx calls it by this name
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # the checkpoint's class
        "NLTK_DATA": str(punkt(folder)),
    }
    device, precision = ("cuda", "float16") if models.device() == "cuda" else ("cpu", "int8")
    separator = ["-n", checkpoint.NAME, "--repo", str(folder), "--two-stems", "vocals", "-d", device, "-o", str(folder)]
    voice = folder / checkpoint.NAME / song.stem / "vocals.wav"
    heard = ["--model", str(models.locate("base")), "--align_model", str(ALIGNER)]
    where = ["--device", device, "--compute_type", precision, "--output_dir", str(folder)]
    began = time.perf_counter()
    for command in (["demucs", *separator, str(song)], ["whisperx", str(voice), *heard, *where]):
        subprocess.run([sys.executable, "-m", *command], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def punkt(folder: Path) -> Path:
    """The empty tables that whisperx' sentence splitter asks a hub for."""
    tables = folder / "nltk" / "tokenizers" / "punkt_tab" / "english"
    tables.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt"):
        (tables / name).touch()
    return folder / "nltk"


def ours(audio: Audio) -> tuple[float, Song]:
    gpu.sing(audio, ASKED)  # warm
    began = time.perf_counter()
    song = gpu.sing(audio, ASKED)
    return time.perf_counter() - began, song


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ytl-") as name:
        folder = Path(name)
        os.environ |= {
            "DEMUCS_REPO": name,
            "DEMUCS_MODEL": checkpoint.write(folder, checkpoint.Echo),
            "ALIGN_REPO": str(ALIGNER),
        }
        settings.cache_clear()
        file = as_flac(folder)
        seconds, song = ours(Audio(file, 0.0))
        commands = theirs(file, folder)
    figures = {
        "ratio": round(commands / seconds, 2),
        "seconds": round(seconds, 1),
        "commands_seconds": round(commands, 1),
        "audio_seconds": round(probe(SONG).duration or 0.0, 1),
        "words": len(song.words),
        "device": models.torch_device(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
