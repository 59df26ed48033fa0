"""`python -m infra.warm.child FD [MODULE[:FUNCTION]…]`: one warm process, which executes flow runs one after another.

Imports and loads what its runs need, says `ready` over the socket FD, then takes one run at a time and executes it
on its main thread, where signals arrive and where CUDA stays. Ends when the socket closes, or with its parent.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any
from uuid import UUID

import psutil

from infra.family import die_with
from infra.warm import parts


def main() -> None:
    descriptor, *preload = sys.argv[1:]
    die_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the worker
    with socket.socket(fileno=int(descriptor)) as parent, parent.makefile("rw", buffering=1) as line:
        # Asked to end before its first run, it ends at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        warm(preload)
        home = Home()
        for message in tell(line, ready=round(time.monotonic() - BEGAN, 3)):
            order = json.loads(message)
            run = UUID(order["run"])
            home.furnish(order["env"])
            code, timed_out = execute(run, line)
            home.tidy()
            tell(line, ended=str(run), code=code, timed_out=timed_out, rss=psutil.Process().memory_info().rss)


BEGAN = time.monotonic()


def tell(line: IO[str], **message: Any) -> IO[str]:
    line.write(json.dumps(message) + "\n")
    line.flush()
    return line


def warm(preload: list[str]) -> None:
    """Import the modules and call the functions that the pool's template names."""
    gc.disable()  # nothing of what is imported is garbage
    parts.load_engine()
    parts.share_certificates()
    for name in preload:
        module, _, function = name.partition(":")
        loaded = importlib.import_module(module)
        if function:
            getattr(loaded, function)()
    gc.collect()
    gc.freeze()
    gc.enable()


def execute(run: UUID, line: IO[str]) -> tuple[int, bool]:
    """One run; its exit code as a process of its own would have it, and whether its time was up."""
    idle = signal.getsignal(signal.SIGTERM)
    timed_out = False
    try:
        with parts.signals(run):
            flow_run, flow = parts.load(run)
            tell(line, begun=str(run), timeout=flow.timeout_seconds)
            try:
                parts.execute(flow_run, flow)
            except TimeoutError:
                timed_out = True
                raise
    except SystemExit as end:
        return (end.code if isinstance(end.code, int) else int(end.code is not None)), timed_out
    except BaseException as error:
        # A signal that nobody announced: as a process of its own would die of it.
        print(f"The run {run} ended by {error!r}", file=sys.stderr)
        return 1, timed_out
    finally:
        signal.signal(signal.SIGTERM, idle)  # Prefect leaves its own handler where a run was cancelled
    return 0, timed_out


class Home:
    """What a run may leave changed and the next must not find so: environment, working folder, import path, memory."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folder = os.getcwd()  # noqa: PTH109
        self._path = list(sys.path)

    def furnish(self, environment: Mapping[str, str]) -> None:
        from infra.settings import settings

        os.environ.clear()
        os.environ.update({**self._environment, **environment})
        settings.cache_clear()  # a deployment may set some of them for its runs

    def tidy(self) -> None:
        os.chdir(self._folder)
        sys.path[:] = self._path
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        if sys.platform == "linux":
            with suppress(AttributeError, OSError):  # glibc only: freed memory goes back at once, so that it stays flat
                ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    main()
