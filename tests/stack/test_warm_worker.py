"""The warm worker on a real Prefect server: runs in children that stay, whatever happens to a run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from infra.runs import HANDED_BACK
from infra.stack.postgres import Postgres
from tests.running import eventually
from tests.workers import PrefectServer, a_prefect_server, a_worker

PRELOAD = ["tests.flows_for_workers"]


@pytest.fixture(scope="module")
def server(cluster: Postgres) -> Generator[PrefectServer]:
    with a_prefect_server(cluster) as running:
        yield running


@pytest.fixture(scope="module")
def warm(server: PrefectServer) -> Generator[PrefectServer]:
    """A worker with one child, for every test that does not stop it."""
    server.make_pool("warm", preload=PRELOAD, grace_seconds=2)
    with a_worker(server, "warm"):
        yield server


def pid_of(place: Path) -> int:
    """The child that wrote its process id there."""
    return eventually(
        lambda: int(place.read_text().split()[1]) if place.exists() and " " in place.read_text() else None,
        within=60,
        what="the first line of the flow",
    )


def quick_run(server: PrefectServer, place: Path, pool: str = "warm") -> int:
    """A run that ends well; the child it was on."""
    run = server.run("quick", pool, place=str(place))
    assert server.ended(run)["type"] == "COMPLETED", server.logs(run)
    return pid_of(place)


def worker_log(server: PrefectServer, pool: str = "warm") -> str:
    return (server.folder / f"worker-{pool}.log").read_text()


def test_runs_share_one_child_that_was_there_before_them(warm: PrefectServer, tmp_path: Path) -> None:
    first = quick_run(warm, tmp_path / "a")
    assert quick_run(warm, tmp_path / "b") == first


def test_a_run_is_fetched_by_event_and_not_by_the_next_poll(warm: PrefectServer, tmp_path: Path) -> None:
    # Prefect's poll comes each 10 s here: five runs in a row by polling would take longer than this deadline.
    began = time.monotonic()
    for name in "abcde":
        quick_run(warm, tmp_path / name)
    assert time.monotonic() - began < 20


def test_prints_and_logs_reach_prefect(warm: PrefectServer) -> None:
    run = warm.run("talkative", "warm")
    assert warm.ended(run)["type"] == "COMPLETED"
    eventually(lambda: {"a print", "a log line"} <= set(warm.logs(run)), what="both lines in Prefect's log")


def test_an_error_fails_the_run_and_the_child_lives_on(warm: PrefectServer, tmp_path: Path) -> None:
    before = quick_run(warm, tmp_path / "a")
    run = warm.run("failing", "warm")
    state = warm.ended(run)
    assert state["type"] == "FAILED"
    assert "as asked" in state["message"]
    assert quick_run(warm, tmp_path / "b") == before


@pytest.mark.parametrize(("number", "word"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (0, "3")])
def test_a_child_that_dies_crashes_its_run_and_is_replaced(
    warm: PrefectServer, tmp_path: Path, number: int, word: str
) -> None:
    before = quick_run(warm, tmp_path / "a")
    run = warm.run("killed", "warm", number=int(number))
    state = warm.ended(run)
    assert state["type"] == "CRASHED"
    assert word in state["message"]
    assert quick_run(warm, tmp_path / "b") != before


def test_a_child_that_dies_while_it_waits_is_replaced(warm: PrefectServer, tmp_path: Path) -> None:
    before = quick_run(warm, tmp_path / "a")
    eventually(lambda: psutil.Process(before).status() == psutil.STATUS_SLEEPING, what="an idle child")
    os.kill(before, signal.SIGKILL)
    assert quick_run(warm, tmp_path / "b") != before


@pytest.mark.parametrize("flow", ["listening", "deaf"])
def test_a_cancelled_run_ends_within_10_s_whether_it_listens_or_not(
    warm: PrefectServer, tmp_path: Path, flow: str
) -> None:
    run = warm.run(flow, "warm", place=str(tmp_path / "a"))
    child = pid_of(tmp_path / "a")
    asked = time.monotonic()
    warm.cancel(run)
    assert warm.ended(run, within=15)["type"] == "CANCELLED"
    eventually(lambda: not psutil.pid_exists(child), within=10, what="the end of the child")
    assert time.monotonic() - asked < 10
    assert quick_run(warm, tmp_path / "b") != child
    assert warm.state(run)["type"] == "CANCELLED"


@pytest.mark.parametrize("native", [False, True])
def test_a_run_whose_time_is_up_ends_and_its_child_is_replaced(
    warm: PrefectServer, tmp_path: Path, native: bool
) -> None:
    run = warm.run("too_long", "warm", place=str(tmp_path / "a"), native=native)
    child = pid_of(tmp_path / "a")
    state = warm.ended(run, within=20)
    assert (state["type"], state["name"]) == ("FAILED", "TimedOut")
    assert quick_run(warm, tmp_path / "b") != child


@pytest.mark.parametrize(
    ("parameters", "cancel", "word"),
    [({}, False, "Completed"), ({"number": 9}, False, "Crashed"), ({"seconds": 30}, True, "Cancelling")],
)
def test_state_hooks_are_called_once(
    warm: PrefectServer, tmp_path: Path, parameters: dict[str, int], cancel: bool, word: str
) -> None:
    place = tmp_path / "a"
    run = warm.run("hooked", "warm", place=str(place), **parameters)
    pid_of(place)
    if cancel:
        warm.cancel(run)
    warm.ended(run)
    hooks = tmp_path / "a.hooks"
    eventually(hooks.exists, what=f"the hook of {word}")
    quick_run(warm, tmp_path / "b")
    assert hooks.read_text().split() == [word]


def test_a_run_leaves_nothing_behind_for_the_next(warm: PrefectServer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert warm.ended(warm.run("untidy", "warm", place=str(tmp_path / name)))["type"] == "COMPLETED"
    found = (tmp_path / "b").read_text()
    assert found == (tmp_path / "a").read_text()
    assert found.endswith("|False")


def test_a_child_is_replaced_after_its_number_of_runs(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("two-runs", preload=PRELOAD, max_runs=2)
    with a_worker(server, "two-runs"):
        children = [quick_run(server, tmp_path / str(place), "two-runs") for place in range(4)]
    assert children[0] == children[1] != children[2] == children[3]


def test_a_child_is_replaced_once_it_holds_too_much_memory(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("small", preload=PRELOAD, max_memory_mb=400)
    with a_worker(server, "small"):
        before = quick_run(server, tmp_path / "a", "small")
        run = server.run("greedy", "small", place=str(tmp_path / "b"), megabytes=500)
        assert server.ended(run)["type"] == "COMPLETED"
        assert quick_run(server, tmp_path / "c", "small") != before
        assert "it holds" in worker_log(server, "small")


def test_a_child_that_cannot_load_fails_its_runs_instead_of_hanging_them(server: PrefectServer) -> None:
    server.make_pool("broken", preload=["no.such.module"])
    with a_worker(server, "broken"):
        state = server.ended(server.run("quick", "broken"), within=60)
        assert state["type"] == "CRASHED"
        assert "no.such.module" in state["message"]


def test_each_child_gets_its_device(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("devices", preload=PRELOAD, devices=["3", "5"])
    with a_worker(server, "devices", limit=2) as worker:

        def devices() -> set[str]:
            children = psutil.Process(worker.pid).children()
            return {child.environ().get("CUDA_VISIBLE_DEVICES", "") for child in children}

        eventually(lambda: devices() == {"3", "5"}, what="a child for each device")


def test_a_worker_that_is_asked_to_stop_lets_its_run_finish_and_takes_no_other(
    server: PrefectServer, tmp_path: Path
) -> None:
    server.make_pool("draining", preload=PRELOAD, drain_seconds=20)
    with a_worker(server, "draining") as worker:
        run = server.run("listening", "draining", place=str(tmp_path / "a"), seconds=4)
        pid_of(tmp_path / "a")
        worker.send_signal(signal.SIGTERM)
        next_one = server.run("quick", "draining")
        worker.wait(30)
    assert server.state(run)["type"] == "COMPLETED"
    assert (tmp_path / "a").read_text() == "finished"
    assert server.state(next_one)["type"] == "SCHEDULED"


def test_a_run_that_does_not_finish_in_the_drain_is_handed_back(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("hasty", preload=PRELOAD, drain_seconds=1, grace_seconds=2)
    with a_worker(server, "hasty") as worker:
        run = server.run("deaf", "hasty", place=str(tmp_path / "a"))
        child = pid_of(tmp_path / "a")
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    state = server.state(run)
    assert state["type"] == "CRASHED"
    assert state["message"].startswith(HANDED_BACK)
    assert not psutil.pid_exists(child)


def test_children_die_with_their_worker(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("orphans", preload=PRELOAD)
    with a_worker(server, "orphans") as worker:
        server.run("deaf", "orphans", place=str(tmp_path / "a"))
        child = pid_of(tmp_path / "a")
        worker.kill()
        worker.wait()
        eventually(lambda: not psutil.pid_exists(child), within=10, what="the end of the child")


def test_the_next_worker_tells_which_runs_were_lost_with_the_last(server: PrefectServer, tmp_path: Path) -> None:
    server.make_pool("relay", preload=PRELOAD)
    with a_worker(server, "relay") as first:
        lost = server.run("deaf", "relay", place=str(tmp_path / "a"))
        pid_of(tmp_path / "a")
        first.kill()
        first.wait()
    assert server.state(lost)["type"] == "RUNNING"
    with a_worker(server, "relay"):
        state = server.ended(lost, within=15)
        assert (state["type"], state["message"]) == ("CRASHED", "Its worker was killed")
        living = server.run("listening", "relay", place=str(tmp_path / "b"), seconds=12)
        pid_of(tmp_path / "b")
        with a_worker(server, "relay"):  # a second one leaves alone what the first is on
            assert server.ended(living, within=30)["type"] == "COMPLETED"


def test_a_pool_is_made_by_the_one_command_that_an_operator_types(server: PrefectServer, tmp_path: Path) -> None:
    with a_worker(server, "unheard-of"):
        made = server.call("GET", "/work_pools/unheard-of")
        assert made["type"] == "warm"
        assert "preload" in made["base_job_template"]["variables"]["properties"]
        quick_run(server, tmp_path / "a", "unheard-of")
