"""How a request becomes a row: finished at once, behind the job that makes the same song, or with work of its own.

Any number of requests for the same song and options, at once or while it is made, lead to one work. A request that may
come twice carries a key: within a day the same one again gets the first answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from infra.database import Connection, as_jsonb, connection, storable
from infra.errors import KeyReused, StorageAway, UserError
from infra.jobs import queries, table
from infra.jobs.job import Job, Step
from infra.jobs.request import Queue, Request
from infra.storage import there

BEFORE_ALL = tuple(Queue)  # the queues, the first one served first
FOLLOWING = "Waiting for the same song, which is being made for another request"
FOUND = "Found: this song was made before"

KEY_LIVES = 24 * 3600.0  # seconds

# A key whose time is over is free again. Who comes second waits here for the first one's commit.
CLAIM_KEY = """
INSERT INTO request_keys (key, asked, answer) VALUES (%(key)s, %(asked)s, 'null')
ON CONFLICT (key) DO UPDATE SET asked = EXCLUDED.asked, answer = 'null', created_at = now()
WHERE request_keys.created_at < now() - %(lives)s * interval '1 second'
RETURNING key
"""

KNOWN_KEY = "SELECT asked, answer FROM request_keys WHERE key = %(key)s"

KEEP_ANSWER = "UPDATE request_keys SET answer = %(answer)s WHERE key = %(key)s"

FORGET_KEYS = "DELETE FROM request_keys WHERE created_at < now() - %(lives)s * interval '1 second'"


class Fate(StrEnum):
    BEGINS = "begins"
    FOLLOWS = "follows"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A song as it was asked for, or in a batch a line that leads to none."""

    request: Request
    source: str  # what its link leads to: two links to the same song share it
    title: str | None = None
    video_id: str | None = None
    queue: Queue = Queue.PEOPLE
    batch: str | None = None
    place: int | None = None  # in the batch
    refused: UserError | None = None
    id: str = field(default_factory=table.new_id)

    @property
    def fingerprint(self) -> str:
        return self.request.fingerprint(self.source)


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's name for a request, and what was asked under it."""

    name: str
    asked: str

    @classmethod
    def of(cls, name: str, asked: Any) -> Key:
        text = json.dumps(asked, sort_keys=True, default=str)
        return cls(name, hashlib.sha256(text.encode(errors="replace")).hexdigest())


def admit(wanted: Sequence[Wanted]) -> dict[str, Fate]:
    """A row for each, all of them or none; what became of it, by its id."""
    with connection() as conn, conn.transaction():
        return admit_within(conn, wanted)


def admit_within(conn: Connection, wanted: Sequence[Wanted]) -> dict[str, Fate]:
    """The same within a transaction of the caller's."""
    # In one order, so that two batches never wait for each other.
    for fingerprint in sorted({one.fingerprint for one in wanted if one.refused is None}):
        conn.execute(queries.LOCK_SONG.encode(), {"fingerprint": fingerprint})
    return {one.id: _admit(conn, one, alone=len(wanted) == 1) for one in wanted}


def retry(id: str, queue: Queue = Queue.PEOPLE) -> Job | None:
    """The next attempt of a job that ended without a result. None if there is nothing to try again."""
    by = "by its user" if queue is Queue.PEOPLE else "by the nightly run"
    with connection() as conn, conn.transaction():
        found = conn.execute(queries.GET.encode(), {"id": id}).fetchone()
        fingerprint = found["fingerprint"] if found else None
        if fingerprint:
            conn.execute(queries.LOCK_SONG.encode(), {"fingerprint": fingerprint})
        leader = leader_for(conn, fingerprint, id, queue) if fingerprint else None
        asked = {"id": id, "queue": queue, "follows": leader}
        row = conn.execute(queries.RETRY.encode(), asked | table.afresh(f"Tried again {by}")).fetchone()
        if row and fingerprint and leader is None:
            _lead(conn, fingerprint, id)
        return Job.model_validate(row) if row else None


