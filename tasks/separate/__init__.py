"""The voice and the music of a song, each by itself: Demucs' models, run in our own way over a stream of sound."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import numpy as np

from infra.errors import NotInstalled, NotSeparated, disk_writes
from infra.jobs.request import Preset, Request
from infra.settings import settings
from tasks import models
from tasks.audio import Chunk, clock, probe, stream
from tasks.models import Device, Report
from tasks.separate.ladder import Pace, Way, check_room, out_of_memory, ways
from tasks.separate.writing import writer
from tasks.song import STEMS, Audio

TELL = 60.0  # seconds of sound that are measured between two words of it


@dataclass(frozen=True, slots=True)
class Stems:
    vocals: Path
    instrumental: Path

    @classmethod
    def of(cls, folder: Path) -> Self:
        return cls(*(folder / name for name in STEMS))


@dataclass(frozen=True, slots=True)
class Measured:
    """What must be known of the whole sound before its first segment: Demucs wants every song equally loud."""

    length: int  # samples
    mean: float
    deviation: float


def wanted(request: Request) -> bool:
    """Whether the voice is separated: as it was asked for, else where it can be and speed is not all."""
    if request.stems or request.separate is not None:
        return bool(request.stems or request.separate)
    if request.preset is Preset.LOW or find_spec("demucs") is None:
        return False
    return settings().cpu_separation_minutes > 0 or models.device() == "cuda"


def warm() -> None:
    """Load the model where a GPU waits for it. Elsewhere torch stays away until a song asks for it."""
    if wanted(Request(link="-")) and models.device() == "cuda" == models.torch_device():
        from tasks.separate.model import load

        load(settings().demucs_model, Way("cuda"), models.nobody)


def separate(audio: Audio, folder: Path, report: Report, device: Device = "best", *, insisted: bool = False) -> Stems:
    """The song's voice and its music as files in the folder; those of an earlier time are used again.

    Without a GPU a long song takes longer than most would wait: it is refused, unless somebody insists.
    """
    stems = Stems.of(folder)
    if stems.vocals.is_file() and stems.instrumental.is_file():
        report(1.0, "The voice was separated before: used again", step=True)
        return stems
    if not (find_spec("torch") and find_spec("demucs")):
        raise NotInstalled(what="Separating the voice")
    with disk_writes("the voice and the music"):
        folder.mkdir(parents=True, exist_ok=True)
        # Of a run that is killed it stays; by this name the upkeep knows it.
        with tempfile.TemporaryDirectory(".part", ".separating-", folder, ignore_cleanup_errors=True) as unfinished:
            made = Stems.of(Path(unfinished))
            _climb(audio, made, report, device, insisted)
            made.instrumental.replace(stems.instrumental)
            made.vocals.replace(stems.vocals)
    return stems


def _climb(audio: Audio, into: Stems, report: Report, device: Device, insisted: bool) -> None:
    """Down the ladder of ways to run the model, until one finds memory enough."""
    ladder = ways(models.torch_device(device))
    for way, next_way in zip(ladder, (*ladder[1:], None), strict=True):
        if way.device == "cpu" and not insisted:
            _check_patience(audio.duration or probe(audio.path, name=audio.title).duration or 0.0)
        try:
            return _separated(audio, into, way, report)
        except Exception as error:
            if not out_of_memory(error):
                raise
        if way.device == "cuda":
            models.release()
        if next_way is not None:
            report(0.0, f"Too little memory to separate the voice {way}; beginning again {next_way}", step=True)
    raise NotSeparated(reason="there is too little memory for it")


def _check_patience(seconds: float) -> None:
    minutes = settings().cpu_separation_minutes
    if minutes == 0:
        raise NotSeparated(reason="without a GPU no song is separated here")
    if seconds > minutes * 60:
        raise NotSeparated(
            reason=f"it is {clock(seconds)} long, and without a GPU only songs up to {minutes:g} minutes are separated"
        )


def _separated(audio: Audio, into: Stems, way: Way, report: Report) -> None:
    from tasks.separate.model import load
    from tasks.separate.overlap import pieces, summed

    report(0.0, "Loading the model that separates the voice")
    bag = load(settings().demucs_model, way, report)
    check_room(bag.need(way.seconds), way)
    sound = partial(
        stream,
        audio.path,
        rate=bag.rate,
        channels=bag.channels,
        max_seconds=settings().max_seconds,
        name=audio.title,
    )
    measured = _measured(sound(), bag.rate, report)
    done = 0

    def say(batch: int) -> None:
        report(done / measured.length, f"Too little memory: going on with {batch} segments at a time", step=True)

    pace = Pace(way.device, say)
    stems = summed([pieces(part, _even(sound(), measured), measured.length, way, pace) for part in bag.parts])
    with (
        writer(into.vocals, bag.rate, bag.channels) as vocals,
        writer(into.instrumental, bag.rate, bag.channels) as music,
    ):
        for voice, rest in stems:
            vocals(voice * measured.deviation)  # what the whole is shifted by is not sung
            music(rest * measured.deviation + measured.mean)
            done += voice.shape[1]
            now, whole = clock(done / bag.rate), clock(measured.length / bag.rate)
            report(done / measured.length, f"Separating the voice: {now} of {whole}")


def _measured(sound: Iterator[Chunk], rate: int, report: Report) -> Measured:
    """The first of two passes: to decode twice is cheap, to keep two hours of sound is not."""
    length, total, squares, told = 0, 0.0, 0.0, 0
    for chunk in sound:
        mono = chunk.mean(0, dtype=np.float64)
        length, total, squares = length + len(mono), total + float(mono.sum()), squares + float(mono @ mono)
        if length - told > TELL * rate:
            told = length
            report(0.0, f"Measuring the sound: {clock(length / rate)}")
    mean = total / length
    variance = max(squares - length * mean * mean, 0.0) / (length - 1)
    return Measured(length, mean, math.sqrt(variance) + 1e-8)  # as Demucs does, silence included


def _even(sound: Iterator[Chunk], measured: Measured) -> Iterator[Chunk]:
    for chunk in sound:
        yield (chunk - np.float32(measured.mean)) / np.float32(measured.deviation)
