"""The Prefect worker of type `warm`: flow runs in processes that are there already, with their models loaded.

    prefect worker start --type warm --pool cuda --limit 1

It is a Prefect worker like any other (pools, queues, limits, cancellation, logs, crash reports), with two
differences. A run is executed by one of `--limit` warm children (`infra/warm/`) instead of by a new process; and it is
fetched when Prefect's event says that it is there, instead of at the next poll.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.flows import load_flow_from_flow_run
from prefect.states import Cancelled, Crashed, Failed
from prefect.types import KeyValueLabels
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import Field

from infra.runs import HANDED_BACK
from infra.warm import identity, parts
from infra.warm.children import Care, Child, Children, Unfit

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, WorkPool

SCHEDULED = "prefect.flow-run.Scheduled"
TAKEN_BY = "yt-lyrics.worker"  # a label of runs: see infra/warm/identity.py
UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
ROUND = 10.0  # seconds between two looks for lost runs
SETTLING = timedelta(seconds=15)  # a state this young may still be followed by its next
DEAF = 2.0  # seconds before another try to hear events; the poll goes on meanwhile


class WarmConfiguration(BaseJobConfiguration):
    grace_seconds: float = Field(default=5.0, ge=0)
    drain_seconds: float = Field(default=8.0, ge=0)

    @classmethod
    @cache
    def _base_environment(cls) -> dict[str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super()._base_environment()  # 30 ms, and this process's settings do not change


class WarmVariables(BaseVariables):
    """What the pool's job template says. Those of the children hold for all runs; a deployment cannot change them."""

    preload: list[str] = Field(
        default=["flows.fetch", "flows.transcribe"],
        description="Imported by each child before its first run: MODULE, or MODULE:FUNCTION to call, too.",
    )
    devices: list[str] = Field(
        default=[], description="CUDA_VISIBLE_DEVICES for each child in turn, such as 0 and 1 for two GPUs."
    )
    max_runs: int = Field(default=100, ge=1, description="Runs after which a child is replaced.")
    max_memory_mb: int = Field(default=8000, ge=1, description="Memory above which a child is replaced after its run.")
    grace_seconds: float = Field(
        default=5.0, ge=0, description="Seconds that a cancelled run has to end by itself before it is killed."
    )
    drain_seconds: float = Field(
        default=8.0, ge=0, description="Seconds that runs have to finish when the worker is asked to stop."
    )


class WarmResult(BaseWorkerResult):
    """How a run's process ended."""


