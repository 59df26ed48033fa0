"""How a playlist becomes the songs of a batch: what the run that lists it writes, and what the mirror does for it.

The row is the promise: whatever happens to the run, `take_up` starts another, until it was lost too often.
"""
# ruff: noqa: S608  what is put together here are constants of this module

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from infra import runs
from infra.database import connection, insist, storable
from infra.errors import DatabaseAway, EngineAway, NotDeployed, NotListed, Passing, TakenOver, UserError
from infra.jobs import admission, batches, table
from infra.jobs.admission import Fate, Wanted
from infra.jobs.batches import Batch
from infra.jobs.breakers import waiting_until
from infra.jobs.pulse import GONE, SETTLING, SILENT, UNBORN
from infra.jobs.states import MAX_LOST_RUNS
from infra.runs import HANDED_BACK, FlowRun, StateType

DEPLOYMENT = "batch/default"

STILL_LISTING = "SELECT * FROM batches WHERE status = 'listing' ORDER BY created_at LIMIT %(limit)s"

ASSIGN = """
UPDATE batches SET run_id = %(run)s, updated_at = now()
WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'listing' AND run_id IS NULL
"""

# The newest run of an attempt takes it; so does one that failed with it and was retried in Prefect.
CLAIM = """
UPDATE batches SET run_id = %(run)s, status = 'listing', message = %(message)s, updated_at = now()
WHERE id = %(id)s AND (status = 'listing' AND attempt = %(attempt)s OR status = 'error' AND run_id = %(run)s)
RETURNING *
"""

FENCE = "id = %(id)s AND status = 'listing' AND attempt = %(attempt)s AND run_id IS NOT DISTINCT FROM %(run)s"

HEARTBEAT = f"UPDATE batches SET updated_at = now() WHERE {FENCE}"

LISTED = f"""
UPDATE batches SET status = 'listed', title = COALESCE(%(title)s, title), message = %(message)s, lost_runs = 0,
  run_id = NULL, updated_at = now()
WHERE {FENCE}
"""

FAIL = f"UPDATE batches SET status = 'error', message = %(message)s, updated_at = now() WHERE {FENCE}"

POSTPONE = f"""
UPDATE batches SET attempt = attempt + 1, run_id = %(to)s, message = %(message)s, updated_at = now()
WHERE {FENCE}
"""

LOST = f"""
UPDATE batches SET attempt = attempt + 1, run_id = NULL, lost_runs = lost_runs + %(blame)s, message = %(message)s,
  updated_at = now()
WHERE {FENCE} AND lost_runs + %(blame)s < %(max_lost)s
"""

LIST_AGAIN = """
UPDATE batches SET status = 'listing', attempt = attempt + 1, run_id = NULL, lost_runs = 0, message = %(message)s,
  updated_at = now()
WHERE id = %(id)s AND status IN ('error', 'cancelled') AND link IS NOT NULL
  AND NOT EXISTS (SELECT FROM jobs WHERE batch = %(id)s)
RETURNING *
"""

NOTE = "UPDATE batches SET message = %(message)s WHERE id = %(id)s AND status = 'listing'"

log = logging.getLogger("batches")


def start(id: str, attempt: int) -> None:
    """The run that lists it. Should Prefect be away, the mirror starts it."""
    try:
        _start(id, attempt)
    except Passing as error:
        log.warning("batch %s waits for the mirror to start it: %s", id, error)


def _start(id: str, attempt: int) -> None:
    table.execute(ASSIGN, {"id": id, "attempt": attempt, "run": _run(id, attempt)})


def _run(id: str, attempt: int, at: datetime | None = None) -> str:
    key = f"batch-{id}-{attempt}"
    # In the deployment's own queue: a list is short work, and must not wait behind the songs of another.
    return runs.start(DEPLOYMENT, {"batch": id, "attempt": attempt}, key=key, name=f"batch {id}", queue=None, at=at)


def again(id: str) -> Batch | None:
    """One that has no songs yet is to be listed once more. None if it has some, or is being listed."""
    found = table.rows(LIST_AGAIN, {"id": id, "message": "Waiting to be listed"})
    return Batch.model_validate(found[0]) if found else None


# --- what the run that lists it writes ----------------------------------------------------------


def claim(id: str, attempt: int, run: str) -> Batch:
    """Take it for this run; older runs are refused from here on."""
    wanted = {"id": id, "attempt": attempt, "run": run, "message": "Listing its songs"}
    found = insist(lambda: table.rows(CLAIM, wanted))
    if not found:
        raise TakenOver
    return Batch.model_validate(found[0])


