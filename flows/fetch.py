"""From a link to kept audio, handed over to the GPU stage. Nothing is made or fetched twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run

from flows.artifacts import Bar
from flows.egress import elsewhere, is_worth_another_try, one_of_few
from flows.job import RETRYING, is_passing, working_on
from infra import database, links, runs
from infra.database import insist
from infra.errors import DatabaseAway, NotDeployed, SiteLimitsUs, StorageAway, TakenOver, UserError
from infra.jobs import breakers, nightly, routing, table
from infra.jobs.admission import FOUND, Fate, Wanted, admit
from infra.jobs.job import Job
from infra.jobs.request import HERE, PIPELINE_VERSION, Preset, Provider, Queue, Request
from infra.jobs.routing import Pick
from infra.jobs.run import Run
from infra.jobs.stages import Progress, Stage
from infra.links import Link
from infra.settings import settings
from infra.storage import here, storage, there
from tasks import cache
from tasks.audio import clock, probe
from tasks.download import download
from tasks.download.cookies import STALE_COOKIES
from tasks.download.ladder import climb
from tasks.download.routes import DIRECTLY, Route, ladder
from tasks.remote import modal
from tasks.song import Audio
from tasks.transcribe import is_elsewhere

Kept = tuple[str, Audio]  # the key under which audio is kept, and the audio


@dataclass(frozen=True, slots=True)
class Found:
    """What is there already of what a job needs."""

    result: Job | None = None
    audio: Kept | None = None


@task(name="look up", retry_condition_fn=is_passing, **RETRYING)
def look_up_task(job: Job, source: str) -> Found:
    return look_up(job, source)


@task(name="download", retry_condition_fn=is_worth_another_try, **RETRYING)
def download_task(link: Link, source: str, route: Route, report: Progress, job: str) -> Kept:
    return downloaded(link, source, route, report, job)


@task(name="hand over", retry_condition_fn=is_passing, **RETRYING)
def hand_over_task(run: Run, picks: Sequence[Pick], seconds: float) -> None:
    hand_over(run, picks, seconds)


@flow(name="fetch", flow_run_name="fetch {job}", retries=0)
async def fetch(
    link: str = "",
    preset: Preset = Preset.REGULAR,
    language: str = "",
    job: str = "",
    attempt: int = 1,
    egress: str = "",
) -> None:
    """Find or download the audio of one song, keep it, and start its transcription where that is best done.

    Args:
        link: A YouTube link, a link to a file on an allowed host, or the path of a file on this machine.
        preset: low is fastest, high is best.
        language: The language that is sung, as en, es, ja …; heard from the song if left empty.
        job: An existing job, whose own link and options are used. Left empty, the run makes a job of its own.
        attempt: Which of the job's attempts this run does.
        egress: The address at which YouTube sees this run, by name; that of its machine (EGRESS) if left empty.
    """
    if not job:
        job, fate = make_job(link, preset, language or None)
        if fate is not Fate.BEGINS:
            get_run_logger().info("job %s ends with an earlier one that asks for the same song", job)
            return
    with working_on(job, attempt) as run:
        bar = Bar(run, "Fetching")
        bar.report(Stage.INITIALISING, 1.0, "Starting")
        target = links.parse(run.job.youtube_url, settings().allowed_hosts)
        source = cache.source_of(target)
        run.learn(video_id=target.id or None, fingerprint=run.job.request.fingerprint(source))
        bar.report(Stage.CACHE, 0.0, "Looking for an earlier result")
        found = look_up_task(run.job, source)
        if found.result is not None:
            finish(run, found.result)
        elif audio := found.audio or fetched(run, bar.report, target, source, egress or settings().egress):
            go_on(run, bar.report, *audio, downloaded=found.audio is None)
    bar.done()


def make_job(link: str, preset: Preset, language: str | None) -> tuple[str, Fate]:
    """The row of a run that was started in Prefect itself. The run asked again finds the same row."""
    id = str(flow_run.id)
    if table.get(id) is not None:
        return id, Fate.BEGINS
    title: str | None = None
    path = Path(link).expanduser()
    # A path is taken only here: who may start runs in Prefect may run code on this machine anyway.
    if path.is_absolute() and path.is_file():
        title, link = path.stem, f"upload:{cache.keep_upload(storage(), path, path.name)}"
    request = Request(link=link or "-", preset=preset, language=language)
    try:
        source = cache.source_of(links.parse(request.link, settings().allowed_hosts))
    except UserError:  # its row will say so
        table.insert(request, id=id)
        return id, Fate.BEGINS
    return id, admit([Wanted(request, source, title=title, id=id)])[id]


# --- what is there already ----------------------------------------------------------------------


def look_up(job: Job, source: str) -> Found:
    """An earlier result of the same song, options and pipeline, unless the song is to be made anew; or its audio."""
    before = None if job.replaces else table.finished_like(job.request.fingerprint(source), job.id)
    if before is not None and there(before.results_url or ""):
        return Found(result=before)
    return Found(audio=cache.kept(storage(), source))


def finish(run: Run, before: Job) -> None:
    run.learn(artist=before.artist, audio_key=before.audio_key, thumbnail=before.thumbnail, chapters=before.chapters)
    run.complete(
        results_url=before.results_url or "",
        files=before.files,
        message=FOUND,
        title=before.title,
        duration=before.duration,
        method=before.processing_method,
        quality=before.quality,
        pipeline=before.pipeline or PIPELINE_VERSION,
    )


# --- download -----------------------------------------------------------------------------------


def fetched(run: Run, report: Progress, link: Link, source: str, egress: str) -> Kept | None:
    """The audio, fetched by the first route that leads to it. None if another machine's turn is next.

    Of several jobs that want the same sound at the same time one fetches it, and the others wait for that.
    """
    waiting = partial(report, Stage.DOWNLOAD, 0.0, "Another job is downloading this song; waiting for it")
    with database.alone(f"the sound of {source}", waiting):
        if kept := cache.kept(storage(), source):
            return kept
        report(Stage.DOWNLOAD, 0.0, "Downloading")
        routes = ways(egress) if link.kind == "youtube" else DIRECTLY
        take = partial(by_route, run, report, link, source)
        try:
            return climb(routes, take, breakers, partial(run.report, Stage.DOWNLOAD, 0.0, step=True))
        except SiteLimitsUs:
            if run.job.queue is Queue.PEOPLE or not come_back(run, routes):  # people want to know, and may choose
                raise
            return None


def ways(egress: str) -> list[Route]:
    """All routes to YouTube from here, without cookies that it is known to refuse."""
    routes = (*ladder(settings(), egress), *elsewhere(egress))
    return [route for route in routes if not (route.signed_in and breakers.login_is_stale(route.egress))]


def come_back(run: Run, routes: Sequence[Route]) -> bool:
    """Begin again once YouTube lets us; whether that is soon enough. Meanwhile the song costs a row, and no process."""
    names = [name for route in routes for name in route.breakers]
    at = insist(lambda: breakers.come_back_at(names, run.job.created_at))
    if at is None:
        return False
    again = runs.fetch(run.job.id, run.job.attempt + 1, run.job.queue, at)
    run.postpone(again, f"{breakers.waiting_until(at)}: YouTube limits this address")
    return True


def by_route(run: Run, report: Progress, link: Link, source: str, route: Route) -> Kept | None:
    if route.means == "pool":
        run.hand_over([runs.fetch_elsewhere(run.job.id, run.job.attempt, run.job.queue)])
        return None
    return download_task.with_options(name=f"download, {route.name}")(link, source, route, report, run.job.id)


def downloaded(link: Link, source: str, route: Route, report: Progress, job: str) -> Kept:
    with one_of_few(route.place), here().incoming() as place:
        audio = sound_by(route, link, place, report)
        kept = insist(lambda: cache.keep(storage(), source, audio, job), through=StorageAway)
    with suppress(DatabaseAway):  # the next one makes room
        cache.trim_audio({*nightly.open_audio(), kept[0]})
    return kept


def sound_by(route: Route, link: Link, place: Path, report: Progress) -> Audio:
    if route.means == "modal":
        return modal.fetch(link, place, report)
    return download(link, place, report, route, noticed=partial(notice, route))


def notice(route: Route, what: str) -> None:
    """What one download found out for all that follow."""
    if what == STALE_COOKIES:
        breakers.give_up_login(route.egress)


# --- hand-over ----------------------------------------------------------------------------------


def go_on(run: Run, report: Progress, key: str, audio: Audio, *, downloaded: bool) -> None:
    """The audio is kept: the GPU stage is next."""
    track = probe(audio.path, name=audio.title)
    seconds = audio.duration or track.duration or 0.0
    length = f", {clock(seconds)}" if seconds else ""
    said = f"Downloaded{length}" if downloaded else "The audio is here already: no download needed"
    report(Stage.DOWNLOAD, 1.0, said)
    run.learn(
        title=audio.title,
        artist=audio.artist,
        duration=seconds,
        audio_key=key,
        thumbnail=audio.thumbnail,
        chapters=[asdict(chapter) for chapter in audio.chapters],
    )
    hand_over_task(run, ranked(run.job, seconds / 60), seconds)


def ranked(job: Job, minutes: float) -> list[Pick]:
    """Who may do the GPU stage, the best first: whom the caller named, then whom history recommends."""
    wanted = job.request.provider
    routes = settings().routes if wanted in (None, *settings().routes) else (wanted, *settings().routes)
    # Stems are too large to come back from elsewhere, and our keys do not go there.
    if job.request.stems or is_elsewhere(job.request):
        routes = tuple(route for route in routes if route in HERE) or HERE[:1]
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
