"""The jobs table: what anybody may ask of it, and what the user and the mirror may write.

What a run writes stands in `run.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from infra.database import as_jsonb, connection, storable
from infra.errors import Interrupted
from infra.jobs import queries
from infra.jobs.job import Job, Step
from infra.jobs.request import Request
from infra.jobs.states import MAX_LOST_RUNS, Status


def execute(query: str, parameters: Mapping[str, Any]) -> int:
    """Run one of the named writes; how many rows it moved."""
    with connection() as conn:
        return conn.execute(query.encode(), storable(dict(parameters))).rowcount


def select(query: str, parameters: Mapping[str, Any]) -> list[Job]:
    with connection() as conn:
        rows = conn.execute(query.encode(), storable(dict(parameters))).fetchall()
    return [Job.model_validate(row) for row in rows]


def first(query: str, parameters: Mapping[str, Any]) -> Job | None:
    return next(iter(select(query, parameters)), None)


def log(*steps: Step) -> Any:
    return as_jsonb([step.model_dump(mode="json", exclude_none=True) for step in steps])


def new_id() -> str:
    return str(uuid.uuid4())


def insert(
    request: Request, *, id: str, title: str | None = None, run: str | None = None, video_id: str | None = None
) -> bool:
    """A new queued job. False if the id is taken (the same run asked again)."""
    options = request.model_dump(mode="json", exclude={"link"}, exclude_none=True)
    parameters = {
        "id": id,
        "link": request.link,
        "title": title,
        "options": as_jsonb(options),
        "batch": None,
        "run": run,
        "video_id": video_id,
        "steps": log(Step(status="pending", message="Waiting for its turn")),
    }
    return execute(queries.INSERT, parameters) == 1


def get(id: str) -> Job | None:
    return first(queries.GET, {"id": id})


def recent(*, status: Status | None = None, limit: int = 20, after: str | None = None) -> list[Job]:
    """The newest jobs first; `after` continues behind that job."""
    return select(queries.LIST, {"status": status, "limit": limit, "after": after})


def count() -> dict[str, int]:
    with connection() as conn:
        return {row["status"]: row["jobs"] for row in conn.execute(queries.COUNT.encode()).fetchall()}


def finished_like(fingerprint: str, id: str) -> Job | None:
    return first(queries.FINISHED_LIKE, {"fingerprint": fingerprint, "id": id})


def assign(id: str, attempt: int, run: str) -> bool:
    return execute(queries.ASSIGN, {"id": id, "attempt": attempt, "run": run}) == 1


def cancel(id: str) -> Job | None:
    """The user's last word: the row ends now, whoever works on it. None if it had ended or is unknown."""
    return first(queries.CANCEL, {"id": id, "steps": log(Step(status="error", message="Cancelled"))})


def retry(id: str) -> Job | None:
    """The next attempt of a job that ended without a result. None if there is nothing to try again."""
    return first(queries.RETRY, {"id": id, "steps": log(Step(status="pending", message="Tried again by its user"))})


def lost(job: Job, reason: str, *, blame: bool = True) -> bool:
    """The run that owned the row is gone: queue the next attempt, or end the job if that happened too often.

    Without blame (a service that was stopped on purpose) the loss does not count.
    """
    message = f"Waiting to be tried again: {reason}"
    fence = {"id": job.id, "attempt": job.attempt, "run": job.run_id}
    again = {"blame": int(blame), "max_lost": MAX_LOST_RUNS if blame else 2**31 - 1, "message": message}
    if execute(queries.LOST, fence | again | {"steps": log(Step(status="pending", message=message))}):
        return True
    error = Interrupted(times=MAX_LOST_RUNS, reason=reason)
    ending = {"message": str(error), "advice": error.advice, "steps": log(Step(status="error", message=str(error)))}
    return bool(blame) and execute(queries.GIVE_UP, fence | ending) == 1


def note(job: Job, message: str) -> None:
    """What a user should know about a job that still waits."""
    execute(queries.NOTE, {"id": job.id, "attempt": job.attempt, "run": job.run_id, "message": message})


def open_jobs(limit: int = 1000) -> list[Job]:
    return select(queries.OPEN_JOBS, {"limit": limit})


def cancelled_lately() -> list[Job]:
    return select(queries.CANCELLED_LATELY, {})
