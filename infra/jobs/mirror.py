"""The mirror: Prefect's states, projected into the jobs table. `python -m infra.jobs.mirror`

Every second it compares the open rows with the runs that own them and repairs what differs: a row without a run gets
one, a row whose run is dead gets its next attempt, a job cancelled by its user takes its run along. A run is dead if
Prefect says so, or if its row's heartbeat stopped. Any number of mirrors may be started; an advisory lock lets one
work.
"""

from __future__ import annotations

import logging
import signal
import threading
from datetime import UTC, datetime, timedelta
from types import FrameType

import psycopg

from infra import database, runs
from infra.errors import DatabaseAway, EngineAway
from infra.jobs import table
from infra.jobs.job import Job
from infra.runs import ALIVE, FlowRun, StateType

LEADER = 0x1_79_71_D0  # advisory lock
PAUSE = 1.0  # seconds between two looks
SETTLING = timedelta(seconds=5)  # what was written this recently may still be on its way
LATE = timedelta(seconds=15)
SILENT = timedelta(seconds=30)  # a running run's row without a heartbeat; six of them were missed
UNBORN = timedelta(seconds=60)  # a process that was to start and did not; it takes a few seconds, ten under load

log = logging.getLogger("mirror")


def mirror(stop: threading.Event) -> None:
    """Lead while the database lets us, until told to stop."""
    while not stop.is_set():
        try:
            with psycopg.connect(database.url(), autocommit=True) as leader:
                # Heartbeats that could not be written while the database was away prove nothing.
                watching_since = datetime.now(UTC)
                while not stop.is_set():
                    held = leader.execute("SELECT pg_try_advisory_lock(%s)", (LEADER,)).fetchone()
                    if held and held[0]:
                        look(watching_since)
                    stop.wait(PAUSE)
        except (psycopg.OperationalError, DatabaseAway):
            log.warning("the database is away; rows stay as they are")
        except EngineAway:
            log.warning("Prefect is away; rows stay as they are")
        except Exception:
            log.exception("one look at the jobs failed; the next one follows")
        stop.wait(PAUSE)


def look(watching_since: datetime) -> None:
    jobs = table.open_jobs()
    cancelled = table.cancelled_lately()
    known = runs.look_up({job.run_id for job in (*jobs, *cancelled) if job.run_id})
    for job in jobs:
        repair(job, known.get(job.run_id or ""), watching_since)
    for job in cancelled:
        run = known.get(job.run_id or "")
        if run is not None and run.state_type in ALIVE:
            runs.cancel(run.id)


def repair(job: Job, run: FlowRun | None, watching_since: datetime) -> None:
    silence = datetime.now(UTC) - max(job.updated_at, watching_since)
    if job.run_id is None:
        if silence > SETTLING or job.attempt > 1:
            table.assign(job.id, job.attempt, runs.fetch(job.id, job.attempt))
        return
    if run is None:
        if silence > SETTLING:
            table.lost(job, "its run was deleted")
        return
    match run.state_type:
        case StateType.CANCELLED:
            table.cancel(job.id)
        case StateType.CRASHED:
            table.lost(job, _reason(run))
        case StateType.COMPLETED | StateType.FAILED if silence > SETTLING:
            # Its own last write is not on the way any more: it was broken off.
            table.lost(job, _reason(run))
        case StateType.RUNNING | StateType.CANCELLING if silence > SILENT:
            give_up_on(job, run, "its process stopped answering")
        case StateType.PENDING if silence > UNBORN:
            give_up_on(job, run, "its process never started")
        case StateType.SCHEDULED if _late(run):
            table.note(job, "Waiting for a free worker")
        case _:
            pass


def give_up_on(job: Job, run: FlowRun, reason: str) -> None:
    """Prefect still shows the run as alive: it is told first, which also frees the slot that the run holds."""
    runs.mark_crashed(run.id, f"Its heartbeat stopped: {reason}")
    table.lost(job, reason)


def _late(run: FlowRun) -> bool:
    return run.expected_start_time is not None and datetime.now(UTC) - run.expected_start_time > LATE


def _reason(run: FlowRun) -> str:
    message = run.message or "it ended without a word"
    return message.strip().rstrip(".").splitlines()[0][:200]


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    mirror(stop)


if __name__ == "__main__":
    main()
