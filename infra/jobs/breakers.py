"""Which ways to a site are closed for a while, because it limits whoever comes by them: known to all workers.

A way that was closed and whose time is over lets one through first; only what that one finds opens it for all.
A database that is away closes nothing: then every job finds out for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random

from infra.errors import DatabaseAway
from infra.jobs import table

PROBE = 120.0  # seconds that the first one has to find out
LONGEST = 6 * 3600.0  # seconds to which repetition stretches a limit
SAME_TRIP = 120.0  # seconds within which several jobs meet one and the same limit
FORGOTTEN = 24 * 3600.0  # seconds after which a limit is not a repetition any more

WAITING = timedelta(hours=24)  # at most, of batches and the night's songs
SPREAD = timedelta(minutes=10)
STALE = "stale login: "  # begins the name under which a login stands that a site no longer accepts
STALE_FOR = 30 * 24 * 3600.0  # seconds: for good, as one that was given anew has another name

# The rows are locked first: of many who come when the time is over, the second sees what the first has written.
CLOSED = """
WITH ways AS (SELECT * FROM breakers WHERE name = ANY (%(names)s) FOR UPDATE),
probed AS (
  UPDATE breakers SET until = now() + %(probe)s * interval '1 second'
  WHERE name IN (SELECT name FROM ways) AND NOT EXISTS (SELECT FROM ways WHERE until > now())
)
SELECT name, reason, until FROM ways WHERE until > now() ORDER BY until DESC LIMIT 1
"""

TRIP = """
WITH before AS (
  SELECT CASE WHEN tripped_at > now() - %(same)s * interval '1 second' THEN times
              WHEN tripped_at > now() - %(forgotten)s * interval '1 second' THEN times + 1 ELSE 1 END AS times
  FROM breakers WHERE name = %(name)s
), tripped AS (SELECT COALESCE((SELECT times FROM before), 1) AS times)
INSERT INTO breakers (name, reason, times, until)
SELECT %(name)s, %(reason)s, times,
  now() + LEAST(%(seconds)s * power(2, times - 1), GREATEST(%(seconds)s, %(longest)s)) * interval '1 second'
FROM tripped
ON CONFLICT (name) DO UPDATE SET
  reason = EXCLUDED.reason, times = EXCLUDED.times, tripped_at = now(),
  until = GREATEST(breakers.until, EXCLUDED.until)
RETURNING until
"""

PASSED = "DELETE FROM breakers WHERE name = ANY (%(names)s)"

OPENS = "SELECT min(until) AS until FROM breakers WHERE name = ANY (%(names)s) AND until > now()"

FORGET = "DELETE FROM breakers WHERE until < now() - %(forgotten)s * interval '1 second'"

STILL_CLOSED = "SELECT name, reason, until FROM breakers WHERE until > now() ORDER BY name"


@dataclass(frozen=True, slots=True)
class Closed:
    name: str
    until: datetime
    reason: str


def closed(names: Sequence[str]) -> Closed | None:
    """What closes a way that all these names stand for. None lets this one through."""
    try:
        found = table.rows(CLOSED, {"names": list(names), "probe": PROBE})
    except DatabaseAway:
        return None
    return Closed(**found[0]) if found else None


def trip(name: str, reason: str, seconds: float) -> datetime:
    """Close the way for so long, and for twice that each time it happens again soon; until when."""
    known = {"same": SAME_TRIP, "forgotten": FORGOTTEN, "longest": LONGEST}
    with suppress(DatabaseAway):
        return table.rows(TRIP, {"name": name, "reason": reason, "seconds": seconds, **known})[0]["until"]
    return datetime.now(UTC) + timedelta(seconds=seconds)


def passed(names: Sequence[str]) -> None:
    """Somebody came through: they are open for all."""
    with suppress(DatabaseAway):
        table.execute(PASSED, {"names": list(names)})


def come_back_at(names: Sequence[str], since: datetime) -> datetime | None:
    """When to try again what nobody sits and waits for. None if that would be too late, or nothing is closed."""
    opens = opens_at(names)
    if opens is None or opens - since > WAITING:
        return None
    return opens + random() * SPREAD  # noqa: S311  (the first of those who wait finds out for all)


def waiting_until(at: datetime) -> str:
    return f"Waiting until {clock(at)}"


def clock(moment: datetime) -> str:
    """As users read it, whatever the database's time zone is."""
    return f"{moment.astimezone(UTC):%H:%M} UTC"


def give_up_login(egress: str) -> None:
    trip(f"{STALE}{egress}", "YouTube no longer accepts these cookies: give new ones", STALE_FOR)


def login_is_stale(egress: str) -> bool:
    return closed([f"{STALE}{egress}"]) is not None


def opens_at(names: Sequence[str]) -> datetime | None:
    """When the first of these that are closed is open again."""
    return table.rows(OPENS, {"names": list(names)})[0]["until"]


def all_closed() -> list[Closed]:
    return [Closed(**row) for row in table.rows(STILL_CLOSED, {})]


def forget() -> int:
    """The limits that are over for so long that the next one is no repetition."""
    return table.execute(FORGET, {"forgotten": FORGOTTEN})
