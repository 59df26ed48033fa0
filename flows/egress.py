"""From which address a site sees us: how many downloads at a time, and another address where this one is limited."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

from prefect.concurrency._asyncio import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency

from flows.job import failure
from infra import runs
from infra.errors import DownloadFailed, EngineAway
from infra.settings import settings
from tasks.download.ladder import again
from tasks.download.routes import Route

PATIENCE = 600.0  # seconds to wait for a turn
LEASE = 60.0  # seconds, the least that Prefect takes, until the turn of a killed download is free again

POOL = Route("download pool", egress="download", means="pool")

log = logging.getLogger("prefect.flow_runs")


def is_worth_another_try(task: Any, task_run: Any, state: Any) -> bool:
    """Prefect's question of what asks a site: not if another try would meet the same limit."""
    error = failure(state)
    return error is not None and again(error, task_run.run_count)


@contextmanager
def one_of_few(place: str) -> Generator[None]:
    """A turn among the downloads from this address, however many workers share it: a limit that Prefect keeps.

    Where Prefect cannot say, nobody waits.
    """
    with ExitStack() as turn:
        if place:
            name = f"youtube-{place}"
            with suppress(EngineAway):
                made(name)
            try:
                turn.enter_context(
                    concurrency(
                        name, timeout_seconds=PATIENCE, lease_duration=LEASE, raise_on_lease_renewal_failure=False
                    )
                )
            except AcquireConcurrencySlotTimeoutError:
                raise DownloadFailed(reason="too many others are downloading from this address.") from None
            except ConcurrencySlotAcquisitionError as error:
                log.warning("no turn could be asked for: %s", error)
        yield


@cache
def made(name: str) -> None:
    """The limit is there; whoever changed it in Prefect keeps what he chose."""
    runs.make_limit(name, settings().downloads_per_egress)


def elsewhere(egress: str) -> tuple[Route, ...]:
    """The route to a worker of the pool `download` at another address, where one is online."""
    if egress == POOL.egress:
        return ()
    try:
        return (POOL,) if runs.has_workers("download") else ()
    except EngineAway:
        return ()
