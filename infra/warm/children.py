"""A worker's warm children: started ahead, lent to one run at a time, replaced when they are used up."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PATIENCE = (0.0, 1.0, 5.0, 15.0)  # seconds before another start, by how many failed in a row
GIVE_UP = 3  # starts that failed in a row, after which a waiting run is told so
ENDING = 2.0  # seconds that an idle child has to end by itself

Logger = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True, slots=True)
class Care:
    """How children are kept. The pool's job template says it."""

    preload: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()  # CUDA_VISIBLE_DEVICES, one for each child in turn
    max_runs: int = 100
    max_memory: int = 8000 * 2**20  # bytes; looked at between two runs


class Unfit(RuntimeError):
    """Warm children cannot be started."""


class Child:
    """One process. Its exit ends whatever run it was on."""

    def __init__(self, place: int, process: asyncio.subprocess.Process, reader: Any, writer: Any) -> None:
        self.place, self._process, self._reader, self._writer = place, process, reader, writer
        self.pid = process.pid
        self.runs = 0
        self.memory = 0
        self.spent: str | None = None  # why it takes no further run

    @classmethod
    async def start(cls, place: int, care: Care) -> Child:
        ours, theirs = socket.socketpair()
        device = {"CUDA_VISIBLE_DEVICES": care.devices[place % len(care.devices)]} if care.devices else {}
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "infra.warm.child", str(theirs.fileno()), *care.preload),
                env={**os.environ, **device},
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        child = cls(place, process, reader, writer)
        try:
            if "ready" not in await child.hear():
                raise Unfit(f"A warm child ended with {await process.wait()} while it loaded {', '.join(care.preload)}")
        except asyncio.CancelledError:
            await child.end(0)
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def hear(self) -> dict[str, Any]:
        """Its next message; empty once it is gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return {}
        return json.loads(line) if line.endswith(b"\n") else {}

    async def say(self, **message: Any) -> None:
        with suppress(ConnectionError):  # that it is gone shows when it is heard
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()

    def kill(self, number: signal.Signals) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def gone(self) -> int:
        """Its exit code, negative for a signal."""
        return await self._process.wait()

    async def end(self, grace: float) -> None:
        self.spent = self.spent or "ended"
        self._writer.close()  # which it sees when it is idle
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self._process.wait()


class Children:
    """`count` children, or as many as are warm yet."""

    def __init__(self, count: int, care: Care, logger: Logger) -> None:
        self.count, self.care, self._logger = count, care, logger
        self._idle: asyncio.Queue[Child | Unfit] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()  # starting, watching, ending
        self._warm: set[Child] = set()
        self._failures = 0

    def open(self) -> None:
        for place in range(self.count):
            self._start(place)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(child.end(ENDING) for child in self._warm))

    async def lend(self) -> Child:
        """The next child that is warm and free."""
        while True:
            child = await self._idle.get()
            if isinstance(child, Unfit):
                if self._failures:
                    raise child
            elif child.alive and child.spent is None:
                child.runs += 1
                if child.runs >= self.care.max_runs:
                    self.replace(child, f"this is its run {child.runs}")
                return child

    def give_back(self, child: Child) -> None:
        """After its run: it waits for the next one, or it was the last."""
        if child.memory > self.care.max_memory:
            self.replace(child, f"it holds {child.memory / 2**20:.0f} MB")
        if child.spent is None and child.alive:
            self._idle.put_nowait(child)
        else:
            self._do(child.end(ENDING))

    def replace(self, child: Child, reason: str) -> None:
        """The child takes no further run; the next one warms up at once, beside what this one still does."""
        if child.spent is None:
            child.spent = reason
            self._logger.info("Warm child %s is replaced: %s", child.pid, reason)
            self._start(child.place)

    def _start(self, place: int) -> None:
        self._do(self._keep(place))

    async def _keep(self, place: int) -> None:
        """Start a child, and replace it when it ends unasked."""
        child = await self._started(place)
        self._warm.add(child)
        self._idle.put_nowait(child)
        code = await child.gone()
        self._warm.discard(child)
        self.replace(child, f"it ended with {signal.Signals(-code).name if code < 0 else code}")

    async def _started(self, place: int) -> Child:
        while True:
            await asyncio.sleep(PATIENCE[min(self._failures, len(PATIENCE) - 1)])
            try:
                child = await Child.start(place, self.care)
            except (Unfit, OSError) as error:
                self._failures += 1
                self._logger.warning("%s (%d in a row)", error, self._failures)
                if self._failures >= GIVE_UP and self._idle.empty():
                    # A run that waits must not wait for ever.
                    self._idle.put_nowait(Unfit(str(error)))
            else:
                self._failures = 0
                self._logger.info("Warm child %s is ready", child.pid)
                return child

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
