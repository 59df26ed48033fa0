"""What the API says of a job, in the contract's field names."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise
from typing import Any

from infra.jobs.job import Job
from infra.jobs.stages import SHARES, Stage
from infra.jobs.states import Status

SHOWN = ("status", "percentage", "message", "timestamp", "duration")  # of a log's entry
SONG_BEGINS = SHARES[Stage.DECODE][0]  # percent; before it, a job mostly waits


def brief(job: Job, base: str) -> dict[str, Any]:
    answer = {
        "status": job.status,
        "pct": job.pct,
        "resultUrl": absolute(job.results_url, base),
        "statusMessage": job.status_message,
        "error": job.error_message,
    }
    return {name: value for name, value in answer.items() if value is not None}


def progress(job: Job, base: str, audio_url: str | None) -> dict[str, Any]:
    more = {
        "jobId": job.id,
        "currentStage": job.current_stage,
        "processingMethod": job.processing_method,
        "estimatedTimeRemaining": seconds_left(job),
        "title": job.title,
        "artist": job.artist,
        "duration": job.duration,
        "thumbnail": job.thumbnail,
        "chapters": list(job.chapters) or None,
        "youtubeUrl": job.youtube_url,
        "audioUrl": absolute(audio_url, base),
        "errorKind": job.error_kind,
        "advice": job.error_advice or None,
        "attempt": job.attempt,
    }
    return brief(job, base) | {name: value for name, value in more.items() if value is not None}


def steps(job: Job) -> dict[str, Any]:
    """The log as a list of steps. What was begun is over when the next entry begins."""
    shown = [{name: entry[name] for name in SHOWN if name in entry} for entry in job.progress_log]
    for step, following in pairwise(shown):
        if step["status"] == "in_progress":
            went_on = following["status"] in ("in_progress", "completed")
            step["status"] = "completed" if went_on else "error"
            took = datetime.fromisoformat(following["timestamp"]) - datetime.fromisoformat(step["timestamp"])
            step["duration"] = round(took.total_seconds(), 3)
    if shown and shown[-1]["status"] == "in_progress":
        shown[-1] |= {"message": job.status_message or shown[-1]["message"], "percentage": job.pct}
    answer = {"steps": shown, "currentStage": job.current_stage, "estimatedTimeRemaining": seconds_left(job)}
    return {name: value for name, value in answer.items() if value is not None}


def listed(job: Job, base: str) -> dict[str, Any]:
    more = {
        "jobId": job.id,
        "title": job.title,
        "artist": job.artist,
        "thumbnail": job.thumbnail,
        "youtubeUrl": job.youtube_url,
        "createdAt": job.created_at.isoformat(),
        "completedAt": job.completed_at.isoformat() if job.completed_at else None,
    }
    return brief(job, base) | {name: value for name, value in more.items() if value is not None}


def seconds_left(job: Job) -> int | None:
    """What the last attempt's pace says of the rest; nothing before there is a pace."""
    if job.status is not Status.PROCESSING or job.pct <= SONG_BEGINS:
        return None
    begun = next(
        (
            entry["timestamp"]
            for entry in job.progress_log
            if entry.get("attempt") == job.attempt and entry.get("stage") == Stage.DECODE
        ),
        None,
    )
    if begun is None:
        return None
    spent = time.time() - datetime.fromisoformat(begun).timestamp()
    return max(1, round(spent * (100 - job.pct) / (job.pct - SONG_BEGINS)))


def absolute(url: str | None, base: str) -> str | None:
    """Links to our own files are kept without the address, which may change between starts."""
    return base.rstrip("/") + url if url is not None and url.startswith("/") else url
