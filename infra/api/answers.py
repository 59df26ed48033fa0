"""What the API says of a job, in the contract's field names."""

from __future__ import annotations

import time
from typing import Any

from infra.jobs.job import Job
from infra.jobs.stages import SHARES
from infra.jobs.states import Status


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
        "youtubeUrl": job.youtube_url,
        "audioUrl": absolute(audio_url, base),
        "errorKind": job.error_kind,
        "advice": job.error_advice or None,
        "attempt": job.attempt,
    }
    return brief(job, base) | {name: value for name, value in more.items() if value is not None}


def steps(job: Job) -> dict[str, Any]:
    """The log as a list of steps: a stage that was begun and ended in one attempt is one step."""
    shown: list[dict[str, Any]] = []
    begun: dict[tuple[Any, Any], dict[str, Any]] = {}
    for entry in job.progress_log:
        key = (entry.get("attempt"), entry.get("stage"))
        step = {name: entry[name] for name in ("status", "percentage", "message", "timestamp") if name in entry}
        if entry.get("stage") and key in begun and entry["status"] == "completed":
            earlier = begun[key]
            earlier |= {"status": "completed", "percentage": entry["percentage"], "duration": entry.get("duration")}
            continue
        shown.append(step)
        if entry.get("stage"):
            begun[key] = step
    if shown and shown[-1]["status"] == "in_progress":
        shown[-1] |= {"message": job.status_message or shown[-1]["message"], "percentage": job.pct}
    answer = {"steps": shown, "currentStage": job.current_stage, "estimatedTimeRemaining": seconds_left(job)}
    return {name: value for name, value in answer.items() if value is not None}


def listed(job: Job, base: str) -> dict[str, Any]:
    more = {
        "jobId": job.id,
        "title": job.title,
        "artist": job.artist,
        "youtubeUrl": job.youtube_url,
        "createdAt": job.created_at.isoformat(),
        "completedAt": job.completed_at.isoformat() if job.completed_at else None,
    }
    return brief(job, base) | {name: value for name, value in more.items() if value is not None}


def seconds_left(job: Job) -> int | None:
    """What the last attempt's pace says of the rest; nothing before there is a pace."""
    if job.status is not Status.PROCESSING or job.pct <= SHARES_BEGIN:
        return None
    begun = next(
        (
            entry["timestamp"]
            for entry in job.progress_log
            if entry.get("attempt") == job.attempt and entry.get("stage") == "decode"
        ),
        None,
    )
    if begun is None:
        return None
    from datetime import datetime

    spent = time.time() - datetime.fromisoformat(begun).timestamp()
    return max(1, round(spent * (100 - job.pct) / (job.pct - SHARES_BEGIN)))


SHARES_BEGIN = next(begin for stage, (begin, _) in SHARES.items() if stage == "decode")


def absolute(url: str | None, base: str) -> str | None:
    """Links to our own files are kept without the address, which may change between starts."""
    return base.rstrip("/") + url if url is not None and url.startswith("/") else url