class WarmWorker(BaseWorker[WarmConfiguration, WarmVariables, WarmResult]):
    type = "warm"
    job_configuration = WarmConfiguration
    job_configuration_variables = WarmVariables
    _display_name = "Warm processes"
    _description = "Runs flows one at a time in each of a few long-lived processes that have loaded their models."

    def __init__(self, *arguments: Any, limit: int | None = None, **options: Any) -> None:
        super().__init__(*arguments, limit=limit or 1, **options)
        self._children: Children | None = None  # once the pool's template is known
        self._executors: Any = None
        self._polling = asyncio.Lock()
        self.reasons: dict[UUID, str] = {}  # why a run crashed, until that is told

    async def setup(self) -> None:
        self._executors = parts.executor_context()
        async with AsyncExitStack() as failed:
            await failed.enter_async_context(self._executors)
            parts.tell_reasons(self._executors, self.reasons)
            await super().setup()
            failed.pop_all()

    async def teardown(self, *exc_info: Any) -> None:
        try:
            await super().teardown(*exc_info)  # which drains
        finally:
            with anyio.CancelScope(shield=True):
                if self._children is not None:
                    await self._children.close()
                await self._executors.__aexit__(None, None, None)

    async def _initialize_after_sync(self) -> None:
        await super()._initialize_after_sync()
        if self._children is None and self._work_pool is not None and self._runs_task_group is not None:
            self._children = Children(self._limit or 1, care(self._work_pool), self._logger)
            self._children.open()
            self._runs_task_group.start_soon(self._wake)
            self._runs_task_group.start_soon(self._bury_the_dead)

    # --- woken ---------------------------------------------------------------------------------

    async def _wake(self) -> None:
        """Fetch a run when Prefect says that it is there."""
        pool = f"prefect.work-pool.{self.work_pool.id}"
        wanted = EventFilter(event=EventNameFilter(name=[SCHEDULED]), any_resource=EventAnyResourceFilter(id=[pool]))
        while True:
            try:
                async with get_events_subscriber(filter=wanted) as events:
                    async for _ in events:
                        await self.get_and_submit_flow_runs()
            except Exception as error:
                self._logger.debug("Events cannot be heard at the moment: %s", error)
            await anyio.sleep(DEAF)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        async with self._polling:
            return await super().get_and_submit_flow_runs()

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """As many as there are children free; Prefect's own asks for 200, however busy it is."""
        free = int(self.limiter.available_tokens)
        if not free:
            return []
        asked = {
            "work_queue_names": sorted(self._work_queues) or None,
            "scheduled_before": str(datetime.now(UTC) + timedelta(seconds=self._prefetch_seconds)),
            "limit": free + len(self._submitting_flow_run_ids),
        }
        try:
            path = "/work_pools/{name}/get_scheduled_flow_runs"
            answer = await self.client.request("POST", path, path_params={"name": self._work_pool_name}, json=asked)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND.value:  # the next heartbeat makes the pool
                return []
            raise
        return [WorkerFlowRunResponse.model_validate(run) for run in answer.json()]

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """A run that a warm child takes at once goes from pending to running."""

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        if self.is_setup and self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._fetch_the_next)

    async def _fetch_the_next(self) -> None:
        with suppress(Exception):  # the poll will
            await self.get_and_submit_flow_runs()

    # --- lost runs -----------------------------------------------------------------------------

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        labels: KeyValueLabels = {
            "prefect.worker.name": self.name,
            "prefect.worker.type": self.type,
            TAKEN_BY: identity.ours(),
        }
        await self.client.update_flow_run_labels(flow_run_id, labels)

    async def _bury_the_dead(self) -> None:
        """Runs of this pool whose process is known to be gone are told as crashed, which frees their slots."""
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._work_pool_name]))
        unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
        while True:
            with suppress(Exception):  # Prefect is away: the next look follows
                for run in await self.client.read_flow_runs(flow_run_filter=unfinished, work_pool_filter=pool):
                    if run.state is not None and self._is_lost(run, run.state):
                        self._logger.warning("Run %s was lost with its worker", run.id)
                        end = Cancelled if run.state.is_cancelling() else Crashed
                        await self.conclude(run.id, end(message="Its worker was killed"))
            await anyio.sleep(ROUND)

    def _is_lost(self, run: FlowRun, state: State) -> bool:
        taken_by = run.labels.get(TAKEN_BY)
        settled = datetime.now(UTC) - state.timestamp > SETTLING
        if taken_by is None:  # by a worker that died at once, or not by one of ours
            return settled and state.is_pending()
        if taken_by != identity.ours():
            # One that is pending may have been taken a moment ago, and carry the label of its last time.
            return identity.is_gone(str(taken_by)) and (settled or not state.is_pending())
        in_hand = run.id in self._submitting_flow_run_ids or run.id in self.limiter.statistics().borrowers
        return settled and not in_hand

    # --- run -----------------------------------------------------------------------------------

    async def run(
        self,
        flow_run: FlowRun,
        configuration: WarmConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> WarmResult:
        assert self._children is not None
        starter = Starter(self, self._children, configuration)
        executor = self._executors.create_executor(
            flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
        )
        result: Any = None

        async def execute(*, task_status: anyio.abc.TaskStatus[Any] = anyio.TASK_STATUS_IGNORED) -> None:
            nonlocal result
            result = await executor.submit(task_status=task_status)

        async with anyio.create_task_group() as group:
            handle = await group.start(execute)
            if task_status is not None:
                task_status.started(handle.pid)
        if result is None or result.status_code is None:
            raise RuntimeError("The warm child gave no result")
        return WarmResult(status_code=result.status_code, identifier=str(result.handle.pid))

    async def conclude(self, run: UUID, state: Any) -> None:
        """Tell Prefect how a run ended that cannot tell it itself."""
        try:
            await self.client.set_flow_run_state(run, state)
        except Exception as error:
            self._logger.warning("The state of run %s could not be told: %s", run, error)


def care(pool: WorkPool) -> Care:
    """How the pool's template wants its children kept."""
    template: Mapping[str, Any] = pool.base_job_template.get("variables", {}).get("properties", {})
    said = {name: about["default"] for name, about in template.items() if about.get("default") is not None}
    wanted = WarmVariables.model_validate({name: said[name] for name in WarmVariables.model_fields if name in said})
    return Care(
        preload=tuple(wanted.preload),
        devices=tuple(wanted.devices),
        max_runs=wanted.max_runs,
        max_memory=wanted.max_memory_mb * 2**20,
    )


class RunProcess:
    """One run on a child, in the shape that Prefect knows processes by: `returncode` is the run's, not the child's."""

    wait_after_graceful_kill = True

    def __init__(self, child: Child, children: Children, grace: float) -> None:
        self._child, self._children, self._grace = child, children, grace
        self.pid = child.pid
        self.returncode: int | None = None
        self.cancelled = False

    def is_alive(self, pid: int) -> bool:
        return self.returncode is None and self._child.alive

    def graceful_kill(self, pid: int) -> None:
        """Asked to end; killed after the grace, for native code does not listen."""
        if self.returncode is not None:
            return  # the child is on somebody else's run by now
        self.cancelled = True
        self._children.replace(self._child, "its run was cancelled")
        self._child.kill(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._grace, partial(self.hard_kill, pid))

    def hard_kill(self, pid: int) -> None:
        if self.returncode is None:
            self._child.kill(signal.SIGKILL)

    def close(self) -> None:
        """Nothing is held."""


class Starter:
    """Gives a run to a child. What Prefect calls a process starter."""

    def __init__(self, worker: WarmWorker, children: Children, configuration: WarmConfiguration) -> None:
        self._worker, self._children, self._configuration = worker, children, configuration

    async def start(
        self, flow_run: FlowRun, task_status: anyio.abc.TaskStatus[Any] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            child = await self._children.lend()
        except Unfit as error:
            self._worker.reasons[flow_run.id] = str(error)
            raise
        try:
            process = RunProcess(child, self._children, self._configuration.grace_seconds)
            running = asyncio.ensure_future(self._follow(flow_run, child, process))
            task_status.started(parts.process_handle(process, process))
            try:
                process.returncode = await asyncio.shield(running)
            except asyncio.CancelledError:  # the worker is asked to stop
                with anyio.CancelScope(shield=True):
                    await self._drain(flow_run, child, process, running)
                raise
        finally:
            self._children.give_back(child)

    async def _follow(self, flow_run: FlowRun, child: Child, process: RunProcess) -> int:
        """The exit code of the run, as if it had been a process of its own."""
        port, token = self._worker._executors.control_channel.register(flow_run.id)  # pyright: ignore[reportPrivateUsage]
        control = {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        # Prefect's runner calls those hooks, here as with any other process.
        environment = {**self._configuration.env, **control, "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
        await child.say(run=str(flow_run.id), env={name: value for name, value in environment.items() if value})
        message = await child.hear()
        if "begun" in message:
            message = await self._in_time(flow_run, child, process, allowed=message["timeout"])
        if "ended" not in message:
            code = await child.gone()
            if code < 0:
                self._worker.reasons[flow_run.id] = f"Its process was ended by {signal.Signals(-code).name}"
            return 0 if process.cancelled else code
        child.memory = message["rss"]
        if message["timed_out"]:
            self._children.replace(child, "its run's time was up")
        return 0 if process.cancelled else message["code"]

    async def _in_time(
        self, flow_run: FlowRun, child: Child, process: RunProcess, *, allowed: float | None
    ) -> dict[str, Any]:
        """Prefect's own timeout ends a run that listens; one that does not is killed after the grace."""
        if allowed is None:
            return await child.hear()
        try:
            return await asyncio.wait_for(child.hear(), allowed + self._configuration.grace_seconds)
        except TimeoutError:
            message = f"Flow run exceeded timeout of {allowed} second(s), did not listen, and was killed"
            await self._worker.conclude(flow_run.id, Failed(name="TimedOut", message=message))
            process.cancelled = True
            self._children.replace(child, "its run's time was up")
            child.kill(signal.SIGKILL)
            return {}

    async def _drain(self, flow_run: FlowRun, child: Child, process: RunProcess, running: asyncio.Future[int]) -> None:
        """Let the run finish, or hand it back for another attempt."""
        done, _ = await asyncio.wait({running}, timeout=self._configuration.drain_seconds)
        if not done:
            message = f"{HANDED_BACK}, and this run did not finish within {self._configuration.drain_seconds:g} s"
            await self._worker.conclude(flow_run.id, Crashed(message=message))
            process.graceful_kill(child.pid)
            await running
        process.returncode = running.result()


if __name__ == "__main__":  # for infra/warm/template.json, which spares others the import of Prefect
    print(json.dumps(WarmWorker.get_default_base_job_template(), indent=1))
