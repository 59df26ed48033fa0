"""What Prefect's word on a run, and the row's own pulse, mean for the row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import runs
from infra.jobs.job import Job
from infra.jobs.mirror import LATE, SETTLING, SILENT, STUBBORN, UNBORN, Cancelled, Dead, Finding, Sight, finding
from infra.jobs.states import Status
from infra.jobs.stream import runs_of
from infra.runs import FlowRun, Retry, StateType

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
INSTANT = timedelta(milliseconds=1)
CLEAR = Sight(rows=LONG_AGO, engine=LONG_AGO)


def job(pulse: datetime = NOW, **more: Any) -> Job:
    row = {"id": "1", "youtube_url": "x", "status": Status.PROCESSING, "created_at": LONG_AGO, "updated_at": pulse}
    return Job.model_validate({**row, "run_id": "run", **more})


def run(state: StateType, since: datetime = NOW, **more: Any) -> FlowRun:
    return FlowRun(id="run", state_type=state, since=since, **more)


def found(
    row: Job, of: FlowRun | None, *, id: str = "run", retry: Retry | None = None, sight: Sight = CLEAR
) -> Finding:
    return finding(row, id, of, retry, sight, NOW)


@pytest.mark.parametrize(
    ("state", "patience"), [(StateType.PENDING, UNBORN), (StateType.RUNNING, SILENT), (StateType.CANCELLING, STUBBORN)]
)
def test_a_run_is_given_up_only_when_it_has_been_silent_in_its_state_for_long(
    state: StateType, patience: timedelta
) -> None:
    silent = job(pulse=LONG_AGO)
    assert isinstance(found(silent, run(state, NOW - patience - INSTANT)), Dead | Cancelled)
    assert not isinstance(found(silent, run(state, NOW - patience)), Dead | Cancelled), "the row waited before, too"


def test_a_run_with_a_pulse_is_alive_however_long_it_runs() -> None:
    assert found(job(pulse=NOW - SILENT), run(StateType.RUNNING, LONG_AGO)) is None


def test_silence_while_the_database_was_away_proves_nothing() -> None:
    just_back = Sight(rows=NOW - INSTANT, engine=LONG_AGO)
    assert found(job(pulse=LONG_AGO), run(StateType.RUNNING, LONG_AGO), sight=just_back) is None


def test_a_start_that_waited_for_prefect_is_not_given_up_when_prefect_is_back() -> None:
    just_back = Sight(rows=LONG_AGO, engine=NOW - INSTANT)
    assert found(job(pulse=LONG_AGO), run(StateType.PENDING, LONG_AGO), sight=just_back) == "Starting"


def test_a_crash_counts_but_a_run_that_its_stopping_worker_handed_back_does_not() -> None:
    killed = run(StateType.CRASHED, message="Flow run process exited with SIGKILL.\nmore")
    assert found(job(), killed) == Dead("Flow run process exited with SIGKILL")
    handed_back = run(StateType.CRASHED, message=f"{runs.HANDED_BACK}; it is tried again")
    assert found(job(), handed_back) == Dead(f"{runs.HANDED_BACK}; it is tried again", blame=False)


@pytest.mark.parametrize("state", [StateType.COMPLETED, StateType.FAILED])
def test_an_ended_run_has_a_moment_for_its_last_write(state: StateType) -> None:
    assert found(job(pulse=LONG_AGO), run(state, NOW - SETTLING)) is None
    assert isinstance(found(job(pulse=LONG_AGO), run(state, NOW - SETTLING - INSTANT)), Dead)


def test_a_run_that_waits_says_what_for() -> None:
    queued = job(status=Status.QUEUED, status_message="Starting")
    due = NOW - LATE
    assert found(queued, run(StateType.SCHEDULED, next_scheduled_start_time=due)) == "Waiting for its turn"
    late = run(StateType.SCHEDULED, next_scheduled_start_time=due - INSTANT)
    assert found(queued, late) == "Waiting for a free worker"


def test_why_a_job_waits_again_stays_to_be_read() -> None:
    again = job(status=Status.QUEUED, status_message="Waiting to be tried again: its process never started")
    assert found(again, run(StateType.SCHEDULED, next_scheduled_start_time=NOW)) is None


def test_a_retry_says_which_attempt_and_when() -> None:
    at = NOW + timedelta(seconds=185)
    step = Retry(run="run", attempt=2, attempts=4, at=at)
    assert found(job(), run(StateType.RUNNING), retry=step) == "Trying again: attempt 2 of 4, at 12:03:05 UTC"
    flow = run(StateType.SCHEDULED, run_count=1, next_scheduled_start_time=at)
    assert found(job(), flow) == "Trying again at 12:03:05 UTC"


def test_a_retry_that_has_begun_is_not_announced_any_more() -> None:
    step = Retry(run="run", attempt=2, attempts=4, at=NOW)
    assert found(job(), run(StateType.RUNNING), retry=step) is None


def test_of_two_racers_the_one_without_a_pulse_in_the_row_is_not_judged_by_it() -> None:
    row = job(pulse=LONG_AGO, racers=["run", "rival"])
    assert found(row, run(StateType.RUNNING, LONG_AGO), id="rival") is None
    assert isinstance(found(row, run(StateType.RUNNING, LONG_AGO), id="run"), Dead)
    assert isinstance(found(row, None, id="rival"), Dead)


@given(
    state=st.sampled_from([StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]),
    age=st.floats(0, SILENT.total_seconds()),
    pulse=st.floats(0, 10_000),
    waited=st.floats(-1000, 10_000),
    leads=st.booleans(),
)
def test_whatever_its_row_lived_through_a_run_that_just_came_into_a_living_state_is_never_ended(
    state: StateType, age: float, pulse: float, waited: float, leads: bool
) -> None:
    row = job(pulse=NOW - timedelta(seconds=pulse), racers=["run", "rival"])
    due = NOW - timedelta(seconds=waited)
    fresh = run(state, NOW - timedelta(seconds=age), next_scheduled_start_time=due)
    assert not isinstance(found(row, fresh, id="run" if leads else "rival"), Dead | Cancelled)


def test_an_event_tells_of_its_own_run_or_of_its_tasks_run() -> None:
    own = {"resource": {"prefect.resource.id": "prefect.flow-run.a"}, "related": []}
    task = {
        "resource": {"prefect.resource.id": "prefect.task-run.t"},
        "related": [{"prefect.resource.id": "prefect.flow-run.b"}, {"prefect.resource.id": "prefect.flow.f"}],
    }
    assert [runs_of(event) for event in (own, task, {})] == [{"a"}, {"b"}, set()]
