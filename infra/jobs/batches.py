"""Batches: songs that were asked for together. Each has its own row in `jobs`, the whole has one in `batches`.

    listing ──→ listed         of links from the start; of a playlist once its songs have rows
      ↑│ │         ↓ ↑
      ││ └────→ cancelled      by its user: what is open of it ends with it
      │└→ error                it could not be listed
      └────┴─── (a retry of one whose songs have no rows)

How a playlist is listed stands in `listing.py`.
"""
# ruff: noqa: S608  what is put together here are constants of this module

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra import links, runs
from infra.database import Connection, as_jsonb, connection, storable
from infra.errors import Passing
from infra.jobs import admission, queries, table
from infra.jobs.admission import Fate, Wanted
from infra.jobs.job import Job, Step
from infra.jobs.pace import due
from infra.jobs.request import Queue, Request

MOST = 500  # songs of a batch

INSERT = """
INSERT INTO batches (id, link, options, status, message, run_id)
VALUES (%(id)s, %(link)s, %(options)s, %(status)s, %(message)s, %(run)s)
ON CONFLICT (id) DO NOTHING RETURNING id
"""

# A job that follows another is as far as that one.
COUNTED = """
SELECT batches.*, counted.* FROM batches CROSS JOIN LATERAL (
  SELECT count(*) AS total,
    count(*) FILTER (WHERE song.status = 'queued') AS queued,
    count(*) FILTER (WHERE song.status = 'processing') AS processing,
    count(*) FILTER (WHERE song.status = 'completed') AS completed,
    count(*) FILTER (WHERE song.status = 'error') AS failed,
    count(*) FILTER (WHERE song.status = 'cancelled') AS cancelled,
    min(song.said) FILTER (WHERE song.status = 'queued' AND song.said LIKE 'Waiting until %%') AS waits,
    COALESCE(floor(avg(CASE WHEN song.status IN ('queued', 'processing') THEN song.pct ELSE 100 END)), 0)::int AS pct
  FROM (
    SELECT COALESCE(leader.status, jobs.status) AS status, COALESCE(leader.pct, jobs.pct, 0) AS pct,
      COALESCE(leader.status_message, jobs.status_message) AS said
    FROM jobs LEFT JOIN jobs AS leader
      ON leader.id = jobs.follows AND jobs.status = 'queued' AND leader.status IN ('queued', 'processing')
    WHERE jobs.batch = batches.id
  ) AS song
) AS counted
"""

GET = f"{COUNTED} WHERE batches.id = %(id)s"

LIST = f"""
{COUNTED}
WHERE %(after)s::text IS NULL
   OR (batches.created_at, batches.id) < (SELECT created_at, id FROM batches WHERE id = %(after)s)
ORDER BY batches.created_at DESC, batches.id DESC LIMIT %(limit)s
"""

SONGS = """
SELECT * FROM jobs
WHERE batch = %(id)s AND (%(after)s::text IS NULL OR place > (SELECT place FROM jobs WHERE id = %(after)s))
ORDER BY place LIMIT %(limit)s
"""

# --- the user's word ----------------------------------------------------------------------------

CANCEL = """
UPDATE batches SET status = 'cancelled', updated_at = now(),
  message = CASE WHEN status = 'listed' THEN message END
WHERE id = %(id)s AND (status = 'listing' OR status = 'listed' AND EXISTS (
  SELECT FROM jobs WHERE batch = %(id)s AND jobs.status IN ('queued', 'processing')))
RETURNING *
"""

OPEN_SONGS = """
SELECT DISTINCT fingerprint FROM jobs
WHERE batch = %(id)s AND status IN ('queued', 'processing') AND fingerprint IS NOT NULL ORDER BY fingerprint
"""

CANCEL_SONGS = """
UPDATE jobs SET status = 'cancelled', status_message = 'Cancelled', completed_at = now(),
  progress_log = progress_log || %(steps)s
WHERE batch = %(id)s AND status IN ('queued', 'processing')
RETURNING run_id
"""

# Not the lines that lead to no song: those have no fingerprint.
TO_RETRY = """
SELECT jobs.* FROM jobs JOIN batches ON batches.id = jobs.batch
WHERE batches.id = %(id)s AND fingerprint IS NOT NULL
  AND (jobs.status = 'error' OR batches.status = 'cancelled' AND jobs.status = 'cancelled')
ORDER BY place
"""

GOES_ON = "UPDATE batches SET status = 'listed', updated_at = now() WHERE id = %(id)s AND status = 'cancelled'"

log = logging.getLogger("batches")


