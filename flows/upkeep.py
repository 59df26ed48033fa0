"""At night: what nobody needs any more is removed, and what will break soon is told.

Jobs stay for ever. Their logs need no trimming: a row takes 200 steps at most (`infra/jobs/run.py`), and an ended row
does not change.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.artifacts import show_report
from infra import retention
from infra.errors import told
from infra.jobs import admission, breakers, nightly
from infra.jobs.request import Provider
from infra.settings import settings
from infra.storage import LocalStorage, here, on_cloudinary, on_this_machine
from tasks.download.cookies import cookies

DAY = 24 * 3600.0  # seconds
SOON = timedelta(days=7)

STEP: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


@flow(name="upkeep", flow_run_name="upkeep", retries=0)
async def upkeep() -> State | None:
    """Remove what nobody needs any more, cancel what nobody waits for, and tell what will break soon."""
    log = get_run_logger()
    said: dict[str, list[str]] = {}
    failed: list[str] = []
    for step in STEPS:
        try:
            said[step.name] = step() or ["nothing to do"]
        except Exception as error:  # whatever it is, the other steps are as needed as they were
            log.exception("%s failed", step.name)
            failed.append(step.name)
            said[step.name] = [f"failed: {told(error)}"]
    show_report("upkeep", "Upkeep", said)
    return Failed(message=f"Not done: {', '.join(failed)}") if failed else None


@task(name="Runs in Prefect", **STEP)
def old_runs() -> list[str]:
    forgotten = retention.forget_runs(settings().keep_runs_days)
    return [f"{forgotten} that ended over {settings().keep_runs_days:g} days ago deleted"] if forgotten else []


@task(name="Kept audio", **STEP)
def old_audio() -> list[str]:
    """A song that is asked for again is downloaded again."""
    days = settings().keep_audio_days
    if days is None:
        return ["all of it is kept"]
    needed = {key.rpartition("/")[0] for key in nightly.open_audio()}
    went = [
        removed(store, key)
        for store in on_this_machine()
        for key in store.unused("audio", days * DAY)
        if key not in needed
    ]
    return [*went, *(f"{key} on Cloudinary removed" for key in old_audio_on_cloudinary(days))]


def old_audio_on_cloudinary(days: float) -> list[str]:
    """It tells nobody what is used: our jobs do."""
    store = on_cloudinary()
    keys = nightly.unused_audio(days) if store else []
    for key in keys:
        assert store is not None
        store.remove(key)
        store.remove(f"{key.rpartition('/')[0]}/about.json")
    return keys


@task(name="Left by runs that died", **STEP)
def leftovers() -> list[str]:
    kept = here()
    return [removed(kept, key) for key in (*kept.unused("stages", DAY), *kept.unused("incoming", DAY))] + [
        removed(store, key) for store in on_this_machine() for key in store.broken_off(DAY)
    ]


@task(name="Results without a job", **STEP)
def orphans() -> list[str]:
    folders = {key.removeprefix("transcriptions/"): key for key in here().unused("transcriptions", DAY)}
    unknown = nightly.unknown(folders)
    if len(unknown) > len(folders) / 2:
        return [
            f"{len(unknown)} of {len(folders)} belong to no job of this database; nothing is removed: is it theirs?"
        ]
    return [removed(here(), folders[job]) for job in sorted(unknown)]


@task(name="Interrupted jobs", **STEP)
def interrupted() -> list[str]:
    """The mirror takes care of them; here they are only told."""
    return [
        f"{job.title or job.id}: {job.lost_runs} runs lost, now in attempt {job.attempt}: {job.status_message}"
        for job in nightly.interrupted()
    ]


@task(name="Remote calls that nobody waits for", **STEP)
def remote_calls() -> list[str]:
    cancelled: list[str] = []
    for job in nightly.ended_with_calls():
        for provider, call in job.calls.items():
            cancel(Provider(provider), call)
            cancelled.append(f"{provider}: {call} of job {job.id}, which is {job.status}")
    return cancelled


@task(name="Cookies", **STEP)
def login() -> list[str]:
    given = cookies()
    if given is None:
        return []
    if given.problem or given.expires is None:
        return warned(given.problem or "The cookies never expire by themselves")
    if any(way.name.startswith(breakers.STALE) and given.digest in way.name for way in breakers.all_closed()):
        return warned("YouTube no longer accepts the cookies: give new ones")
    if given.expires - datetime.now(UTC) <= SOON:
        return warned(f"YouTube's cookies expire on {given.expires:%d %B %Y}: give new ones")
    return [f"good until {given.expires:%d %B %Y}"]


@task(name="What was remembered for a day", **STEP)
def memories() -> list[str]:
    keys, limits = admission.forget_keys(), breakers.forget()
    return [f"{keys} keys of requests, {limits} limits of sites forgotten"] if keys or limits else []


STEPS = [old_runs, old_audio, leftovers, orphans, interrupted, remote_calls, login, memories]


def warned(sentence: str) -> list[str]:
    get_run_logger().warning(sentence)
    return [sentence]


def removed(store: LocalStorage, key: str) -> str:
    store.remove(key)
    return f"{key} removed"


def cancel(provider: Provider, call: str) -> None:
    """Asked twice it does no harm."""
    match provider:
        case Provider.MODAL:
            from tasks.remote import modal

            modal.cancel(call)
        case Provider.RUNPOD:
            from tasks.remote import runpod

            runpod.cancel(call)
        case Provider.CUDA | Provider.CPU:
            pass  # they are no calls
