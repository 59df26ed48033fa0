"""The jobs table: what anybody may ask of it, and what the user and the mirror may write.

What a run writes stands in `run.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from infra.database import as_jsonb, connection, storable
from infra.errors import Interrupted
from infra.jobs import queries
from infra.jobs.job import Job, Step
from infra.jobs.request import Provider, Queue, Request
from infra.jobs.states import MAX_LOST_RUNS, Outcome, Status

SHOWN_OF_A_LEADER = (
    "status", "pct", "status_message", "current_stage", "progress_log", "artist", "duration", "thumbnail", "chapters",
    "audio_key", "provider", "attempt",
)  # fmt: skip


def execute(query: str, parameters: Mapping[str, Any]) -> int:
    """Run one of the named writes; how many rows it moved."""
    with connection() as conn:
        return conn.execute(query.encode(), storable(dict(parameters))).rowcount


def rows(query: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    with connection() as conn:
        return conn.execute(query.encode(), storable(dict(parameters))).fetchall()


def select(query: str, parameters: Mapping[str, Any]) -> list[Job]:
    return [Job.model_validate(row) for row in rows(query, parameters)]


def first(query: str, parameters: Mapping[str, Any]) -> Job | None:
    return next(iter(select(query, parameters)), None)


def log(*steps: Step) -> Any:
    return as_jsonb([step.model_dump(mode="json", exclude_none=True) for step in steps])


def new_id() -> str:
    return str(uuid.uuid4())


def insert(
    request: Request,
    *,
    id: str,
    title: str | None = None,
    run: str | None = None,
    video_id: str | None = None,
    queue: Queue = Queue.PEOPLE,
    replaces: str | None = None,
    fingerprint: str | None = None,
) -> bool:
    """A new queued job with work of its own, whoever else makes the song. False if the id is taken.

    What people ask for comes through `admission.admit`.
    """
    options = request.model_dump(mode="json", exclude={"link"}, exclude_none=True)
    parameters = {
        "id": id,
        "link": request.link,
        "title": title,
        "options": as_jsonb(options),
        "batch": None,
        "place": None,
        "run": run,
        "video_id": video_id,
        "queue": queue,
        "replaces": replaces,
        "fingerprint": fingerprint,
        "follows": None,
        **afresh("Waiting for its turn"),
    }
    return execute(queries.INSERT, parameters) == 1


def get(id: str) -> Job | None:
    return first(queries.GET, {"id": id})


def seen(jobs: Sequence[Job]) -> list[Job]:
    """As their callers see them: a job that follows another shows how far that one is."""
    leaders = {job.follows for job in jobs if job.follows and not job.ended}
    if not leaders:
        return list(jobs)
    # Read together: of a leader that has ended meanwhile, the follower has, too.
    ids = {*leaders, *(job.id for job in jobs)}
    now = {job.id: job for job in select(queries.ABOUT, {"ids": list(ids)})}
    return [_as_seen(now.get(job.id, job), now) for job in jobs]


def _as_seen(job: Job, known: Mapping[str, Job]) -> Job:
    leader = known.get(job.follows or "")
    if job.ended or leader is None or leader.ended:
        return job
    shown = {name: getattr(leader, name) for name in SHOWN_OF_A_LEADER}
    return job.model_copy(update={**shown, "title": leader.title or job.title})


def recent(*, status: Status | None = None, limit: int = 20, after: str | None = None) -> list[Job]:
    """The newest jobs first; `after` continues behind that job."""
    return select(queries.LIST, {"status": status, "limit": limit, "after": after})


def count() -> dict[str, int]:
    return {row["status"]: row["jobs"] for row in rows(queries.COUNT, {})}


def finished_like(fingerprint: str, id: str) -> Job | None:
    return first(queries.FINISHED_LIKE, {"fingerprint": fingerprint, "id": id})


def assign(id: str, attempt: int, run: str) -> bool:
    return execute(queries.ASSIGN, {"id": id, "attempt": attempt, "run": run}) == 1


def cancel(id: str) -> Job | None:
    """The user's last word: the row ends now, whoever works on it. None if it had ended or is unknown."""
    return first(queries.CANCEL, {"id": id, "steps": log(Step(status="error", message="Cancelled"))})


