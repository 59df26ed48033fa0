"""The whole work on a song's sound as one plain function, which any pool, provider or command line calls."""

from __future__ import annotations

from functools import partial

from infra.jobs.request import Request
from infra.jobs.stages import Progress, Stage, silent
from infra.settings import settings
from tasks import voice
from tasks.audio import Samples, decode
from tasks.lines import break_lines, in_order
from tasks.models import nobody
from tasks.song import Audio, Song
from tasks.transcribe import Device, Heard, engine

NO_SINGING = "No singing was heard: the song is instrumental or silent."


def sing(audio: Audio, request: Request, report: Progress = silent, device: Device = "best") -> Song:
    """The song's words in time. What the report raises (a cancel) ends the work."""
    report(Stage.DECODE, 0.0, "Reading the sound")
    samples = decode(audio.path, max_seconds=settings().max_seconds, name=audio.title)
    heard, name = _heard(samples, request, report, device)
    report(Stage.LINES, 0.0, "Breaking the words into lines")
    words = in_order(heard.words, samples.duration)
    return Song(
        lines=break_lines(words, heard.language),
        language=heard.language if words else None,
        duration=samples.duration,
        title=audio.title,
        artist=audio.artist,
        video_id=audio.video_id,
        engine=name,
        notes=() if words else (NO_SINGING,),
    )


def warm() -> None:
    """Load what the usual request needs, so that the first song does not wait for it."""
    engine(Request(link="-"), nobody).warm()


def _heard(samples: Samples, request: Request, report: Progress, device: Device) -> tuple[Heard, str]:
    """The words within the singing, and who heard them."""
    transcribing = partial(report, Stage.TRANSCRIBE)
    singer = engine(request, transcribing, device)
    spans = voice.sung(samples)
    if not spans:
        return Heard((), None), singer.name
    windows = voice.windows(samples, spans)
    heard = singer.listen(samples, windows, language=request.language, report=transcribing)
    return Heard(voice.inside(heard.words, spans), heard.language), singer.name
