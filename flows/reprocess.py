"""At night: songs made anew by a better pipeline, and failures that may have passed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from prefect import flow, get_run_logger

from flows.artifacts import show_report
from infra import runs
from infra.errors import Passing
from infra.jobs import admission, nightly, routing, table
from infra.jobs.job import Job
from infra.jobs.nightly import Budget
from infra.jobs.request import PIPELINE_VERSION, Queue
from infra.jobs.routing import Record
from infra.settings import settings
from infra.storage import storage

USUAL_MINUTES = 4.0  # of a song whose length is not known yet


@dataclass(frozen=True, slots=True)
class Chosen:
    job: Job
    work: Literal["made anew", "tried again"]
    why: str
    minutes: float

    def __str__(self) -> str:
        return f"{self.job.title or self.job.youtube_url}: {self.work}, {self.why} ({self.minutes:.1f} min)"


@flow(name="reprocess", flow_run_name="reprocess", retries=0)
async def reprocess(minutes: float | None = None, dollars: float | None = None) -> None:
    """Make songs anew that an older pipeline made or that came out poorly, and try passing failures again.

    The oldest first, behind everything that people asked for, until the night's budget is spent.

    Args:
        minutes: How much audio the night may hear; NIGHTLY_MINUTES if left empty.
        dollars: What the night may cost; NIGHTLY_DOLLARS if left empty.
    """
    budget = Budget(
        settings().nightly_minutes if minutes is None else minutes,
        settings().nightly_dollars if dollars is None else dollars,
    )
    candidates = sorted([*poor_or_old(), *failed()], key=lambda chosen: chosen.job.created_at)
    chosen = affordable(candidates, budget, routing.records(settings().routes))
    for song in chosen:
        again(song)
    left = len(candidates) - len(chosen)
    get_run_logger().info("%d songs chosen, %d left for other nights", len(chosen), left)
    show_report(
        "reprocess",
        "Songs of this night",
        {f"Chosen: {len(chosen)}": [str(song) for song in chosen], f"Left for other nights: {left}": []},
    )


def poor_or_old() -> list[Chosen]:
    jobs = [job for job in nightly.worth_remaking(settings().poor_quality) if can_be_had(job)]
    return [Chosen(job, "made anew", why_anew(job), length(job)) for job in jobs]


def failed() -> list[Chosen]:
    return [
        Chosen(job, "tried again", job.error_message or "it failed", length(job)) for job in nightly.worth_another_try()
    ]


def why_anew(job: Job) -> str:
    if (job.pipeline or 0) < PIPELINE_VERSION:
        return f"made by pipeline {job.pipeline or 0} of {PIPELINE_VERSION}"
    return f"its quality is {job.quality or 0:.0%}"


def can_be_had(job: Job) -> bool:
    """What was uploaded is there only as long as it is kept."""
    return not job.youtube_url.startswith("upload:") or (job.audio_key is not None and storage().exists(job.audio_key))


def length(job: Job) -> float:
    return job.duration / 60 if job.duration else USUAL_MINUTES


def affordable(candidates: Iterable[Chosen], budget: Budget, records: Sequence[Record]) -> list[Chosen]:
    """In their order what fits; one that is too long for tonight does not keep shorter ones from their turn."""
    chosen: list[Chosen] = []
    for song in candidates:
        left = budget.after(song.minutes, dollars_for(song, records))
        if left is not None:
            budget = left
            chosen.append(song)
    return chosen


def dollars_for(song: Chosen, records: Sequence[Record]) -> float:
    """What is to be expected of the providers that it will be routed to."""
    return sum(pick.expected_cost for pick in routing.choose(records, song.minutes, count=song.job.request.race))


def again(song: Chosen) -> None:
    """Into the queue for the night. Should Prefect be away, the mirror starts the run."""
    if song.work == "made anew":
        id, attempt = table.new_id(), 1
        old = song.job
        if old.audio_key:
            storage().touch(old.audio_key)  # it is still needed when its turn comes
        table.insert(old.request, id=id, title=old.title, video_id=old.video_id, queue=Queue.NIGHTLY, replaces=old.id)
    else:
        job = admission.retry(song.job.id, queue=Queue.NIGHTLY)
        if job is None:
            return  # its user was faster
        id, attempt = job.id, job.attempt
    with suppress(Passing):
        table.assign(id, attempt, runs.fetch(id, attempt, Queue.NIGHTLY))
