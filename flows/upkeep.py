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
from infra.jobs import nightly
from infra.jobs.request import Provider
from infra.settings import settings
from infra.storage import storage
from tasks.download import cookies_content

DAY = 24 * 3600.0  # seconds
SOON = timedelta(days=7)
LOGIN = frozenset({"LOGIN_INFO", "SID", "HSID", "SSID", "SAPISID", "__Secure-1PSID", "__Secure-3PSID"})  # YouTube's

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
    unused = storage().unused("audio", days * DAY)
    needed = {key.rpartition("/")[0] for key in nightly.open_audio()}
    return [removed(key) for key in unused if key not in needed]


@task(name="Left by runs that died", **STEP)
def leftovers() -> list[str]:
    store = storage()
    return [removed(key) for key in (*store.unused("stages", DAY), *store.unused("incoming", DAY))] + [
        removed(key) for key in store.broken_off(DAY)
    ]


@task(name="Results without a job", **STEP)
def orphans() -> list[str]:
    folders = {key.removeprefix("transcriptions/"): key for key in storage().unused("transcriptions", DAY)}
    unknown = nightly.unknown(folders)
    if len(unknown) > len(folders) / 2:
        return [
            f"{len(unknown)} of {len(folders)} belong to no job of this database; nothing is removed: is it theirs?"
        ]
    return [removed(folders[job]) for job in sorted(unknown)]


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
def cookies() -> list[str]:
    content = cookies_content()
    expires = login_expires(content)
    if expires is None:
        return ["no login in them: YouTube sees a stranger"] if content else []
    left = expires - datetime.now(UTC)
    if left > SOON:
        return [f"good until {expires:%d %B %Y}"]
    warning = f"YouTube's cookies {'expire' if left > timedelta() else 'expired'} on {expires:%d %B %Y}: give new ones"
    get_run_logger().warning(warning)
    return [warning]


STEPS = [old_runs, old_audio, leftovers, orphans, interrupted, remote_calls, cookies]


def removed(key: str) -> str:
    storage().remove(key)
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


def login_expires(cookies: str) -> datetime | None:
    """When the first of the cookies that a login consists of expires; None without a login.

    Each line: domain, subdomains, path, secure, expires, name, value.
    """
    lines = [line.split("\t") for line in cookies.splitlines()]
    times = [int(line[4]) for line in lines if line[5] in LOGIN and int(line[4] or 0)]
    return datetime.fromtimestamp(min(times), UTC) if times else None
