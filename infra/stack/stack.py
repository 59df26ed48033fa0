"""Starts, watches and stops everything that one machine needs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

from infra.errors import BadRequest, UserError
from infra.jobs.states import Status
from infra.settings import Settings, settings
from infra.stack import prefect
from infra.stack.lock import Addresses, only_stack, tell_addresses
from infra.stack.pools import gpus, pools, with_gpus
from infra.stack.postgres import Postgres
from infra.stack.process import Process, Tell

START_DEADLINE = 120.0  # seconds; a slow disk's first start
GRACE = 1.2  # seconds that a process has to end by itself; all of a stop takes less than 5
DOWNLOADS = 2  # runs at a time on the pool `default`
SONGS_NEED = ("fetch/default", "transcribe/cuda")


@dataclass(frozen=True, slots=True)
class Ports:
    api: int
    prefect: int


class Stack:
    def __init__(self, chosen: Settings, tell: Tell) -> None:
        self._settings, self._tell = chosen, tell
        self.data = chosen.data
        self._ports = Ports(
            api=chosen.port or free_port(chosen.listen, preferred=8000),
            prefect=chosen.prefect_port or free_port("127.0.0.1", preferred=4200),
        )
        self._postgres = Postgres(self.data / "postgres")
        self._logs = self.data / "logs"
        self._prefect_yaml = prefect.find_prefect_yaml()
        self._own_prefect = chosen.prefect_api_url is None
        self._pools = {pool.name: pool for pool in pools(self._prefect_yaml)}
        self._pools["cuda"] = with_gpus(self._pools["cuda"], gpus())
        self._workers = {"default": DOWNLOADS, "cuda": self._pools["cuda"].concurrency_limit or 1}
        self._processes: list[Process] = []  # in the order of their start
        self._mark = self.data / "prefect" / "deployed"
        self._deploying: asyncio.Task[None] | None = None
        self.environment = self._environment()
        prefect_api = self.environment["PREFECT_API_URL"]
        self.addresses = Addresses(
            pid=os.getpid(),
            page=chosen.public_url or f"http://{_in_url(self._local_host())}:{self._ports.api}",
            prefect=prefect_api.removesuffix("/api"),
            prefect_api=prefect_api,
            data=str(self.data),
        )

    async def start(self) -> None:
        for folder in (self._logs, self.data / "files", self.data / "prefect"):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data / "files" / "incoming", ignore_errors=True)  # of runs that ended with their stack
        # Importing is most of what starting costs, so all import while what they need is still starting.
        server = self._gated("prefect", "prefect.server.api.server", prefect.server_command(self._ports.prefect))
        deploy = self._gated(
            "deploy", "prefect.cli.deploy,flows.fetch,flows.transcribe", prefect.deploy_command(self._prefect_yaml)
        )
        workers = [
            self._gated(f"worker-{pool}", "prefect.cli.worker,infra.worker", prefect.worker_command(pool, limit))
            for pool, limit in self._workers.items()
        ]
        needs_deploy = not self._is_deployed()
        if self._own_prefect:
            await server.start()
        if needs_deploy:
            await deploy.start()
        await self._start_database()
        server.open()
        api = self._process("api", [sys.executable, "-m", "infra.api"])
        await asyncio.gather(asyncio.to_thread(self._migrate), *(process.start() for process in (*workers, api)))
        await self._until("Prefect", partial(self._prefect_answers, server), *self._started(server))
        at = self.addresses.prefect_api
        await prefect.make_pools(at, self._pools.values(), ours=self._own_prefect)
        if self._own_prefect:
            await prefect.crash_runs_left_behind(at)
            if not needs_deploy and not await prefect.knows_flows(at, self._prefect_yaml):
                needs_deploy = True
                await deploy.start()
        for process in (deploy, *workers):
            process.open()
        if needs_deploy:
            await self._deployed(deploy)
        await self._until("The API", partial(self._api_answers, api), api)
        online = partial(prefect.workers_are_online, self.addresses.prefect_api, self._workers)
        await self._until("Each worker", online, *workers)
        await self._process("mirror", [sys.executable, "-m", "infra.jobs.mirror"]).start()
        for process in self._started(*self._processes):
            if process is not deploy:
                process.keep_alive()
        tell_addresses(self.addresses)

    async def stop(self) -> None:
        """Ends everything within 5 s. What was running is queued again for the next start."""
        if self._deploying is not None:
            self._deploying.cancel()
        by_name = {process.name: process for process in self._started(*self._processes)}
        last = [by_name[name] for name in ("prefect", "postgres") if name in by_name]
        await asyncio.gather(*(process.stop(GRACE) for process in self._processes if process not in last))
        with suppress(UserError):
            await asyncio.to_thread(self._hand_back)
        for process in last:
            await process.stop(GRACE)

    def _hand_back(self) -> None:
        from infra.jobs import table

        if not self._own_prefect:
            return  # workers elsewhere may go on with them
        os.environ["DATABASE_URL"] = self.environment["DATABASE_URL"]
        settings.cache_clear()
        for job in table.open_jobs():
            if job.status is Status.PROCESSING:
                table.lost(job, "its service was stopped", blame=False)

    # --- the processes ------------------------------------------------------------------------

    def _process(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str] | None = None,
        *,
        gated: bool = False,
        ending: signal.Signals = signal.SIGTERM,
    ) -> Process:
        process = Process(
            name,
            command,
            self.environment if environment is None else environment,
            self._logs,
            gated=gated,
            ending=ending,
            tell=self._tell,
        )
        self._processes.append(process)
        return process

    def _gated(self, name: str, imports: str, command: list[str]) -> Process:
        """One of Prefect's commands, which imports at once and begins when it is let."""
        return self._process(name, [sys.executable, "-m", "infra.stack.gate", imports, *command], gated=True)

    @staticmethod
    def _started(*processes: Process) -> list[Process]:
        return [process for process in processes if process.pid is not None]

    async def _start_database(self) -> None:
        if self._settings.database_url is not None and self._settings.prefect_api_url is not None:
            return
        await asyncio.to_thread(self._postgres.initialise)
        # It needs none of our secrets.
        environment = {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ}
        process = self._process("postgres", self._postgres.command(), environment, ending=signal.SIGINT)
        await process.start()
        await self._until("PostgreSQL", lambda: asyncio.to_thread(self._postgres.ready), process)
        await asyncio.to_thread(self._postgres.make_databases, "lyrics", "prefect")

    def _environment(self) -> dict[str, str]:
        own = Path(sys.executable).parent
        api = f"http://127.0.0.1:{self._ports.prefect}/api"
        return {
            **{name: value for name, value in os.environ.items() if name != "PREFECT_PROFILE"},
            "DATABASE_URL": self._postgres.url("lyrics"),
            "PREFECT_API_URL": api,
            **self._settings.environment(),
            "PORT": str(self._ports.api),
            "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "PREFECT_HOME": str(self.data / "prefect"),
            "PREFECT_API_DATABASE_CONNECTION_URL": self._postgres.sqlalchemy_url("prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": api,
            # By default any page that this machine's browser visits may start runs, which may run anything.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
                f"http://{name}:{self._ports.prefect}" for name in ("127.0.0.1", "localhost")
            ),
            # With the default storage, slots that a dead process held are never given back.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "5",  # the warm worker is woken by events; this is for what they miss
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            # To tell each run that waits as late costs the server as much as to run it; the mirror says that they wait.
            "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "600",
            # A database that restarts makes the server answer 500 for a moment: runs wait for it.
            "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
        }

    # --- readiness ----------------------------------------------------------------------------

    async def _until(self, what: str, ready: Callable[[], Awaitable[bool]], *needed: Process) -> None:
        deadline = monotonic() + START_DEADLINE
        while not await ready():
            for process in needed:
                if process.pid is None:
                    raise BadRequest(what=f"{what} did not start; its log: {process.log}")
            if monotonic() > deadline:
                raise BadRequest(what=f"{what} is not ready after {START_DEADLINE:.0f} s; the logs: {self._logs}")
            await asyncio.sleep(0.05)
        self._tell(f"{what} is ready")

    def _is_deployed(self) -> bool:
        """Whether this data folder's own server knows these flows already."""
        deployed = self._mark.read_text() if self._mark.exists() else ""
        return self._own_prefect and deployed == prefect.what_is_deployed(self._prefect_yaml)

    async def _deployed(self, deploy: Process) -> None:
        """On a fresh server only what a song needs is waited for: the other flows follow while songs are sung."""
        fresh = self._own_prefect and not self._mark.exists()
        self._deploying = asyncio.create_task(self._note_deployed(deploy))
        while not self._deploying.done():
            if fresh and await prefect.knows(self.addresses.prefect_api, SONGS_NEED):
                return
            await asyncio.sleep(0.05)
        if deploy.failed:
            raise BadRequest(what=f"The flows could not be deployed to Prefect; the log: {deploy.log}")

    async def _note_deployed(self, deploy: Process) -> None:
        if await deploy.finished() != 0:
            self._tell(f"Not every flow could be deployed to Prefect; the log: {deploy.log}")
        elif self._own_prefect:
            self._mark.write_text(prefect.what_is_deployed(self._prefect_yaml))

    def _migrate(self) -> None:
        from sqlalchemy.exc import OperationalError

        from infra.jobs.migrate import migrate

        try:
            migrate(self.environment["DATABASE_URL"])
        except OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]  # libpq's words: host and port, never the password
            raise BadRequest(what=f"DATABASE_URL does not answer: {reason}") from None

    async def _prefect_answers(self, server: Process) -> bool:
        # Another program may have taken the port since we chose it: its answers are not our server's.
        ours = not self._own_prefect or server.listens_on(self._ports.prefect)
        return ours and await prefect.answers(self.addresses.prefect_api)

    async def _api_answers(self, api: Process) -> bool:
        return api.listens_on(self._ports.api) and await prefect.answers(
            f"http://{_in_url(self._local_host())}:{self._ports.api}"
        )

    def _local_host(self) -> str:
        return "127.0.0.1" if self._settings.listen in ("0.0.0.0", "::") else self._settings.listen  # noqa: S104


async def run(chosen: Settings, tell: Tell, ready: Callable[[Addresses], None]) -> None:
    """Start the stack, call `ready`, and keep it up until SIGINT or SIGTERM."""
    chosen.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_stack(chosen.data):
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        stack = Stack(chosen, tell)
        stopped = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(stack.start())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                ready(stack.addresses)
                await stopped
            tell("Stopping")
        finally:
            starting.cancel()
            stopped.cancel()
            with suppress(asyncio.CancelledError, UserError):
                await starting
            await stack.stop()


def free_port(host: str, *, preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise BadRequest(what=f"No port can be opened on {host}.")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
