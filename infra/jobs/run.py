"""One run's hold on one row. Every write carries the fence: attempt and run must still own an open row.

In a race several runs hold the row: the first to complete it wins, and of the others one alone shows its progress.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Self

from infra.database import as_jsonb, insist, storable
from infra.errors import DatabaseAway, TakenOver, UserError
from infra.jobs import queries, table
from infra.jobs.job import Job, Step
from infra.jobs.pulse import beating
from infra.jobs.request import PIPELINE_VERSION, Provider
from infra.jobs.stages import SHARES, Stage, percent
from infra.jobs.states import Outcome, Status

PAUSE = 0.25  # seconds between two progress writes within a stage
LOG_LIMIT = 200  # steps kept; what ends an attempt is always kept


class Run:
    def __init__(self, job: Job, run: str) -> None:
        self.job = job
        self.id = run
        self._fence = {"id": job.id, "attempt": job.attempt, "run": run}
        self._stage: Stage | None = None
        self._last_write = time.monotonic()
        self._work: Mapping[str, Any] | None = None  # what the history says of this run while it works

    @classmethod
    def claim(cls, id: str, attempt: int, run: str, *, racing: bool = False) -> Self:
        """Take the row for this run; older runs of the attempt are refused from here on, unless it races with them."""
        wanted = {"id": id, "attempt": attempt, "run": run, "racing": racing}
        job = insist(lambda: table.first(queries.CLAIM, wanted))
        if job is None:
            raise TakenOver
        return cls(job, run)

    def report(self, stage: Stage, share: float, message: str, *, step: bool = False) -> None:
        """Progress, at most four times a second within a stage, a step always. Raises TakenOver once the row is lost.

        A database that is away costs the user this message, not the song. Of racers one alone is shown.
        """
        now = time.monotonic()
        new_step = step or stage is not self._stage
        if not new_step and share < 1 and now - self._last_write < PAUSE:
            return
        steps = [self._step(stage, message)] if new_step else []
        self._last_write = time.monotonic()
        parameters = {"pct": percent(stage, share), "message": message, "stage": stage, "limit": LOG_LIMIT}
        try:
            if not table.execute(queries.PROGRESS, self._fence | parameters | {"steps": table.log(*steps)}):
                self._insist_on_holding()
        except DatabaseAway:
            return
        self._stage = stage

    def learn(
        self,
        *,
        title: str | None = None,
        artist: str | None = None,
        duration: float | None = None,
        video_id: str | None = None,
        audio_key: str | None = None,
        fingerprint: str | None = None,
        thumbnail: str | None = None,
        chapters: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """What the run found out about the song."""
        facts = {
            "title": title,
            "artist": artist,
            "duration": round(duration) if duration else None,
            "video_id": video_id,
            "audio_key": audio_key,
            "fingerprint": fingerprint,
            "thumbnail": thumbnail,
            "chapters": as_jsonb([dict(chapter) for chapter in chapters]) if chapters else None,
        }
        insist(lambda: self._write(queries.LEARN, facts))

    def heartbeat(self) -> AbstractContextManager[None]:
        """The row shows that this process lives, whatever its main thread is busy with."""
        return beating(lambda: table.execute(queries.HEARTBEAT, self._fence))

    def hand_over(self, to: Sequence[str]) -> None:
        """The row belongs to the next run, which may have claimed it already. Several next runs race for it."""
        insist(lambda: table.execute(queries.HAND_OVER, self._fence | {"to": list(to)}))

    def postpone(self, to: str, message: str) -> None:
        """The next attempt begins later, with that run."""
        step = Step(status="pending", message=message, attempt=self.job.attempt)
        insist(lambda: self._write(queries.POSTPONE, {"to": to, "message": message, "steps": table.log(step)}))

    def wanted(self) -> bool:
        """Whether the job still waits for a result, from this run or from a later one."""
        try:
            return table.first(queries.WANTED, {"id": self.job.id}) is not None
        except DatabaseAway:
            return True

    def remember(self, provider: Provider, call: str | None) -> None:
        """The remote call that works on this job, so that a later run takes it up again; None forgets it."""
        insist(lambda: self._write(queries.REMEMBER, {"provider": provider, "call": call}))
        others = {name: known for name, known in self.job.calls.items() if name != provider}
        calls = others if call is None else {**others, provider.value: call}
        self.job = self.job.model_copy(update={"calls": calls})

    def began(self, provider: Provider, audio_seconds: float | None) -> None:
        """The GPU stage begins here. What the history misses while the database is away costs no song."""
        self._work = {**self._fence, "provider": provider, "audio_seconds": audio_seconds}
        with suppress(DatabaseAway):
            table.execute(queries.RUN_BEGAN, self._work)
            table.execute(queries.LEAD, self._work)

    def ended(self, outcome: Outcome, seconds: float, cost: float) -> None:
        """How the GPU stage that began here ended, whoever the row belongs to by now."""
        if self._work is None:
            return
        with suppress(DatabaseAway):
            table.execute(queries.RUN_ENDED, {**self._work, "outcome": outcome, "seconds": seconds, "cost": cost})

    def complete(
        self,
        *,
        results_url: str,
        files: Mapping[str, str],
        message: str,
        title: str | None = None,
        duration: float | None = None,
        method: str | None = None,
        seconds: float | None = None,
        quality: float | None = None,
        pipeline: int = PIPELINE_VERSION,
    ) -> None:
        """End the job with its result. Of several racers the first wins, the others are TakenOver."""
        result = {
            "results_url": results_url,
            "srt_url": files.get("srt"),
            "files": as_jsonb(dict(files)),
            "message": message,
            "title": title,
            "duration": round(duration) if duration else None,
            "method": method,
            "seconds": seconds,
            "quality": quality,
            "pipeline": pipeline,
            "steps": table.log(self._step(Stage.DONE, message)),
        }
        insist(lambda: self._end(Status.COMPLETED, queries.COMPLETE, result))

    def fail(self, error: UserError) -> None:
        """End the job with its sentence. A racer only drops out while others go on."""
        if insist(lambda: table.drop_out(self._fence, str(error))):
            return
        step = Step(status="error", message=str(error), stage=self._stage, attempt=self.job.attempt)
        ending = {"message": str(error), "kind": error.kind, "advice": error.advice, "steps": table.log(step)}
        insist(lambda: self._end(Status.ERROR, queries.FAIL, ending))

    def _write(self, query: str, parameters: Mapping[str, Any]) -> None:
        if table.execute(query, {**self._fence, **parameters}) == 0:
            raise TakenOver

    def _insist_on_holding(self) -> None:
        if table.first(queries.HELD, self._fence) is None:
            raise TakenOver

    def _end(self, status: Status, query: str, parameters: Mapping[str, Any]) -> None:
        try:
            self._write(query, parameters)
        except TakenOver:
            # A first try may have been committed before the connection broke: then the row ended by our hand.
            job = table.get(self.job.id)
            ours = (status, storable(parameters["message"]), self.id, self.job.attempt)
            if job is None or (job.status, job.status_message, job.run_id, job.attempt) != ours:
                raise

    def _step(self, stage: Stage, message: str) -> Step:
        """The stage begins (the one before is over with that), or the job is done."""
        status = "completed" if stage is Stage.DONE else "in_progress"
        begin = SHARES[stage][0]
        return Step(status=status, percentage=begin, message=message, stage=stage, attempt=self.job.attempt)
