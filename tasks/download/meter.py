"""What a download tells of itself while it runs, and where its size ends."""

from __future__ import annotations

import time

from infra.errors import TooLarge
from infra.jobs.stages import Progress, Stage
from infra.settings import settings

REPORT_EVERY = 0.25  # seconds
MB = 10**6  # bytes


class Meter:
    """Told how many bytes are here, it tells the user now and then, and holds the limit of size."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._started = time.monotonic()
        self._reported = float("-inf")

    def __call__(self, done: int, total: int | None) -> None:
        now, limit = time.monotonic(), settings().max_megabytes
        if max(done, total or 0) > limit * MB:
            raise TooLarge(limit_mb=limit)
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            self._report(Stage.DOWNLOAD, done / total if total else 0.0, self._told(done, total, now - self._started))

    def _told(self, done: int, total: int | None, seconds: float) -> str:
        whole = f" of {total / MB:.1f}" if total else ""
        return f"Downloading {done / MB:.1f}{whole} MB at {done / MB / max(seconds, 0.001):.1f} MB/s"