class Listing(StrEnum):
    LISTING = "listing"
    LISTED = "listed"
    ERROR = "error"
    CANCELLED = "cancelled"


class Batch(BaseModel):
    """A batch as it was when it was read, and how many of its songs were how far."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    title: str | None = None
    link: str | None = None  # of the playlist or channel
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    status: Listing
    message: str | None = None
    attempt: int = 1  # at listing it
    lost_runs: int = 0
    run_id: str | None = None
    created_at: datetime
    updated_at: datetime
    total: int = 0
    queued: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    waits: str | None = None  # until when and why the first of those waits that do not just wait for their turn
    pct: int = 0

    @property
    def what(self) -> str:
        """The kind of list that it is made of."""
        found = links.collection(self.link) if self.link else None
        return found.kind if found else "list"

    def request(self, link: str) -> Request:
        return Request.model_validate({**self.options, "link": link})

    @property
    def fence(self) -> dict[str, Any]:
        """What a write of the run that lists it must still find."""
        return {"id": self.id, "attempt": self.attempt, "run": self.run_id}


# --- what anybody may ask -----------------------------------------------------------------------


def get(id: str) -> Batch | None:
    return next(map(Batch.model_validate, table.rows(GET, {"id": id})), None)


def recent(*, limit: int = 20, after: str | None = None) -> list[Batch]:
    """The newest batches first; `after` continues behind that one."""
    return [Batch.model_validate(row) for row in table.rows(LIST, {"limit": limit, "after": after})]


def songs(id: str, *, limit: int = MOST, after: str | None = None) -> list[Job]:
    """Its jobs in their order, as their callers see them; `after` continues behind that one."""
    return table.seen(table.select(SONGS, {"id": id, "limit": limit, "after": after}))


# --- a new one ----------------------------------------------------------------------------------


def of_links(conn: Connection, id: str, asked: Request, wanted: Sequence[Wanted]) -> dict[str, Fate]:
    """A batch whose songs are known: all their rows or none. What became of each; nothing if the id is taken."""
    if not _insert(conn, id, asked, Listing.LISTED):
        return {}
    return admission.admit_within(conn, wanted)


def of_playlist(conn: Connection, id: str, asked: Request, run: str | None = None) -> None:
    """A batch whose songs a run has to list: those of the link that is asked for."""
    _insert(conn, id, asked, Listing.LISTING, link=asked.link, message="Waiting to be listed", run=run)


def _insert(conn: Connection, id: str, asked: Request, status: Listing, **more: str | None) -> bool:
    options = as_jsonb(asked.model_dump(mode="json", exclude={"link"}, exclude_none=True))
    row = {"id": id, "status": status, "link": None, "message": None, "run": None, **more}
    return conn.execute(INSERT.encode(), storable(row) | {"options": options}).fetchone() is not None


def start(songs: Iterable[tuple[str, int]]) -> None:
    """Start the run of each job, given with its attempt. Should Prefect be away, the mirror starts them."""
    for id, attempt in songs:
        try:
            waiting = table.get(id)
            if waiting is not None and waiting.attempt == attempt and not waiting.ended:  # not cancelled meanwhile
                table.assign(id, attempt, runs.fetch(id, attempt, Queue.BATCH, due(waiting)))
        except Passing as error:
            log.warning("the jobs of a batch, from %s on, wait for the mirror to start them: %s", id, error)
            return


# --- the user's word ----------------------------------------------------------------------------


def cancel(id: str) -> list[str] | None:
    """All that is open of it ends at once; the runs that nobody waits for now. None if it had ended, or is unknown."""
    step = table.log(Step(status="error", message="Cancelled"))
    with connection() as conn, conn.transaction():
        found = conn.execute(CANCEL.encode(), {"id": id}).fetchone()
        if found is None:
            return None
        # As when they were admitted: so that this and another batch with the same songs never wait for each other.
        for song in conn.execute(OPEN_SONGS.encode(), {"id": id}).fetchall():
            conn.execute(queries.LOCK_SONG.encode(), song)
        ended = conn.execute(CANCEL_SONGS.encode(), {"id": id, "steps": step}).fetchall()
    return [run for run in (found["run_id"], *(song["run_id"] for song in ended)) if run is not None]


def retry(id: str) -> list[Job] | None:
    """The next attempt of each song that failed, or was cancelled with the batch. None if there is nothing to try."""
    again = table.select(TO_RETRY, {"id": id})
    table.execute(GOES_ON, {"id": id})
    tried = [job for job in (admission.retry(song.id, queue=Queue.BATCH) for song in again) if job is not None]
    return tried or None
