"""A row of the jobs table, as it was when it was read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.jobs.request import Provider, Queue, Request
from infra.jobs.states import ENDED, Status

StepStatus = Literal["pending", "in_progress", "completed", "error"]


class Step(BaseModel):
    """One entry of a job's log."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: StepStatus
    percentage: int = 0
    message: str = ""
    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    duration: float | None = None  # seconds
    stage: str | None = None
    attempt: int = 1


class Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    youtube_url: str
    title: str | None = None
    artist: str | None = None
    duration: int | None = None
    thumbnail: str | None = None
    chapters: tuple[dict[str, Any], ...] = ()  # each with its title, start and end
    status: Status
    results_url: str | None = None
    srt_url: str | None = None
    error_message: str | None = None
    error_kind: str | None = None
    error_advice: str | None = None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    openai_model: str | None = None
    pct: int = 0
    status_message: str | None = None
    current_stage: str | None = None
    processing_method: str | None = None
    processing_time_seconds: float | None = None
    video_id: str | None = None
    progress_log: tuple[dict[str, Any], ...] = ()
    attempt: int = 1
    lost_runs: int = 0
    run_id: str | None = None
    racers: tuple[str, ...] = ()  # runs that may publish in this attempt, if it is a race; run_id leads
    calls: dict[str, str] = Field(default_factory=dict[str, str])  # provider → its remote call that works on this job
    queue: Queue = Queue.PEOPLE
    provider: Provider | None = None  # who does or did the GPU stage
    pipeline: int | None = None
    quality: float | None = None  # 0–1
    replaces: str | None = None  # the job whose song this one makes anew
    options: dict[str, Any] = Field(default_factory=dict[str, Any])
    batch: str | None = None
    place: int | None = None  # in the batch
    follows: str | None = None  # the job that makes the same song; this one ends with it
    fingerprint: str | None = None
    audio_key: str | None = None
    files: dict[str, str] = Field(default_factory=dict[str, str])

    @property
    def request(self) -> Request:
        return Request.model_validate({**self.options, "link": self.youtube_url})

    @property
    def ended(self) -> bool:
        return self.status in ENDED
