"""A whole stack as users start it, in a process of its own; and waiting for a condition instead of for luck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from infra.stack.lock import Addresses, running
from infra.stack.postgres import Postgres
from tests.fakes.media import MediaServer

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "flows" / "demo"
START = 120.0  # seconds a stack may take here; its own benchmark measures what it does take

T = TypeVar("T")


def eventually(condition: Callable[[], T], *, within: float = 30.0, what: str = "the condition") -> T:
    """Wait until the condition gives something true, and give that."""
    deadline = time.monotonic() + within
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"{what} was not met within {within:.0f} s"
        time.sleep(0.05)


@contextmanager
def a_cluster() -> Generator[Postgres]:
    """A real PostgreSQL without a Prefect server."""
    with tempfile.TemporaryDirectory(prefix="ytl-") as folder:
        postgres = Postgres(Path(folder) / "pg")
        postgres.initialise()
        with subprocess.Popen(
            postgres.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                eventually(postgres.ready, what="PostgreSQL")
                yield postgres
            finally:
                process.send_signal(signal.SIGINT)


@dataclass
class RunningStack:
    """`yt-lyrics up`, in a process of its own."""

    process: subprocess.Popen[bytes]
    addresses: Addresses

    @property
    def url(self) -> str:
        return self.addresses.page

    @property
    def data(self) -> Path:
        return Path(self.addresses.data)

    @property
    def database_url(self) -> str:
        return Postgres(self.data / "postgres").url("lyrics")

    def submit(self, **asked: Any) -> str:
        answer = httpx.post(f"{self.url}/api/jobs", json=asked, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()["jobId"]

    def upload(self, path: Path, name: str | None = None, **asked: str) -> str:
        with path.open("rb") as file:
            answer = httpx.post(
                f"{self.url}/api/jobs", data=asked, files={"file": (name or path.name, file)}, timeout=60
            )
        assert answer.status_code == 201, answer.text
        return answer.json()["jobId"]

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def job(self, id: str) -> dict[str, Any]:
        return httpx.get(f"{self.url}/api/jobs/{id}/progress", timeout=30).json()

    def ended(self, id: str, *, within: float = 120.0) -> dict[str, Any]:
        """The job once it has ended, through a service that may be away meanwhile."""

        def look() -> dict[str, Any] | None:
            try:
                job = self.job(id)
            except (httpx.TransportError, ValueError):
                return None
            return job if job.get("status") in ("completed", "error", "cancelled") else None

        return eventually(look, within=within, what=f"the end of job {id}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Seconds that stopping took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - began


def start_stack(data: Path, **environment: str) -> RunningStack:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DATABASE_URL"))}
    data.mkdir(parents=True, exist_ok=True)
    with (data / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up", "--data", str(data)],
            cwd=ROOT,
            env={**own, "PORT": "", "XDG_RUNTIME_DIR": str(data), **environment},
            stdout=log,
            stderr=log,
        )

    def up() -> Addresses | None:
        assert process.poll() is None, (data / "up.log").read_text()
        return running(data)

    try:
        return RunningStack(process, eventually(up, within=START, what="the stack"))
    except BaseException:
        process.terminate()
        process.wait(30)
        raise


@contextmanager
def a_stack(media: MediaServer, **environment: str) -> Generator[RunningStack]:
    with tempfile.TemporaryDirectory(prefix="ytl-", ignore_cleanup_errors=True) as data:
        stack = start_stack(
            Path(data), ALLOWED_HOSTS=f"{media.host}:{media.port}", **media.environment(), **environment
        )
        try:
            yield stack
        finally:
            if stack.process.poll() is None:
                stack.stop()
