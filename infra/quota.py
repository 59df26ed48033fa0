"""How many seconds of sound each hosted engine was sent, and which of them may not be asked for a while.

No engine tells how much of its quota is left, so this ledger counts; all processes share it through the database.
Where there is none (the command line, a far side), or it is away, each process counts for itself.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from infra.errors import DatabaseAway
from infra.settings import settings

if TYPE_CHECKING:
    from infra.database import Connection

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

T = TypeVar("T")

# Held until the transaction ends, so that no two processes both take the last seconds. It is a statement of its own:
# the next one must see what its last holder wrote.
ALONE = "SELECT pg_advisory_xact_lock(hashtextextended(%(engine)s, 2))"

FORGET = "DELETE FROM engine_usage WHERE engine = %(engine)s AND at < now() - interval '1 day'"

RESERVE = """
WITH used AS (
  SELECT COALESCE(sum(seconds) FILTER (WHERE at > now() - interval '1 hour'), 0) AS an_hour,
    COALESCE(sum(seconds), 0) AS a_day
  FROM engine_usage WHERE engine = %(engine)s
)
INSERT INTO engine_usage (engine, seconds)
SELECT %(engine)s, %(seconds)s FROM used
WHERE an_hour + %(seconds)s <= COALESCE(%(an_hour)s, 'infinity'::float8)
  AND a_day + %(seconds)s <= COALESCE(%(a_day)s, 'infinity'::float8)
RETURNING id
"""

GIVE_BACK = "DELETE FROM engine_usage WHERE id = %(id)s"

BLOCK = """
INSERT INTO engine_blocks (engine, until) VALUES (%(engine)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (engine) DO UPDATE SET until = GREATEST(engine_blocks.until, EXCLUDED.until)
RETURNING until
"""

BLOCKED = "SELECT until FROM engine_blocks WHERE engine = %(engine)s AND until > now()"


@dataclass(frozen=True, slots=True)
class Quota:
    """Seconds of sound that an engine takes; None is no limit."""

    an_hour: float | None = None
    a_day: float | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """Seconds that were taken from a quota."""

    id: int
    shared: bool


def reserve(engine: str, seconds: float, quota: Quota) -> Ticket | None:
    """Take these seconds from the engine's quota. None if that holds less."""

    def shared() -> Ticket | None:
        parameters = {"engine": engine, "seconds": seconds, "an_hour": quota.an_hour, "a_day": quota.a_day}
        with _connection() as conn, conn.transaction():
            conn.execute(ALONE, parameters)
            conn.execute(FORGET, parameters)
            row = conn.execute(RESERVE, parameters).fetchone()
        return Ticket(row["id"], shared=True) if row else None

    return _shared(shared, lambda: _own.reserve(engine, seconds, quota))


def give_back(ticket: Ticket) -> None:
    """The seconds of a call that was not answered and costs nothing."""
    if ticket.shared:
        # Away by now: then they count, and a little later nobody remembers them.
        _shared(lambda: _write(GIVE_BACK, id=ticket.id), lambda: None)
    else:
        _own.give_back(ticket)


def block(engine: str, seconds: float) -> datetime:
    """Nobody asks the engine for so long; until when."""
    return _shared(
        lambda: _until(BLOCK, engine=engine, seconds=seconds) or _from_now(seconds),
        lambda: _own.block(engine, seconds),
    )


def blocked(engine: str) -> datetime | None:
    """Until when the engine may not be asked. None lets one ask."""
    return _shared(lambda: _until(BLOCKED, engine=engine), lambda: _own.blocked(engine))


@dataclass(slots=True)
class _Own:
    """The ledger of one process."""

    usage: dict[int, tuple[str, float, datetime]] = field(default_factory=dict[int, tuple[str, float, datetime]])
    blocks: dict[str, datetime] = field(default_factory=dict[str, datetime])
    ids: itertools.count[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, engine: str, seconds: float, quota: Quota) -> Ticket | None:
        with self.lock:
            now = datetime.now(UTC)
            self.usage = {id: used for id, used in self.usage.items() if used[2] > now - DAY}
            for length, limit in ((HOUR, quota.an_hour), (DAY, quota.a_day)):
                used = sum(taken for by, taken, at in self.usage.values() if by == engine and at > now - length)
                if limit is not None and used + seconds > limit:
                    return None
            ticket = Ticket(next(self.ids), shared=False)
            self.usage[ticket.id] = (engine, seconds, now)
            return ticket

    def give_back(self, ticket: Ticket) -> None:
        with self.lock:
            self.usage.pop(ticket.id, None)

    def block(self, engine: str, seconds: float) -> datetime:
        with self.lock:
            self.blocks[engine] = max(_from_now(seconds), self.blocks.get(engine, datetime.now(UTC)))
            return self.blocks[engine]

    def blocked(self, engine: str) -> datetime | None:
        until = self.blocks.get(engine)
        return until if until and until > datetime.now(UTC) else None


_own = _Own()


def _shared(ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """What the database says; otherwise where there is none, it is away, or it does not know these tables yet."""
    if settings().database_url is None:
        return otherwise()
    import psycopg

    try:
        return ask()
    except (DatabaseAway, psycopg.errors.UndefinedTable):
        return otherwise()


def _connection() -> AbstractContextManager[Connection]:
    """Imported only where there is a database: a far side has not even the packages for one."""
    from infra import database

    return database.connection()


def _write(query: str, **parameters: object) -> None:
    with _connection() as conn:
        conn.execute(query.encode(), parameters)


def _until(query: str, **parameters: object) -> datetime | None:
    with _connection() as conn:
        row = conn.execute(query.encode(), parameters).fetchone()
    return row["until"] if row else None


def _from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
