"""How fast the songs of a batch are asked for: a site that is asked too often limits everybody who comes from here."""

from __future__ import annotations

from datetime import datetime, timedelta

from infra.jobs.job import Job
from infra.settings import settings

AT_ONCE = 20  # songs of a batch that need not wait


def due(job: Job) -> datetime | None:
    """When its run should begin, if not now. It follows from the row alone: whoever starts the run finds the same."""
    if job.place is None or job.video_id is None or job.place < AT_ONCE:
        return None
    return job.created_at + timedelta(seconds=(job.place - AT_ONCE + 1) * settings().batch_pause)
