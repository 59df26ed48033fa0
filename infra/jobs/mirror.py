"""The mirror: Prefect's states, projected into the jobs table. `yt-lyrics mirror`, or `python -m infra.jobs.mirror`

It follows Prefect's event stream and looks at once at each run that changed; every few seconds it looks at all open
rows, which repairs what the stream missed. A row without a run gets one, a row whose run is dead gets its next attempt,
a run that nobody waits for is cancelled, a row that only waits says what for. A run is dead if Prefect says so, or if
its row's heartbeat stopped. Any number of mirrors may be started; an advisory lock lets one work.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from types import FrameType

import psycopg

from infra import database, runs
from infra.errors import DatabaseAway, EngineAway, NotDeployed
from infra.jobs import listing, queries, table
from infra.jobs.job import Job, Step
from infra.jobs.pace import due
from infra.jobs.pulse import GONE, SETTLING, SILENT, UNBORN
from infra.jobs.states import Outcome
from infra.jobs.stream import Stream
from infra.runs import ALIVE, HANDED_BACK, FlowRun, Retry, StateType

LEADER = 0x1_79_71_D0  # advisory lock
# Without these the database would keep the lock for hours for a leader whose machine is gone.
KEEPALIVES = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3}
PAUSE = 0.5  # seconds between two looks for news
ROUND = 5.0  # seconds between two looks at all open rows whose runs do not just wait in Prefect's queue
QUEUED = 30.0  # seconds between two looks at those, too: of a thousand jobs most wait, and only an event changes that
SHARE = 0.2  # of our time at most is spent on these
LATE = timedelta(seconds=15)
STUBBORN = timedelta(seconds=2)  # a run that was cancelled in Prefect and goes on: its job ends without it

log = logging.getLogger("mirror")


@dataclass(frozen=True)
class Sight:
    """Since when database and Prefect can be seen: a silence before that proves nothing."""

    rows: datetime
    engine: datetime


@dataclass(frozen=True)
class Dead:
    """A run that will not finish its work."""

    reason: str
    blame: bool = True  # whether it counts towards the attempts of its job
    shown_alive: bool = False  # by Prefect, which must be told


@dataclass(frozen=True)
class Cancelled:
    """A run that its user ended in Prefect."""


Finding = Dead | Cancelled | str | None  # a string is a note for who waits


# --- leading --------------------------------------------------------------------------------------


def mirror(stop: threading.Event) -> None:
    """Lead while the database lets us, until told to stop."""
    url = database.url()
    while not stop.is_set():
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                for name, value in KEEPALIVES.items():
                    connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
                while not stop.is_set() and not holds(connection):
                    stop.wait(PAUSE)
                lead(stop, lambda: holds(connection))
        except (psycopg.OperationalError, DatabaseAway):
            log.warning("the database is away; rows stay as they are")
        except Exception:
            log.exception("one look at the jobs failed; the next one follows")
        stop.wait(PAUSE)


def holds(connection: psycopg.Connection) -> bool:
    held = connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER,)).fetchone()
    return bool(held and held[0])


def lead(stop: threading.Event, leads: Callable[[], bool]) -> None:
    sight = Sight(rows=datetime.now(UTC), engine=datetime.now(UTC))
    next_round = next_whole = monotonic()
    changed: set[str] = set()
    away = False
    with Stream(table.followed_until()) as stream:
        while not stop.is_set() and leads():
            until = stream.until
            changed |= stream.wait(PAUSE)
            began = monotonic()
            if not changed and began < next_round:
                continue
            try:
                everything, queued = began >= next_round, began >= next_whole
                moved = look(changed, sight, everything=everything, queued=queued)
            except EngineAway:
                if not away:
                    log.warning("Prefect is away; rows stay as they are")
                away = True
                stop.wait(PAUSE)
                continue
            if away:
                log.warning("Prefect is back")
                away, sight = False, replace(sight, engine=datetime.now(UTC))
            if moved:
                next_round = began
            elif everything:
                next_round = began + max(ROUND, (monotonic() - began) / SHARE)
                next_whole = began + QUEUED if queued else next_whole
                table.follow(until)
            changed.clear()


# --- one look -------------------------------------------------------------------------------------


def look(changed: set[str], sight: Sight, *, everything: bool, queued: bool = True) -> bool:
    """Compare the rows of the runs that changed, or all open rows, with Prefect. Whether another look should follow.

    Without `queued`, runs that did not change and wait in Prefect's queue are left out.
    """
    now = datetime.now(UTC)
    if everything:
        table.free_the_stranded()
        listing.take_up(max(sight.rows, sight.engine))
    jobs = table.open_jobs()
    if not everything:
        jobs = [job for job in jobs if not changed.isdisjoint(runs_of(job))]
    owned = {id for job in jobs for id in runs_of(job)}
    superfluous = {run for _, run in table.superfluous()} if everything else set[str]()
    whole = queued or not everything
    known = runs.look_up(owned, queued=whole) | runs.look_up(changed | superfluous)
    retries = runs.retrying(id for id in owned if id in known and known[id].state_type is StateType.RUNNING)
    moved = False
    for job in jobs:
        looked_at = runs_of(job) if whole else runs_of(job) & known.keys()
        moved |= mirrored(job, {id: known.get(id) for id in looked_at}, retries, sight, now)
    for id in changed - owned:
        moved |= id in known and retake(known[id])
    for id in superfluous:
        dismiss(id, known.get(id), now)
    return moved


def runs_of(job: Job) -> set[str]:
    return {*job.racers, *([job.run_id] if job.run_id else [])}


def mirrored(
    job: Job, known: dict[str, FlowRun | None], retries: dict[str, Retry], sight: Sight, now: datetime
) -> bool:
    """A row that cannot be mirrored must not keep the others from it."""
    try:
        if job.run_id is None:
            begin(job, sight, now)
            return False
        moved = False
        for id, run in known.items():
            moved |= act(job, id, finding(job, id, run, retries.get(id), sight, now))
        return moved
    except DatabaseAway:
        raise
    except Exception as error:
        if isinstance(error, EngineAway) and not runs.alive():
            raise
        log.exception("job %s could not be mirrored", job.id)
        return False


def begin(job: Job, sight: Sight, now: datetime) -> None:
    """A run for a row without one: the API could not start it, or it is the next attempt."""
    if job.attempt == 1 and now - job.updated_at < SETTLING:
        return
    try:
        run = runs.fetch(job.id, job.attempt, job.queue, due(job))
    except NotDeployed as error:
        if job.status_message != str(error):
            table.note(job, str(error))
        elif now - max(job.updated_at, sight.engine) > GONE:
            end(job, error)
        return
    table.assign(job.id, job.attempt, run)


def finding(job: Job, id: str, run: FlowRun | None, retry: Retry | None, sight: Sight, now: datetime) -> Finding:
    """What Prefect's word on a run, and the row's own pulse, mean for the row."""
    pulse = max(job.updated_at, sight.rows) if id == job.run_id else now  # of racers one alone has a pulse
    if run is None:
        return Dead("its run was deleted", blame=False) if id != job.run_id or now - pulse > SETTLING else None
    match run.state_type:
        case StateType.SCHEDULED:
            return waiting(job, run, now)
        case StateType.PENDING if now - max(run.since, sight.engine) > UNBORN:
            return Dead("its process never started", shown_alive=True)
        case StateType.PENDING:
            return "Starting"
        case StateType.RUNNING if now - max(run.since, pulse) > SILENT:
            return Dead("its process stopped answering", shown_alive=True)
        case StateType.RUNNING if retry is not None and retry.at > now:
            return f"Trying again: attempt {retry.attempt} of {retry.attempts}, at {clock(retry.at)}"
        case StateType.CANCELLING:
            return Cancelled() if now - run.since > STUBBORN else "Cancelling"
        case StateType.CANCELLED:
            return Cancelled()
        case StateType.CRASHED:
            return Dead(run.reason, blame=not run.reason.startswith(HANDED_BACK))
        case StateType.COMPLETED | StateType.FAILED if id != job.run_id or now - max(run.since, pulse) > SETTLING:
            # Its own last write is not on the way any more: it was broken off.
            return Dead(run.reason)
        case _:
            return None


def waiting(job: Job, run: FlowRun, now: datetime) -> str | None:
    due = run.next_scheduled_start_time or now
    if run.run_count and due > now:
        return f"Trying again at {clock(due)}"
    if now - due > LATE:
        return "Waiting for a free worker"
    said = job.status_message or ""
    return None if said.startswith("Waiting") else "Waiting for its turn"  # it says already why it waits


def act(job: Job, id: str, found: Finding) -> bool:
    """Write the finding on this run of the job. Whether its row moved."""
    owner = job.model_copy(update={"run_id": id})
    match found:
        case None:
            return False
        case str():
            if id == job.run_id and found != job.status_message:
                table.note(job, found)
            return False
        case Cancelled() if runs_of(job) == {id}:
            table.cancel(job.id)
            return False
        case Cancelled():
            found = Dead("it was cancelled in Prefect", blame=False)
        case Dead():
            pass
    if found.shown_alive:  # it is told first, which also frees the slot that the run holds
        runs.mark_crashed(id, f"Its heartbeat stopped: {found.reason}")
    table.close_run(id, Outcome.CRASHED if found.blame else Outcome.CANCELLED)
    return table.lost(owner, found.reason, blame=found.blame)


def end(job: Job, error: NotDeployed) -> None:
    sentence = str(error)
    step = Step(status="error", message=sentence, attempt=job.attempt)
    fence = {"id": job.id, "attempt": job.attempt, "run": job.run_id}
    ending = {"message": sentence, "advice": error.advice, "steps": table.log(step)}
    table.execute(queries.GIVE_UP, fence | ending)


def retake(run: FlowRun) -> bool:
    """A run that had ended with its row, and that somebody retried in Prefect: the row lives again with it."""
    return run.state_type is StateType.SCHEDULED and run.run_count > 0 and table.retaken(run.id) is not None


def dismiss(id: str, run: FlowRun | None, now: datetime) -> None:
    """A run that nobody waits for ends; how it did is kept."""
    if run is not None and run.state_type in ALIVE:
        runs.cancel(id)
    elif run is not None and run.state_type is StateType.CANCELLING:
        if now - run.since > SILENT:
            runs.mark_crashed(id, "It was cancelled, and no worker is left to end it")
    else:
        # A failure of its own it has told itself: one that is not told was refused, for nobody waited for it.
        beaten = run is not None and run.state_type is StateType.COMPLETED
        table.close_run(id, Outcome.BEATEN if beaten else Outcome.CANCELLED)


def clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"


def run_mirror() -> None:
    """Mirror until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    mirror(stop)


if __name__ == "__main__":
    run_mirror()
