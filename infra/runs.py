"""Flow runs: start, cancel, look up. The mirror repairs what an API call could not start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict

from infra.engine import call, client
from infra.errors import EngineAway, NotDeployed
from infra.jobs.request import Provider, Queue

FETCH = "fetch/default"
FETCH_ELSEWHERE = "fetch/download"
HANDED_BACK = "Its worker was stopped"  # begins the message of a run that a stopping worker did not finish
PAGE = 200  # runs a call; Prefect gives no more
AWAITING_RETRY = {"state": {"name": {"any_": ["AwaitingRetry"]}}}
AT_ONCE = 0.5  # seconds to connect, and to answer, for a server that is well


class StateType(StrEnum):
    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CRASHED = "CRASHED"


ALIVE = frozenset({StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED})


class FlowRun(BaseModel):
    """What Prefect says of a run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    state_type: StateType
    since: datetime  # when it came into this state
    message: str | None = None
    next_scheduled_start_time: datetime | None = None
    run_count: int = 0  # how often it began

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        state: Mapping[str, Any] = answer["state"]
        return cls.model_validate({**answer, "since": state["timestamp"], "message": state.get("message")})

    @property
    def reason(self) -> str:
        """Why it ended, as a clause that a user may read."""
        message = (self.message or "").strip() or "it ended without a word"
        return message.splitlines()[0].rstrip(".")[:200]


class Retry(BaseModel):
    """A step of a run that failed and is to be tried again."""

    model_config = ConfigDict(frozen=True)

    run: str
    attempt: int
    attempts: int
    at: datetime

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            run=answer["flow_run_id"],
            attempt=answer["run_count"] + 1,
            attempts=(answer["empirical_policy"].get("retries") or 0) + 1,
            at=answer["state"]["state_details"]["scheduled_time"],
        )


def alive() -> bool:
    """Whether Prefect answers at once."""
    try:
        return client().get("/health", timeout=AT_ONCE).is_success
    except (httpx.HTTPError, EngineAway):
        return False


@cache
def _deployment(name: str) -> str:
    answer = call("GET", f"/deployments/name/{name}")
    if answer is None:
        raise NotDeployed(name=name)
    return answer["id"]


def start(
    deployment: str,
    parameters: Mapping[str, Any],
    *,
    key: str,
    name: str,
    queue: Queue | None,
    at: datetime | None = None,
) -> str:
    """Start a run of the deployment, now or later; its id. The same key again gives the run that it gave before."""
    wanted = {
        "parameters": parameters,
        "idempotency_key": key,
        "name": name,
        "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()} if at else {}},
        "work_queue_name": queue,
    }
    run = call("POST", f"/deployments/{_deployment(deployment)}/create_flow_run", wanted)
    if run is None:  # deployed anew since we asked for its id
        _deployment.cache_clear()
        run = call("POST", f"/deployments/{_deployment(deployment)}/create_flow_run", wanted)
    if run is None:
        raise NotDeployed(name=deployment)
    return run["id"]


def fetch(job: str, attempt: int, queue: Queue = Queue.PEOPLE, at: datetime | None = None) -> str:
    parameters = {"job": job, "attempt": attempt}
    return start(FETCH, parameters, key=f"fetch-{job}-{attempt}", name=f"fetch {job}", queue=queue, at=at)


def fetch_elsewhere(job: str, attempt: int, queue: Queue = Queue.PEOPLE) -> str:
    """By a worker that reaches the sites from another address."""
    parameters = {"job": job, "attempt": attempt}
    key = f"fetch-elsewhere-{job}-{attempt}"
    return start(FETCH_ELSEWHERE, parameters, key=key, name=f"fetch {job}", queue=queue)


def has_workers(pool: str) -> bool:
    """Whether somebody works for the pool at the moment."""
    asked = {"workers": {"status": {"any_": ["ONLINE"]}}, "limit": 1}
    return bool(call("POST", f"/work_pools/{pool}/workers/filter", asked))


def make_limit(name: str, slots: int) -> None:
    """A number of slots that runs share. One that is there stays as it is."""
    if call("GET", f"/v2/concurrency_limits/{name}") is None:
        call("POST", "/v2/concurrency_limits/", {"name": name, "limit": slots})


def transcribe(job: str, attempt: int, provider: Provider = Provider.CUDA, queue: Queue = Queue.PEOPLE) -> str:
    return start(
        f"transcribe/{provider}",
        {"job": job, "attempt": attempt},
        key=f"transcribe-{job}-{attempt}-{provider}",
        name=f"transcribe {job}",
        queue=None if provider is Provider.CPU else queue,  # its own queue keeps it to one at a time
    )


def look_up(ids: Iterable[str], *, queued: bool = True) -> dict[str, FlowRun]:
    """The runs that Prefect knows of these ids; if so wanted, without those that wait in its queue."""
    state = {} if queued else {"state": {"type": {"not_any_": [StateType.SCHEDULED]}}}
    runs = [FlowRun.read(answer) for answer in _about("/flow_runs/filter", ids, state)]
    return {run.id: run for run in runs}


def retrying(ids: Iterable[str]) -> dict[str, Retry]:
    """Which of these runs wait until one of their steps is tried again."""
    runs = [Retry.read(answer) for answer in _about("/task_runs/filter", ids, {}, AWAITING_RETRY)]
    return {retry.run: retry for retry in runs}


def _about(
    path: str, ids: Iterable[str], runs: Mapping[str, Any], tasks: Mapping[str, Any] | None = None
) -> Iterator[Mapping[str, Any]]:
    wanted = list(ids)
    for begin in range(0, len(wanted), PAGE):
        page = {"flow_runs": {"id": {"any_": wanted[begin : begin + PAGE]}, **runs}, "task_runs": tasks, "limit": PAGE}
        yield from call("POST", path, page) or ()


def cancel(id: str) -> None:
    """Ask Prefect to end the run; its worker kills the process."""
    call("POST", f"/flow_runs/{id}/set_state", {"state": {"type": "CANCELLING", "message": "Cancelled by its user"}})


def mark_crashed(id: str, message: str) -> None:
    """A run whose process is known to be gone."""
    crashed = {"type": "CRASHED", "name": "Crashed", "message": message}
    call("POST", f"/flow_runs/{id}/set_state", {"state": crashed, "force": True})
