"""The whole work on a song's sound as one plain function, which any pool, provider or command line calls."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from infra.errors import NotInstalled, NotSeparated, WeightsAway
from infra.jobs.request import Request
from infra.jobs.stages import Progress, Stage, silent
from infra.settings import settings
from tasks import align, known, separate, singing, transcribe, voice
from tasks.audio import Samples, decode
from tasks.lines import begun, break_lines, in_order
from tasks.models import Device
from tasks.quality import judged
from tasks.song import Audio, Line, Song, Word
from tasks.voice import Span

NO_SINGING = "No singing was heard: the song is instrumental or silent."


def sing(
    audio: Audio,
    request: Request,
    report: Progress = silent,
    device: Device = "best",
    stems: Path | None = None,
) -> Song:
    """The song's words in time. What the report raises (a cancel) ends the work.

    The folder `stems` gets the voice and the music, where they are separated; what stands there is used again.
    """
    transcribe.check(request, device)
    request = known.prepared(request, audio)
    report(Stage.DECODE, 0.0, "Reading the sound")
    samples = decode(audio.path, max_seconds=settings().max_seconds, name=audio.title)
    duration = samples.duration
    samples, unseparated = _voice(samples, audio, request, report, device, stems)
    phrases = singing.phrases(samples, partial(report, Stage.TRANSCRIBE), device)
    words, language, engine, notes = _words(samples, phrases, request, report, device)
    language = language or request.language  # which lyrics tell, though nobody hears a word
    lines, compared = _lines(samples, phrases, words, language, audio, request, report, device)
    song = Song(
        lines=lines,
        language=language if lines else None,
        duration=duration,
        title=audio.title,
        artist=audio.artist,
        video_id=audio.video_id,
        engine=engine,
        notes=(*(() if lines else (NO_SINGING,)), *unseparated, *notes, *compared),
    )
    return judged(song, phrases)


def warm() -> None:
    """Load what the usual request needs, so that the first song does not wait for it."""
    transcribe.warm()
    separate.warm()


def _voice(
    mix: Samples, audio: Audio, request: Request, report: Progress, device: Device, stems: Path | None
) -> tuple[Samples, tuple[str, ...]]:
    """The sound to look for words in: the voice alone where it can be separated; with a note where it cannot."""
    if not separate.wanted(request) or not voice.sung(mix):
        return mix, ()
    separating = partial(report, Stage.SEPARATE)
    insisted = bool(request.separate or request.stems)
    try:
        with _folder(stems) as folder:
            made = separate.separate(audio, folder, separating, device, insisted=insisted)
            return decode(made.vocals, max_seconds=settings().max_seconds, name=audio.title), ()
    except (NotSeparated, NotInstalled, WeightsAway) as error:
        if insisted:
            raise
        separating(1.0, str(error), step=True)
        return mix, (str(error),)


def _words(
    samples: Samples, phrases: Sequence[Span], request: Request, report: Progress, device: Device
) -> tuple[tuple[Word, ...], str | None, str, tuple[str, ...]]:
    """The words within the singing, their language, who heard them, and what a user should know of that."""
    windows = voice.windows(samples, phrases)
    listened = transcribe.listen(samples, windows, request, partial(report, Stage.TRANSCRIBE), device)
    heard, notes = listened.heard, listened.notes
    if heard.segments and (request.align or not heard.timed):
        heard, spread = align.align(samples, heard, partial(report, Stage.ALIGN), device)
        notes = (*notes, *spread)
    return voice.inside(heard.words, phrases), heard.language, listened.engine, notes


def _lines(
    samples: Samples,
    phrases: Sequence[Span],
    words: tuple[Word, ...],
    language: str | None,
    audio: Audio,
    request: Request,
    report: Progress,
    device: Device,
) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """The lyrics' lines where lyrics are known, else where a lyricist would break what was heard; with notes."""
    notes: tuple[str, ...] = ()
    if lyrics := request.lyrics or audio.lyrics:
        try:
            timed = known.timed(samples, phrases, words, language, lyrics, partial(report, Stage.ALIGN), device)
            return timed.lines, timed.notes
        except known.NOT_OURS as error:
            if request.lyrics:
                raise
            notes = (f"The lyrics that were found are not used. {error}",)
            report(Stage.ALIGN, 1.0, notes[0], step=True)
    report(Stage.LINES, 0.0, "Breaking the words into lines")
    return begun(break_lines(in_order(words, samples.duration), language)), notes


@contextmanager
def _folder(stems: Path | None) -> Generator[Path]:
    if stems is not None:
        yield stems
        return
    with tempfile.TemporaryDirectory(prefix="ytl-stems-") as folder:
        yield Path(folder)
