"""From a link to kept audio, handed over to the GPU stage."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prefect import flow, task
from prefect.runtime import flow_run

from flows.artifacts import Bar
from flows.job import RETRYING, is_passing, working_on
from infra import links, runs
from infra.database import insist
from infra.errors import DatabaseAway, NotDeployed, TakenOver
from infra.jobs import routing, table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION, Preset, Provider, Request
from infra.jobs.routing import Pick
from infra.jobs.run import Run
from infra.jobs.stages import Progress, Stage
from infra.links import Link
from infra.settings import settings
from infra.storage import storage
from tasks import cache, download
from tasks.audio import clock, probe
from tasks.song import Audio


@task(name="download", retry_condition_fn=is_passing, **RETRYING)
def download_task(link: Link, source: str, report: Progress) -> tuple[str, Audio]:
    store = storage()
    folder = store.folder / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
        return cache.keep(store, source, download.download(link, Path(place), report))


@task(name="hand over", retry_condition_fn=is_passing, **RETRYING)
def hand_over_task(run: Run, picks: Sequence[Pick], seconds: float) -> None:
    hand_over(run, picks, seconds)


@flow(name="fetch", flow_run_name="fetch {job}", retries=0)
async def fetch(
    link: str = "", preset: Preset = Preset.REGULAR, language: str = "", job: str = "", attempt: int = 1
) -> None:
    """Find or download the audio of one song, keep it, and start its transcription where that is best done.

    Args:
        link: A YouTube link, a link to a file on an allowed host, or the path of a file on this machine.
        preset: low is fastest, high is best.
        language: The language that is sung, as en, es, ja …; heard from the song if left empty.
        job: An existing job, whose own link and options are used. Left empty, the run makes a job of its own.
        attempt: Which of the job's attempts this run does.
    """
    if not job:
        job = make_job(link, preset, language or None)
    with working_on(job, attempt) as run:
        bar = Bar(run, "Fetching")
        bar.report(Stage.INITIALISING, 1.0, "Starting")
        target = links.parse(run.job.youtube_url, settings().allowed_hosts)
        source = cache.source_of(target)
        run.learn(video_id=target.id or None, fingerprint=run.job.request.fingerprint(source))
        if run.job.replaces is not None or not finish_from_cache(run, source):
            key, audio = find_audio(bar.report, target, source)
            track = probe(audio.path, name=audio.title)
            seconds = audio.duration or track.duration or 0.0
            run.learn(title=audio.title, artist=audio.artist, duration=seconds, audio_key=key)
            hand_over_task(run, ranked(run.job, seconds / 60), seconds)
    bar.done()


def make_job(link: str, preset: Preset, language: str | None) -> str:
    """The row of a run that was started in Prefect itself. The run asked again finds the same row."""
    id = str(flow_run.id)
    title: str | None = None
    path = Path(link).expanduser()
    # A path is taken only here: who may start runs in Prefect may run code on this machine anyway.
    if path.is_absolute() and path.is_file():
        title, link = path.stem, f"upload:{cache.keep_upload(storage(), path, path.name)}"
    table.insert(Request(link=link or "-", preset=preset, language=language), id=id, title=title)
    return id


def finish_from_cache(run: Run, source: str) -> bool:
    """The same song with the same options was made before: this job ends with that result."""
    run.report(Stage.CACHE, 0.0, "Looking for an earlier result")
    try:
        before = table.finished_like(run.job.request.fingerprint(source), run.job.id)
    except DatabaseAway:
        return False
    if before is None or before.results_url is None:
        return False
    key = storage().key(before.results_url)
    if key is not None and not storage().exists(key):
        return False
    run.learn(artist=before.artist, audio_key=before.audio_key)
    run.complete(
        results_url=before.results_url,
        files=before.files,
        message="Found: this song was made before",
        title=before.title,
        duration=before.duration,
        method=before.processing_method,
        quality=before.quality,
        pipeline=before.pipeline or PIPELINE_VERSION,
    )
    return True


def find_audio(report: Progress, target: Link, source: str) -> tuple[str, Audio]:
    found = cache.kept(storage(), source)
    if found is not None:
        report(Stage.DOWNLOAD, 1.0, "The audio is here already: no download needed")
        return found
    report(Stage.DOWNLOAD, 0.0, "Downloading")
    key, audio = download_task(target, source, report)
    length = f", {clock(audio.duration)}" if audio.duration else ""
    report(Stage.DOWNLOAD, 1.0, f"Downloaded{length}")
    return key, audio


def ranked(job: Job, minutes: float) -> list[Pick]:
    """Who may do the GPU stage, the best first: whom the caller named, then whom history recommends."""
    wanted = job.request.provider
    routes = settings().routes if wanted in (None, *settings().routes) else (wanted, *settings().routes)
    picks = routing.choose(insist(lambda: routing.records(routes)), minutes, count=len(routes))
    named = [replace(pick, reason=f"{pick.provider}, as it was asked for") for pick in picks if pick.provider == wanted]
    return [*named, *(pick for pick in picks if pick.provider != wanted)]


def hand_over(run: Run, picks: Sequence[Pick], seconds: float) -> None:
    """Start the stage with the first of these that is deployed, or in a race with as many, and let them have the row.

    Asked twice, it starts the same runs.
    """
    job, started, said = run.job, dict[str, Provider](), list[str]()
    for pick in picks:
        try:
            started[runs.transcribe(job.id, job.attempt, pick.provider, job.queue)] = pick.provider
        except NotDeployed as error:
            if pick is picks[-1] and not started:
                raise
            said.append(str(error))
        else:
            said.append(f"{pick.reason}.")
            if len(started) == job.request.race:
                break
    with suppress(DatabaseAway):  # that a provider is busier than it seems costs no song
        table.enqueue_runs(job.id, job.attempt, started, seconds)
    with suppress(TakenOver):  # the next run may have begun by now: then that is what its user sees
        run.report(Stage.HANDOVER, 0.0, f"Waiting for {' and '.join(started.values())}. {' '.join(said)}")
    run.hand_over(list(started))
