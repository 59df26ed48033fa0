"""One supervised child process: started, restarted when it dies, ended with all its children."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from infra.family import die_with

LOG_LIMIT = 10 * 2**20  # bytes; a larger log becomes NAME.log.1 at the next start
PATIENCE = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before a restart, by how many came shortly before
SHORTLY = 30.0  # seconds a process must live for its next restart to be a first one again

Tell = Callable[[str], None]


class Process:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        logs: Path,
        *,
        gated: bool = False,
        ending: signal.Signals = signal.SIGTERM,
        tell: Tell = lambda _: None,
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._command, self._environment = command, environment
        self._gated, self._ending, self._tell = gated, ending, tell
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._open = asyncio.Event()  # the gate: set once the process may begin its work
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    @property
    def failed(self) -> bool:
        return self._child is not None and self._child.returncode not in (None, 0)

    def listens_on(self, port: int) -> bool:
        try:
            sockets = psutil.Process(self.pid).net_connections("inet") if self.pid else []
        except psutil.Error:
            return False
        return any(socket.laddr and socket.laddr.port == port and not socket.raddr for socket in sockets)

    async def start(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        await self._spawn()

    def open(self) -> None:
        """Let a gated process, and each one that replaces it, begin."""
        self._open.set()
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.write(b"begin\n")

    def keep_alive(self) -> None:
        """From here on a process that ends is started again, and that is told."""
        self._watch = asyncio.create_task(self._restart_for_ever(), name=f"keep {self.name} alive")

    async def finished(self) -> int:
        assert self._child is not None
        return await self._child.wait()

    async def stop(self, grace: float) -> None:
        """End the process and its children: asked first, killed after the grace."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        child = self._child
        if child is None:
            return
        family = _family(child.pid)
        if child.returncode is None:
            child.send_signal(self._ending)
            try:
                await asyncio.wait_for(child.wait(), grace)
            except TimeoutError:
                family |= _family(child.pid)
        for process in family:
            _kill(process)
        await child.wait()

    async def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE if self._gated else asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the stack alone
                preexec_fn=partial(die_with, os.getpid()),
            )
        if self._open.is_set():
            self.open()

    async def _restart_for_ever(self) -> None:
        recent = 0
        while True:
            began = time.monotonic()
            code = await self.finished()
            if self._stopping:
                return
            recent = 0 if time.monotonic() - began > SHORTLY else recent + 1
            self._tell(f"{self.name} ended ({_how(code)}) and is started again; its log: {self.log}")
            await asyncio.sleep(PATIENCE[min(recent, len(PATIENCE) - 1)])
            await self._spawn()


def _family(pid: int) -> set[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"
