"""Flow runs: start, cancel, look up, over Prefect's HTTP API.

Not through Prefect's own client: importing it costs each process 1.6 s and 50 MB, and API and mirror need five calls.
Nothing is tried twice here; who calls knows whether to (the mirror repairs what an API call could not start).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict

from infra.errors import EngineAway
from infra.settings import settings

FETCH = "fetch/default"
TRANSCRIBE = "transcribe/cuda"
PAGE = 200  # runs a call; Prefect gives no more
TIMEOUT = 10.0  # seconds


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
    message: str | None = None
    expected_start_time: datetime | None = None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Self:
        state: Mapping[str, Any] = answer.get("state") or {}
        return cls.model_validate({**answer, "message": state.get("message")})


@cache
def _client() -> httpx.Client:
    if not settings().prefect_api_url:
        raise EngineAway
    key = settings().prefect_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    return httpx.Client(base_url=settings().prefect_api_url or "", headers=headers, timeout=TIMEOUT)


def _call(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """The answer, or None where there is no such thing."""
    try:
        answer = _client().request(method, path, json=body)
        if answer.status_code == httpx.codes.NOT_FOUND.value:
            return None
        return answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise EngineAway from error


@cache
def _deployment(name: str) -> str:
    answer = _call("GET", f"/deployments/name/{name}")
    if answer is None:
        raise EngineAway
    return answer["id"]


def start(deployment: str, parameters: Mapping[str, Any], *, key: str, name: str) -> str:
    """Start a run of the deployment and return its id. The same key again gives the run that it gave before."""
    wanted = {"parameters": parameters, "idempotency_key": key, "name": name, "state": {"type": "SCHEDULED"}}
    run = _call("POST", f"/deployments/{_deployment(deployment)}/create_flow_run", wanted)
    if run is None:  # deployed anew since we asked for its id
        _deployment.cache_clear()
        run = _call("POST", f"/deployments/{_deployment(deployment)}/create_flow_run", wanted)
    if run is None:
        raise EngineAway
    return run["id"]


def fetch(job: str, attempt: int) -> str:
    parameters = {"job": job, "attempt": attempt}
    return start(FETCH, parameters, key=f"fetch-{job}-{attempt}", name=f"fetch {job}")


def transcribe(job: str, attempt: int) -> str:
    parameters = {"job": job, "attempt": attempt}
    return start(TRANSCRIBE, parameters, key=f"transcribe-{job}-{attempt}", name=f"transcribe {job}")


def look_up(ids: Iterable[str]) -> dict[str, FlowRun]:
    """The runs that Prefect knows of these ids."""
    wanted = list(ids)
    found: dict[str, FlowRun] = {}
    for begin in range(0, len(wanted), PAGE):
        page = {"flow_runs": {"id": {"any_": wanted[begin : begin + PAGE]}}, "limit": PAGE}
        runs = [FlowRun.read(answer) for answer in _call("POST", "/flow_runs/filter", page) or ()]
        found |= {run.id: run for run in runs}
    return found


def cancel(id: str) -> None:
    """Ask Prefect to end the run; its worker kills the process."""
    _call("POST", f"/flow_runs/{id}/set_state", {"state": {"type": "CANCELLING", "message": "Cancelled by its user"}})


def mark_crashed(id: str, message: str) -> None:
    """A run whose process is known to be gone."""
    crashed = {"type": "CRASHED", "name": "Crashed", "message": message}
    _call("POST", f"/flow_runs/{id}/set_state", {"state": crashed, "force": True})
