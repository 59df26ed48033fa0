"""What the nights ask of the jobs table: which songs to make anew, what is left lying about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from infra.database import connection
from infra.jobs import table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION

NIGHTS = 3  # attempts up to which a failed song is tried again at night
LIMIT = 500  # candidates a night

# Songs by an older pipeline, or poor ones, each link and options once. What was asked for again since, or is being made
# anew, is left alone; a poor song that was already made anew gets no third chance before the next pipeline.
WORTH_REMAKING = """
SELECT * FROM (
  SELECT DISTINCT ON (youtube_url, options - 'provider' - 'race') * FROM jobs
  WHERE status = 'completed' AND fingerprint IS NOT NULL
  ORDER BY youtube_url, options - 'provider' - 'race', completed_at DESC
) AS song
WHERE (COALESCE(pipeline, 0) < %(pipeline)s OR quality < %(poor)s AND replaces IS NULL)
  AND NOT EXISTS (SELECT FROM jobs AS anew WHERE anew.replaces = song.id)
ORDER BY completed_at LIMIT %(limit)s
"""

# Failures that may have passed by now.
WORTH_ANOTHER_TRY = """
SELECT * FROM jobs
WHERE status = 'error' AND error_kind = 'passing' AND attempt <= %(nights)s
  AND completed_at < now() - interval '1 hour' AND created_at > now() - interval '14 days'
ORDER BY created_at LIMIT %(limit)s
"""

# Whose remote calls nobody waits for any more.
ENDED_WITH_CALLS = """
SELECT * FROM jobs
WHERE calls <> '{}' AND completed_at > now() - interval '2 days'
ORDER BY completed_at LIMIT %(limit)s
"""

OPEN_AUDIO = "SELECT audio_key FROM jobs WHERE status IN ('queued', 'processing') AND audio_key IS NOT NULL"

# Audio that no job asked for since; those of a week of nights, should one fail. What is removed twice is gone once.
UNUSED_AUDIO = """
SELECT audio_key FROM jobs WHERE audio_key IS NOT NULL GROUP BY audio_key
HAVING bool_and(completed_at IS NOT NULL)
  AND max(completed_at) BETWEEN now() - (%(days)s + 7) * interval '1 day' AND now() - %(days)s * interval '1 day'
ORDER BY max(completed_at) LIMIT %(limit)s
"""

KNOWN = "SELECT id FROM jobs WHERE id = ANY (%(ids)s)"

INTERRUPTED = """
SELECT * FROM jobs WHERE status IN ('queued', 'processing') AND lost_runs > 0 ORDER BY created_at LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one night may cost."""

    minutes: float  # of audio
    dollars: float

    def after(self, minutes: float, dollars: float) -> Budget | None:
        """What is left; None where it is not enough."""
        left = Budget(self.minutes - minutes, self.dollars - dollars)
        return left if left.minutes >= 0 and left.dollars >= 0 else None


def worth_remaking(poor: float) -> list[Job]:
    """The oldest first."""
    return table.select(WORTH_REMAKING, {"pipeline": PIPELINE_VERSION, "poor": poor, "limit": LIMIT})


def worth_another_try() -> list[Job]:
    """The oldest first."""
    return table.select(WORTH_ANOTHER_TRY, {"nights": NIGHTS, "limit": LIMIT})


def ended_with_calls() -> list[Job]:
    return table.select(ENDED_WITH_CALLS, {"limit": LIMIT})


def interrupted() -> list[Job]:
    """The jobs that lost a run and go on."""
    return table.select(INTERRUPTED, {"limit": LIMIT})


def open_audio() -> set[str]:
    """The audio that jobs still need."""
    with connection() as conn:
        return {row["audio_key"] for row in conn.execute(OPEN_AUDIO.encode())}


def unused_audio(days: float) -> list[str]:
    """The keys of audio that no job used for so long."""
    return [row["audio_key"] for row in table.rows(UNUSED_AUDIO, {"days": days, "limit": LIMIT})]


def unknown(jobs: Iterable[str]) -> set[str]:
    """Those of the jobs that have no row."""
    asked = set(jobs)
    with connection() as conn:
        return asked - {row["id"] for row in conn.execute(KNOWN.encode(), {"ids": list(asked)})}
