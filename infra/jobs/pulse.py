"""A process shows that it lives, whatever its main thread is busy with; and what its silence means."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

from infra.errors import DatabaseAway

HEARTBEAT = 5.0  # seconds
SETTLING = timedelta(seconds=5)  # what was written this recently may still be on its way
SILENT = timedelta(seconds=25)  # a running run's row without a heartbeat; five of them were missed
UNBORN = timedelta(seconds=60)  # a process that was to start and did not; it takes a few seconds, ten under load
GONE = timedelta(minutes=5)  # without a deployment; `prefect deploy` takes seconds


@contextmanager
def beating(beat: Callable[[], object]) -> Generator[None]:
    """Write this again and again inside the block."""
    over = threading.Event()
    worker = os.getppid()

    def keep_beating() -> None:
        while not over.wait(HEARTBEAT):
            try:
                beat()
            except DatabaseAway:
                if os.getppid() != worker:
                    # Worker and database are gone: the whole stack was killed, and nobody waits for this work.
                    os._exit(1)

    thread = threading.Thread(target=keep_beating, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)
