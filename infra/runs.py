"""Flow runs: start, cancel, look up. Prefect's server is asked over HTTP by one client a process."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling, Crashed, Scheduled

from infra.errors import EngineAway
from infra.settings import settings

FETCH = "fetch/default"
TRANSCRIBE = "transcribe/cuda"
PAGE = 200  # runs a call; Prefect refuses more


@cache
def _client() -> SyncPrefectClient:
    # Without an address Prefect would start a server of its own inside this process.
    if not settings().prefect_api_url:
        raise EngineAway
    return get_client(sync_client=True)


@contextmanager
def _engine() -> Generator[SyncPrefectClient]:
    try:
        yield _client()
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise EngineAway from error


@cache
def _deployment(name: str) -> UUID:
    return _client().read_deployment_by_name(name).id


def start(deployment: str, parameters: Mapping[str, Any], *, key: str, name: str) -> str:
    """Start a run of the deployment and return its id. The same key again gives the run that it gave before."""
    with _engine() as client:
        for known in (True, False):
            try:
                run = client.create_flow_run_from_deployment(
                    _deployment(deployment),
                    parameters=dict(parameters),
                    idempotency_key=key,
                    name=name,
                    state=Scheduled(),
                )
            except ObjectNotFound as error:
                _deployment.cache_clear()  # registered anew since we asked
                if not known:
                    raise EngineAway from error
            else:
                return str(run.id)
    raise EngineAway


def fetch(job: str, attempt: int) -> str:
    return start(FETCH, {"job": job, "attempt": attempt}, key=f"fetch-{job}-{attempt}", name=f"{job[:8]}-{attempt}")


def transcribe(job: str, attempt: int) -> str:
    return start(
        TRANSCRIBE, {"job": job, "attempt": attempt}, key=f"transcribe-{job}-{attempt}", name=f"{job[:8]}-{attempt}"
    )


def look_up(ids: Iterable[str]) -> dict[str, FlowRun]:
    """The runs that Prefect knows of these ids."""
    wanted = [UUID(id) for id in ids]
    found: dict[str, FlowRun] = {}
    with _engine() as client:
        for begin in range(0, len(wanted), PAGE):
            page = FlowRunFilter(id=FlowRunFilterId(any_=wanted[begin : begin + PAGE]))
            found |= {str(run.id): run for run in client.read_flow_runs(flow_run_filter=page, limit=PAGE)}
    return found


def cancel(id: str) -> None:
    """Ask Prefect to end the run; its worker kills the process."""
    with _engine() as client:
        try:
            client.set_flow_run_state(UUID(id), Cancelling(message="Cancelled by its user"))
        except ObjectNotFound:
            return  # deleted: nothing runs


def mark_crashed(id: str, message: str) -> None:
    """A run whose process is known to be gone."""
    with _engine() as client:
        client.set_flow_run_state(UUID(id), Crashed(message=message), force=True)


def reachable() -> bool:
    try:
        with _engine() as client:
            return client.api_healthcheck() is None
    except EngineAway:
        return False
