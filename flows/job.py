"""A flow run's work on a job: claim its row, tell its progress, tell how it ended."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from infra.database import insist
from infra.errors import Passing, TakenOver, UserError, told
from infra.jobs import table
from infra.jobs.run import Run

RETRYING: dict[str, Any] = {  # how each step is tried again; a permanent failure is not
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def is_passing(task: Any, task_run: Any, state: Any) -> bool:
    """Prefect's question whether a failed task may be tried again."""
    return isinstance(failure(state), Passing)


def failure(state: Any) -> UserError | None:
    """What a failed task ended with, if users may read it."""
    try:
        state.result()
    except UserError as error:
        return error
    except Exception:
        return None
    return None


@contextmanager
def working_on(job: str, attempt: int, *, racing: bool = False) -> Generator[Run]:
    """The row is ours inside this block; an error that leaves it ends the job with its sentence."""
    run = claimed(job, attempt, racing=racing)
    try:
        with run.heartbeat():
            yield run
    except TakenOver:
        raise
    except UserError as error:
        run.fail(error)
        raise
    except Exception as error:
        logging.getLogger("prefect.flow_runs").exception("a bug ended job %s", job)
        run.fail(told(error))
        raise


def claimed(job: str, attempt: int, *, racing: bool = False) -> Run:
    id = str(flow_run.id)
    try:
        return Run.claim(job, attempt, id, racing=racing)
    except TakenOver:
        # Retried in Prefect, and begun before the mirror saw it: the row ended with this run and lives again with it.
        if flow_run.run_count > 1 and insist(lambda: table.retaken(id)) is not None:
            return Run.claim(job, attempt, id, racing=racing)
        raise
