"""One run's hold on one row. Every write carries the fence: attempt and run must still own an open row."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from infra.database import as_jsonb, insist, storable
from infra.errors import DatabaseAway, TakenOver, UserError
from infra.jobs import queries, table
from infra.jobs.job import Job, Step
from infra.jobs.stages import SHARES, Stage, percent
from infra.jobs.states import Status

PAUSE = 0.25  # seconds between two progress writes within a stage
HEARTBEAT = 5.0  # seconds
LOG_LIMIT = 200  # steps kept; what ends an attempt is always kept


class Run:
    def __init__(self, job: Job, run: str) -> None:
        self.job = job
        self.id = run
        self._fence = {"id": job.id, "attempt": job.attempt, "run": run}
        self._stage: Stage | None = None
        self._last_write = time.monotonic()

    @classmethod
    def claim(cls, id: str, attempt: int, run: str) -> Self:
        """Take the row for this run; older runs of the attempt are refused from here on."""
        job = insist(lambda: table.first(queries.CLAIM, {"id": id, "attempt": attempt, "run": run}))
        if job is None:
            raise TakenOver
        return cls(job, run)

    def report(self, stage: Stage, share: float, message: str) -> None:
        """Progress, at most four times a second within a stage. Raises TakenOver once the row is not ours.

        A database that is away costs the user this message, not the song.
        """
        now = time.monotonic()
        new_stage = stage is not self._stage
        if not new_stage and share < 1 and now - self._last_write < PAUSE:
            return
        steps = [self._step(stage, message)] if new_stage else []
        self._last_write = now
        parameters = {"pct": percent(stage, share), "message": message, "stage": stage, "limit": LOG_LIMIT}
        try:
            self._write(queries.PROGRESS, parameters | {"steps": table.log(*steps)})
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
    ) -> None:
        """What the run found out about the song."""
        facts = {
            "title": title,
            "artist": artist,
            "duration": round(duration) if duration else None,
            "video_id": video_id,
            "audio_key": audio_key,
            "fingerprint": fingerprint,
        }
        insist(lambda: self._write(queries.LEARN, facts))

    @contextmanager
    def heartbeat(self) -> Generator[None]:
        """The row shows that this process lives, whatever its main thread is busy with."""
        over = threading.Event()
        worker = os.getppid()

        def beat() -> None:
            while not over.wait(HEARTBEAT):
                try:
                    table.execute(queries.HEARTBEAT, self._fence)
                except DatabaseAway:
                    if os.getppid() != worker:
                        # Worker and database are gone: the whole stack was killed, and nobody waits for this work.
                        os._exit(1)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(1.0)

    def hand_over(self, to: str) -> None:
        """The row belongs to the next run, which may have claimed it already."""
        insist(lambda: table.execute(queries.HAND_OVER, self._fence | {"to": to}))

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
    ) -> None:
        result = {
            "results_url": results_url,
            "srt_url": files.get("srt"),
            "files": as_jsonb(dict(files)),
            "message": message,
            "title": title,
            "duration": round(duration) if duration else None,
            "method": method,
            "seconds": seconds,
            "steps": table.log(self._step(Stage.DONE, message)),
        }
        insist(lambda: self._end(Status.COMPLETED, queries.COMPLETE, result))

    def fail(self, error: UserError) -> None:
        """End the job with its sentence."""
        step = Step(status="error", message=str(error), stage=self._stage, attempt=self.job.attempt)
        ending = {"message": str(error), "kind": error.kind, "advice": error.advice, "steps": table.log(step)}
        insist(lambda: self._end(Status.ERROR, queries.FAIL, ending))

    def _write(self, query: str, parameters: Mapping[str, Any]) -> None:
        if table.execute(query, {**self._fence, **parameters}) == 0:
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