def beat(batch: Batch) -> None:
    table.execute(HEARTBEAT, batch.fence)


def listed(batch: Batch, wanted: Sequence[Wanted], *, title: str | None, message: str) -> dict[str, Fate]:
    """A row for each song, all of them or none, unless the batch was cancelled meanwhile. What became of each."""

    def write() -> dict[str, Fate]:
        known = storable({"title": title, "message": message})
        with connection() as conn, conn.transaction():
            if not conn.execute(LISTED.encode(), batch.fence | known).rowcount:
                raise TakenOver
            return admission.admit_within(conn, wanted)

    return insist(write)


def postpone(batch: Batch, at: datetime) -> None:
    """It is listed later, by a run that is scheduled already."""
    told = {"to": _run(batch.id, batch.attempt + 1, at), "message": f"{waiting_until(at)}: YouTube limits this address"}
    if not insist(lambda: table.execute(POSTPONE, batch.fence | told)):
        raise TakenOver


def fail(batch: Batch, error: UserError) -> None:
    insist(lambda: table.execute(FAIL, batch.fence | {"message": str(error)}))


# --- what the mirror does -----------------------------------------------------------------------


def take_up(sighted: datetime | None = None) -> None:
    """Start the runs that list what is still to be listed, and others for those that were lost.

    Since `sighted` database and Prefect can be seen: a silence before that proves nothing.
    """
    waiting = [Batch.model_validate(row) for row in table.rows(STILL_LISTING, {"limit": 100})]
    known = runs.look_up(batch.run_id for batch in waiting if batch.run_id)
    now = datetime.now(UTC)
    for batch in waiting:
        try:
            _take_up(batch, known.get(batch.run_id or ""), now, sighted or batch.updated_at)
        except (DatabaseAway, EngineAway):
            raise
        except NotDeployed as error:
            _wait_for_deployment(batch, error, now, sighted or batch.updated_at)
        except Exception:
            log.exception("batch %s could not be taken up", batch.id)


def _take_up(batch: Batch, run: FlowRun | None, now: datetime, sighted: datetime) -> None:
    pulse = max(batch.updated_at, sighted)
    if batch.run_id is None:
        if batch.attempt > 1 or now - pulse > SETTLING:
            _start(batch.id, batch.attempt)
    elif run is not None and run.state_type in (StateType.CANCELLING, StateType.CANCELLED):
        batches.cancel(batch.id)  # by its user, in Prefect
    elif reason := _lost(run, now, pulse):
        if run is not None and run.state_type in (StateType.PENDING, StateType.RUNNING):
            runs.mark_crashed(run.id, f"Its heartbeat stopped: {reason}")
        _begin_again(batch, reason, blame=run is not None and not reason.startswith(HANDED_BACK))


def _lost(run: FlowRun | None, now: datetime, pulse: datetime) -> str | None:
    """Why the run will not list it any more, if so."""
    if run is None:
        return "its run was deleted" if now - pulse > SETTLING else None
    silence = now - max(run.since, pulse)
    match run.state_type:
        case StateType.CRASHED:
            return run.reason
        case StateType.COMPLETED | StateType.FAILED if silence > SETTLING:
            return run.reason
        case StateType.PENDING if silence > UNBORN:
            return "its process never started"
        case StateType.RUNNING if silence > SILENT:
            return "its process stopped answering"
        case _:
            return None


def _begin_again(batch: Batch, reason: str, *, blame: bool) -> None:
    counted = {"blame": int(blame), "max_lost": MAX_LOST_RUNS if blame else 2**31 - 1}
    told = {"message": f"Waiting to be listed again: {reason}"}
    if not table.execute(LOST, batch.fence | counted | told):
        table.execute(FAIL, batch.fence | {"message": str(NotListed(what=batch.what, reason=_too_often(reason)))})


def _too_often(reason: str) -> str:
    return f"this was interrupted {MAX_LOST_RUNS} times, the last time because {reason}."


def _wait_for_deployment(batch: Batch, error: NotDeployed, now: datetime, sighted: datetime) -> None:
    if now - max(batch.updated_at, sighted) > GONE:
        table.execute(FAIL, batch.fence | {"message": str(error)})
    elif batch.message != str(error):
        table.execute(NOTE, {"id": batch.id, "message": str(error)})
