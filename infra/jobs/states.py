"""The state machine of a job. The database enforces the same one (migrations, trigger jobs_guard).

    queued ──→ processing ──→ completed
      │  ↖________│   │  └──→ error ─────┐
      │   attempt+1   └─────→ cancelled ─┤
      └──→ completed, error, cancelled   └──→ queued, attempt+1 (a retry)

Within an attempt: pct never falls, progress_log only grows, an ended row does not change.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELLED = "cancelled"


ENDED = frozenset({Status.COMPLETED, Status.ERROR, Status.CANCELLED})
OPEN = frozenset(Status) - ENDED

WITHIN_ATTEMPT: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset(Status),
    Status.PROCESSING: ENDED | {Status.PROCESSING},
    Status.COMPLETED: frozenset(),
    Status.ERROR: frozenset(),
    Status.CANCELLED: frozenset(),
}
MAY_TRY_AGAIN = OPEN | {Status.ERROR, Status.CANCELLED}  # → queued, with the next attempt
MAX_LOST_RUNS = 3  # runs lost in a row (crashed, killed) before a job ends with an error


class Outcome(StrEnum):
    """How a run's work on a job ended."""

    PUBLISHED = "published"
    BEATEN = "beaten"  # another racer was first
    FAILED = "failed"
    CRASHED = "crashed"
    CANCELLED = "cancelled"


def may_move(old: Status, new: Status, *, attempts: int = 0) -> bool:
    """Whether a row may go from `old` to `new`, `attempts` attempts later."""
    if attempts == 0:
        return new in WITHIN_ATTEMPT[old]
    return attempts == 1 and new is Status.QUEUED and old in MAY_TRY_AGAIN
