"""The parts of Prefect that are not public and that warm children rest on, all of them, in one place.

`tests/unit/test_prefect_parts.py` fails loudly when an upgrade of Prefect changes one. They are imported when asked
for: the worker has no use for the engine, nor a child for the runner.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import importlib
import logging
import ssl
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.flows import Flow


def executor_context() -> Any:
    """What observes cancellations and reports crashes for the process worker, too."""
    from prefect.runner._flow_run_executor import FlowRunExecutorContext

    return FlowRunExecutorContext()


def tell_reasons(context: Any, reasons: dict[UUID, str]) -> None:
    """Where we know better than Prefect why a run crashed, its state says so."""
    proposer = context._state_proposer
    propose = proposer.propose_crashed

    async def propose_crashed(flow_run: FlowRun, message: str) -> Any:
        return await propose(flow_run, message=reasons.pop(flow_run.id, message))

    proposer.propose_crashed = propose_crashed


def process_handle(process: Any, scope: Any) -> Any:
    """A run's process as the executor knows it: pid, returncode, and how to end it."""
    from prefect.runner._process_manager import ProcessHandle

    return ProcessHandle(process, termination_scope=scope)


def load_engine() -> None:
    """Import what the first run would import."""
    for module in ("prefect.engine", "prefect.flow_engine"):
        importlib.import_module(module)


def share_certificates() -> None:
    """Each run makes nine clients, and each reads the certificate authorities anew, 20 ms: once is enough.

    Where they are not to be checked, Prefect asks for a context without naming a file, and gets one of its own.
    """
    import prefect.client.orchestration as clients

    clients.ssl = _Ssl()  # pyright: ignore[reportAttributeAccessIssue, reportPrivateImportUsage]


class _Ssl:
    """The module `ssl`, for Prefect's clients alone."""

    @staticmethod
    def create_default_context(*, cafile: str | None = None) -> ssl.SSLContext:
        return _checking(cafile) if cafile else ssl.create_default_context()

    def __getattr__(self, name: str) -> Any:
        return getattr(ssl, name)


@cache
def _checking(cafile: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cafile)


def load(run: UUID) -> tuple[FlowRun, Flow[..., Any]]:
    """The run and its flow, as `python -m prefect.engine` finds them."""
    from prefect.flow_engine import load_flow, load_flow_run
    from prefect.logging.loggers import flow_run_logger

    flow_run = load_flow_run(flow_run_id=run)
    try:
        return flow_run, load_flow(flow_run)
    except Exception:
        flow_run_logger(flow_run=flow_run).error("The flow could not be loaded", exc_info=True)
        raise


def execute(flow_run: FlowRun, flow: Flow[..., Any]) -> None:
    """Run the flow on this thread, as the engine does."""
    from prefect.engine import _drive_run_flow_result
    from prefect.flow_engine import run_flow
    from prefect.logging.loggers import flow_run_logger

    logger = cast("logging.Logger", flow_run_logger(flow_run=flow_run))
    result = run_flow(flow, flow_run=flow_run, error_logger=logger)
    _drive_run_flow_result(flow, result)


def signals(run: UUID) -> Any:
    """Prefect's exit codes for what may end a run: 0 where the state is told, else not."""
    from prefect._internal.control_listener import configure_from_env
    from prefect.engine import handle_engine_signals

    configure_from_env()
    return handle_engine_signals(run)
