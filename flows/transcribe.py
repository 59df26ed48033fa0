"""From kept audio to published words: the CUDA pool's flow."""

from __future__ import annotations

import time

from prefect import flow, task

from flows.job import RETRYING, is_passing, working_on
from infra.errors import MissingFile
from infra.jobs.job import Job
from infra.jobs.request import Request
from infra.jobs.stages import Progress, Stage
from infra.storage import storage
from tasks import gpu
from tasks.publish import Published, publish
from tasks.song import Audio, Song


@task(name="sing", retry_condition_fn=is_passing, **RETRYING)
def sing_task(audio: Audio, request: Request, report: Progress) -> Song:
    return gpu.sing(audio, request, report)


@task(name="publish", retry_condition_fn=is_passing, **RETRYING)
def publish_task(job: str, song: Song) -> Published:
    return publish(storage(), job, song)


@flow(name="transcribe", flow_run_name="transcribe {job}", retries=0)
async def transcribe(job: str, attempt: int = 1) -> None:
    """Hear the words of one song, break them into lines, and publish them in every format.

    Args:
        job: The job whose audio is kept.
        attempt: Which of the job's attempts this run does.
    """
    began = time.monotonic()
    with working_on(job, attempt) as run:
        song = sing_task(audio_of(run.job), run.job.request, run.report)
        run.report(Stage.PUBLISH, 0.0, "Publishing")
        published = publish_task(run.job.id, song)
        run.complete(
            results_url=published.results_url,
            files=published.files,
            message=song.notes[0] if song.notes and not song.lines else "Done",
            title=song.title,
            duration=song.duration,
            method=song.engine or None,
            seconds=time.monotonic() - began,
        )


def audio_of(job: Job) -> Audio:
    name = job.title or "the audio"
    if job.audio_key is None or not storage().exists(job.audio_key):
        raise MissingFile(name=name)
    return Audio(
        path=storage().path(job.audio_key),
        duration=float(job.duration or 0),
        title=job.title,
        artist=job.artist,
        video_id=job.video_id,
    )