def once(key: Key | None, answer: Callable[[Connection], Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The answer, and whether it was given before: under one key it is made once a day."""
    with connection() as conn, conn.transaction():
        if key is None:
            return dict(answer(conn)), False
        mine = {"key": key.name, "asked": key.asked, "lives": KEY_LIVES}
        if conn.execute(CLAIM_KEY.encode(), mine).fetchone() is None:
            known = conn.execute(KNOWN_KEY.encode(), mine).fetchone()
            if known is None or known["asked"] != key.asked:
                raise KeyReused
            return known["answer"], True
        made = dict(answer(conn))
        conn.execute(KEEP_ANSWER.encode(), {"key": key.name, "answer": as_jsonb(made)})
        return made, False


def forget_keys() -> int:
    return table.execute(FORGET_KEYS, {"lives": KEY_LIVES})


def leader_for(conn: Connection, fingerprint: str, id: str, queue: Queue) -> str | None:
    """The job that makes this song already, if this one should wait for it: not if that one's own turn comes later."""
    found = conn.execute(queries.LEADER.encode(), {"fingerprint": fingerprint, "id": id}).fetchone()
    if found is None:
        return None
    later = BEFORE_ALL.index(Queue(found["queue"])) > BEFORE_ALL.index(queue)
    return None if later and found["status"] == "queued" else found["id"]


def _admit(conn: Connection, wanted: Wanted, *, alone: bool) -> Fate:
    if wanted.refused is not None:
        _refuse(conn, wanted, wanted.refused)
        return Fate.REFUSED
    leader = leader_for(conn, wanted.fingerprint, wanted.id, wanted.queue)
    before = _finished(conn, wanted, alone=alone)
    if before is not None:
        step = Step(status="completed", percentage=100, message=FOUND, stage="done")
        _insert(conn, queries.INSERT_FINISHED, wanted, step, before=before.id)
        return Fate.FINISHED
    step = Step(status="pending", message=FOLLOWING if leader else "Waiting for its turn")
    _insert(conn, queries.INSERT, wanted, step, follows=leader, run=None, replaces=None)
    if leader is not None:
        return Fate.FOLLOWS
    _lead(conn, wanted.fingerprint, wanted.id)
    return Fate.BEGINS


def _lead(conn: Connection, fingerprint: str, id: str) -> None:
    """Whoever waits for this song in a later queue waits for this job instead."""
    found = conn.execute(queries.LEADER.encode(), {"fingerprint": fingerprint, "id": id}).fetchone()
    if found is not None:
        instead = {"id": id, "leader": found["id"], "message": FOLLOWING}
        conn.execute(queries.FOLLOW_INSTEAD.encode(), instead)


def _finished(conn: Connection, wanted: Wanted, *, alone: bool) -> Job | None:
    """An earlier result that is still there. Of many songs those kept elsewhere are looked for by their own runs."""
    asked = {"fingerprint": wanted.fingerprint, "id": wanted.id}
    found = conn.execute(queries.FINISHED_LIKE.encode(), asked).fetchone()
    if found is None:
        return None
    job = Job.model_validate(found)
    url = job.results_url or ""
    try:
        return job if (alone or url.startswith("/")) and there(url) else None
    except StorageAway:  # its run will ask again
        return None


def _insert(conn: Connection, query: str, wanted: Wanted, step: Step, **more: Any) -> None:
    row = {
        "id": wanted.id,
        "link": wanted.request.link,
        "title": wanted.title,
        "options": as_jsonb(wanted.request.model_dump(mode="json", exclude={"link"}, exclude_none=True)),
        "batch": wanted.batch,
        "place": wanted.place,
        "video_id": wanted.video_id,
        "queue": wanted.queue,
        "fingerprint": wanted.fingerprint,
        "message": step.message,
        "steps": table.log(step),
    }
    conn.execute(query.encode(), storable({**row, **more}))


def _refuse(conn: Connection, wanted: Wanted, error: UserError) -> None:
    step = Step(status="error", message=str(error))
    _insert(conn, queries.INSERT_REFUSED, wanted, step, kind=error.kind, advice=error.advice)
