"""From kept audio to published words, by one of the providers: each is a deployment of this flow."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task

from flows.artifacts import Bar, show_song
from flows.job import RETRYING, is_passing, working_on
from infra.database import insist
from infra.errors import DatabaseAway, MissingFile, Permanent, ProviderNotReady, TakenOver, TooLargeToSend, UserError
from infra.jobs import table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION, Provider
from infra.jobs.run import Run
from infra.jobs.stages import Progress, Stage
from infra.jobs.states import Outcome, Status
from infra.settings import settings
from infra.storage import here, storage
from tasks import cache, gpu
from tasks.known.lrclib import with_lyrics
from tasks.publish import Published, folder_of, publish, unpublish
from tasks.song import STEMS, Audio, Song


@task(name="sing", retry_condition_fn=is_passing, **RETRYING)
def sing_task(run: Run, provider: Provider, report: Progress) -> Song:
    return sung(run, provider, report)


@task(name="publish", retry_condition_fn=is_passing, **RETRYING)
def publish_task(folder: str, song: Song, job: str, stems: Sequence[Path]) -> Published:
    return publish(storage(), folder, song, job, stems)


@flow(name="transcribe", flow_run_name="transcribe {job}", retries=0)
async def transcribe(job: str, attempt: int = 1, provider: Provider = Provider.CUDA) -> None:
    """Hear the words of one song, break them into lines, and publish them in every format.

    Args:
        job: The job whose audio is kept.
        attempt: Which of the job's attempts this run does.
        provider: Who does the work: cuda and cpu are this machine, with and without its GPU.
    """
    began = time.monotonic()
    racing = insist(lambda: is_race(table.get(job)))
    with working_on(job, attempt, racing=racing) as run, on_record(run, provider):
        bar = Bar(run, "Transcribing")
        song = sing_task(run, provider, bar.report)
        bar.report(Stage.PUBLISH, 0.0, "Publishing")
        folder = folder_of(job, provider if racing else None)
        with removed_if_beaten(folder, racing=racing):
            published = publish_task(folder, song, job, stems_of(run.job))
            run.complete(
                results_url=published.results_url,
                files=published.files,
                message=song.notes[0] if song.notes and not song.lines else "Done",
                title=song.title,
                duration=song.duration,
                method=song.engine or None,
                seconds=time.monotonic() - began,
                quality=song.quality,
                pipeline=PIPELINE_VERSION,
            )
    if run.job.fingerprint:
        cache.forget_song(here(), run.job.fingerprint)
    bar.done()
    show_song(job, song, published)


def warm() -> None:
    """The usual model is loaded before the first song comes: a warm worker's child calls this."""
    try:
        gpu.warm()
    except UserError as error:  # the song that needs it will say so, too
        logging.getLogger("prefect.flow_runs").warning("No model is loaded yet: %s", error)


def is_race(job: Job | None) -> bool:
    """Whether another provider may be at it, too; its run may begin before the row was handed over to both."""
    return job is not None and (job.request.race > 1 or bool(job.racers))


def sung(run: Run, provider: Provider, report: Progress) -> Song:
    """The song, kept until it is published; an attempt that died while it published had it already."""
    fingerprint = run.job.fingerprint
    if fingerprint and (kept := cache.kept_song(here(), fingerprint)):
        report(Stage.LINES, 1.0, "The words are here already: nothing is sung again")
        return kept
    song = sing(run, provider, report)
    if fingerprint:
        cache.keep_song(here(), fingerprint, song)
    return song


def sing(run: Run, provider: Provider, report: Progress) -> Song:
    """Each provider's own imports are made only for its own songs."""
    audio, request = with_lyrics(audio_of(run.job), run.job.request, report), run.job.request
    match provider:
        case Provider.CUDA:
            return gpu.sing(audio, request, report, stems=stems_place(run.job))
        case Provider.CPU:
            return gpu.sing(audio, request, report, "cpu", stems_place(run.job))
        case Provider.MODAL:
            from tasks.remote import modal

            return modal.sing(audio, request, report, CallInRow(run, provider))
        case Provider.RUNPOD:
            from tasks.remote import runpod

            return runpod.sing(audio, request, report, CallInRow(run, provider))


@dataclass(frozen=True, slots=True)
class CallInRow:
    """The remote call that works on the job, remembered in its row: this run's next try and the next run take it up."""

    run: Run
    provider: Provider

    def recall(self) -> str | None:
        return self.run.job.calls.get(self.provider)

    def remember(self, call: str | None) -> None:
        self.run.remember(self.provider, call)

    def wanted(self) -> bool:
        return self.run.wanted()


@contextmanager
def removed_if_beaten(folder: str, *, racing: bool) -> Generator[None]:
    """Who lost a race takes its files along; without a race they are the next run's, too."""
    try:
        yield
    except TakenOver:
        if racing:
            with suppress(UserError):  # a storage that is away keeps them
                unpublish(storage(), folder)
        raise


@contextmanager
def on_record(run: Run, provider: Provider) -> Generator[None]:
    """What the provider took for the song and how that ended, for those who choose among providers."""
    run.began(provider, run.job.duration)
    began = time.monotonic()
    outcome = Outcome.PUBLISHED
    try:
        yield
    except BaseException as error:  # a cancel and a stop are no Exception
        outcome = Outcome.FAILED if is_of_the_provider(error) else ended_from_outside(run)
        raise
    finally:
        seconds = time.monotonic() - began
        run.ended(outcome, seconds, seconds * settings().prices.get(provider, 0.0) / 3600)


def is_of_the_provider(error: BaseException) -> bool:
    """Whether another provider may have done better: not with a file that nobody can read."""
    of_the_song = isinstance(error, Permanent) and not isinstance(error, ProviderNotReady | TooLargeToSend)
    return isinstance(error, Exception) and not of_the_song


def ended_from_outside(run: Run) -> Outcome:
    """By a rival that was faster, or by whoever did not want it any more."""
    try:
        job = table.get(run.job.id)
    except DatabaseAway:
        job = None
    return Outcome.BEATEN if job and job.status is Status.COMPLETED else Outcome.CANCELLED


def stems_place(job: Job) -> Path | None:
    return cache.stems_place(job.audio_key) if job.audio_key else None


def stems_of(job: Job) -> list[Path]:
    """The voice and the music, if the job asked for them; where nobody sings there are none."""
    place = stems_place(job) if job.request.stems else None
    return [file for name in STEMS if place and (file := place / name).is_file()]


def audio_of(job: Job) -> Audio:
    missing = MissingFile(name=job.title or "the audio")
    if job.audio_key is None:
        raise missing
    try:
        path = storage().file(job.audio_key)
    except MissingFile:
        raise missing from None
    return Audio(
        path=path,
        duration=float(job.duration or 0),
        title=job.title,
        artist=job.artist,
        video_id=job.video_id,
    )
