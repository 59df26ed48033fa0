"""Flows that do what a worker must cope with. Deployed by the tests and benchmarks of the warm worker."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger


@flow(flow_run_name="{place}")
async def quick(place: str = "") -> None:
    """Ends at once. Writes the time and the process at `place`."""
    if place:
        Path(place).write_text(f"{time.time()} {os.getpid()}")


@flow(log_prints=True)
async def talkative() -> None:
    print("a print")
    get_run_logger().info("a log line")


@flow
async def failing() -> None:
    raise ValueError("as asked")


@flow
async def killed(number: int = 9) -> None:
    if number:
        os.kill(os.getpid(), number)
    os._exit(3)


@flow
async def listening(place: str, seconds: float = 60) -> None:
    """Waits in Python, where a signal is heard."""
    Path(place).write_text(f"{time.time()} {os.getpid()}")
    time.sleep(seconds)
    Path(place).write_text("finished")


@flow
async def deaf(place: str, seconds: int = 60) -> None:
    """Waits in native code that no signal interrupts."""
    Path(place).write_text(f"{time.time()} {os.getpid()}")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    ctypes.CDLL(None).sleep(seconds)


@flow(timeout_seconds=1)
async def too_long(place: str, native: bool = False) -> None:
    Path(place).write_text(f"{time.time()} {os.getpid()}")
    if native:
        ctypes.CDLL(None).sleep(60)
    import asyncio

    await asyncio.sleep(60)


@flow
async def greedy(place: str, megabytes: int) -> None:
    """Holds memory beyond its end."""
    setattr(sys, "held", bytearray(os.urandom(1)) * (megabytes << 20))  # noqa: B010
    Path(place).write_text(f"{time.time()} {os.getpid()}")


@flow
async def untidy(place: str) -> None:
    """Changes what the next run must not see; writes what it found."""
    found = f"{os.environ.get('LEFT_BEHIND', '')}|{Path.cwd()}|{'/left/behind' in sys.path}"
    os.environ["LEFT_BEHIND"] = "here"
    os.chdir("/")
    sys.path.append("/left/behind")
    Path(place).write_text(found)


def note(flow: object, flow_run: object, state: object) -> None:
    """A hook: appends the state's name to the file that the run's first parameter names."""
    with Path(f"{flow_run.parameters['place']}.hooks").open("a") as file:  # type: ignore[attr-defined]
        file.write(f"{state.name}\n")  # type: ignore[attr-defined]


@flow(on_completion=[note], on_failure=[note], on_cancellation=[note], on_crashed=[note])
async def hooked(place: str, number: int = 0, seconds: float = 0) -> None:
    Path(place).write_text(f"{time.time()} {os.getpid()}")
    time.sleep(seconds)
    if number:
        os.kill(os.getpid(), number)
