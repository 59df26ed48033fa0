"""What the warm worker rests on in Prefect without a promise. An upgrade that changes it fails here, by name."""

from __future__ import annotations

import inspect
import ssl
from typing import Any

import pytest

from infra.warm import parts


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_the_executor_takes_a_starter_of_ours() -> None:
    from prefect.runner._flow_run_executor import FlowRunExecutor, FlowRunExecutorContext

    context = parts.executor_context()
    assert isinstance(context, FlowRunExecutorContext)
    wanted = {"flow_run", "starter", "resolve_flow", "propose_submitting"}
    assert wanted <= parameters(FlowRunExecutorContext.create_executor)
    assert "task_status" in parameters(FlowRunExecutor.submit)
    assert "control_channel" in inspect.getsource(FlowRunExecutorContext.__aenter__)


def test_a_process_is_known_by_a_handle_that_asks_our_scope() -> None:
    asked: list[tuple[str, int]] = []

    class Process:
        pid, returncode = 42, 7

    class Scope:
        wait_after_graceful_kill = True

        def is_alive(self, pid: int) -> bool:
            asked.append(("alive", pid))
            return True

        def graceful_kill(self, pid: int) -> None:
            asked.append(("graceful", pid))

        def hard_kill(self, pid: int) -> None:
            asked.append(("hard", pid))

        def close(self) -> None:
            asked.append(("close", 0))

    handle = parts.process_handle(Process(), Scope())
    assert (handle.pid, handle.returncode, handle.is_alive()) == (42, 7, True)
    handle.graceful_kill()
    handle.hard_kill()
    handle.close()
    assert asked == [("alive", 42), ("graceful", 42), ("hard", 42), ("close", 0)]


def test_the_control_channel_registers_a_run_and_takes_it_from_the_environment() -> None:
    from prefect._internal import control_listener
    from prefect.runner._control_channel import ControlChannel

    assert "flow_run_id" in parameters(ControlChannel.register)
    source = inspect.getsource(control_listener.configure_from_env)
    assert "PREFECT__CONTROL_PORT" in source
    assert "PREFECT__CONTROL_TOKEN" in source


def test_the_engine_runs_a_flow_run_as_its_own_module_does() -> None:
    import prefect.engine
    from prefect.flow_engine import load_flow, load_flow_run, run_flow
    from prefect.logging.loggers import flow_run_logger

    source = inspect.getsource(prefect.engine)
    for step in (
        "configure_from_env()",
        "handle_engine_signals(flow_run_id)",
        "load_flow_run(",
        "load_flow(",
        "run_flow(",
    ):
        assert step in source, f"prefect.engine no longer does {step}"
    assert parameters(load_flow_run) == {"flow_run_id"}
    assert "flow_run" in parameters(load_flow)
    assert {"flow", "flow_run", "error_logger"} <= parameters(run_flow)
    assert parameters(prefect.engine._drive_run_flow_result) == {"flow", "run_result"}
    assert "flow_run" in parameters(flow_run_logger)


@pytest.mark.parametrize(
    "method",
    [
        "setup",
        "teardown",
        "get_and_submit_flow_runs",
        "_initialize_after_sync",
        "_release_limit_slot",
        "_get_scheduled_flow_runs",
        "_propose_submitting_state",
        "_give_worker_labels_to_flow_run",
        "get_default_base_job_template",
    ],
)
def test_the_worker_has_the_methods_that_ours_extends(method: str) -> None:
    from prefect.workers.base import BaseJobConfiguration, BaseWorker

    assert callable(getattr(BaseWorker, method))
    assert callable(BaseJobConfiguration._base_environment)
    assert {"_work_pool", "_limit", "_runs_task_group", "_submitting_flow_run_ids", "is_setup"} <= set(
        BaseWorker.__init__.__code__.co_names
    )


def test_hooks_are_left_to_the_worker_by_an_environment_variable() -> None:
    from prefect.runner import _starter_engine

    assert '"PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"' in inspect.getsource(_starter_engine)


def test_certificates_are_read_once_and_contexts_that_check_nothing_are_not_shared() -> None:
    import prefect.client.orchestration as clients

    assert "ssl.create_default_context(cafile=" in inspect.getsource(clients)
    before = clients.ssl
    try:
        parts.share_certificates()
        import certifi

        shared = clients.ssl.create_default_context(cafile=certifi.where())
        assert shared is clients.ssl.create_default_context(cafile=certifi.where())
        assert shared.verify_mode is ssl.CERT_REQUIRED
        assert clients.ssl.create_default_context() is not clients.ssl.create_default_context()
        assert clients.ssl.CERT_NONE is ssl.CERT_NONE
    finally:
        clients.ssl = before


def test_a_reason_of_ours_stands_in_for_prefects() -> None:
    from prefect.runner._flow_run_executor import FlowRunExecutorContext
    from prefect.runner._state_proposer import StateProposer

    assert parameters(StateProposer.propose_crashed) == {"self", "flow_run", "message"}
    assert "self._state_proposer = StateProposer" in inspect.getsource(FlowRunExecutorContext.__aenter__)


def test_runs_are_fetched_by_the_call_that_ours_makes_with_a_limit() -> None:
    from prefect.client.orchestration import PrefectClient
    from prefect.server.api.workers import get_scheduled_flow_runs

    source = inspect.getsource(PrefectClient.get_scheduled_flow_runs_for_work_pool)
    assert '"/work_pools/{name}/get_scheduled_flow_runs"' in source
    assert {"work_queue_names", "scheduled_before", "limit"} <= parameters(get_scheduled_flow_runs)