def heir(fingerprint: str) -> Job | None:
    """The job that goes on with a song whose first caller cancelled it, and has no run yet."""
    return first(queries.HEIR, {"fingerprint": fingerprint})


def free_the_stranded() -> int:
    return execute(queries.STRANDED, {})


def retaken(run: str) -> Job | None:
    """The next attempt of a job that ended in this run's hands, which lives again. None if there is no such job."""
    return first(queries.RETAKEN, {"run": run} | afresh("Tried again in Prefect"))


def afresh(message: str) -> dict[str, Any]:
    """What the log says of a new attempt."""
    return {"message": "Waiting for its turn", "steps": log(Step(status="pending", message=message))}


def lost(job: Job, reason: str, *, blame: bool = True) -> bool:
    """The run that owned the row is gone: queue the next attempt, or end the job if that happened too often.

    In a race the row passes to a rival instead, and the attempt goes on. Without blame (a service that was stopped on
    purpose) the loss does not count.
    """
    fence = {"id": job.id, "attempt": job.attempt, "run": job.run_id}
    if drop_out(fence, reason):
        return True
    message = f"Waiting to be tried again: {reason}"
    again = {"blame": int(blame), "max_lost": MAX_LOST_RUNS if blame else 2**31 - 1, "message": message}
    if execute(queries.LOST, fence | again | {"steps": log(Step(status="pending", message=message))}):
        return True
    error = Interrupted(times=MAX_LOST_RUNS, reason=reason)
    ending = {"message": str(error), "advice": error.advice, "steps": log(Step(status="error", message=str(error)))}
    return bool(blame) and execute(queries.GIVE_UP, fence | ending) == 1


def drop_out(fence: Mapping[str, Any], reason: str) -> bool:
    """The run leaves a race that others go on with. False if nobody else races."""
    step = Step(status="in_progress", message=f"One of the racers dropped out: {reason}")
    return execute(queries.DROP_OUT, {**fence, "steps": log(step)}) == 1


def note(job: Job, message: str) -> None:
    """What a user should know about a job that waits, instead of what it said when it was read."""
    seen = {"id": job.id, "attempt": job.attempt, "run": job.run_id, "seen": job.status_message}
    execute(queries.NOTE, seen | {"message": message})


def open_jobs(limit: int = 10_000) -> list[Job]:
    return select(queries.OPEN_JOBS, {"limit": limit})


def superfluous() -> list[tuple[str, str]]:
    """Runs that nobody waits for, and which should be cancelled, each behind its job: beaten, cancelled, outlived."""
    return [(row["job"], row["run"]) for row in rows(queries.SUPERFLUOUS, {})]


# --- the history of runs ------------------------------------------------------------------------


def enqueue_runs(job: str, attempt: int, runs: Mapping[str, Provider], audio_seconds: float | None) -> None:
    """These runs were asked to do the job's GPU stage, and wait for their turn."""
    for run, provider in runs.items():
        known = {"run": run, "id": job, "attempt": attempt, "provider": provider, "audio_seconds": audio_seconds}
        execute(queries.ENQUEUE_RUN, known)


def close_run(run: str, outcome: Outcome) -> bool:
    """How a run ended that cannot tell it any more. False if it is unknown or told before."""
    return execute(queries.CLOSE_RUN, {"run": run, "outcome": outcome}) == 1


# --- how far the mirror is ----------------------------------------------------------------------


def followed_until() -> datetime | None:
    """When the last event happened that the mirror has dealt with."""
    return next((row["followed_until"] for row in rows(queries.FOLLOWED_UNTIL, {})), None)


def follow(until: datetime) -> None:
    execute(queries.FOLLOW, {"until": until})
