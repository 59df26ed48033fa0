"""The mirror with a real PostgreSQL and a real Prefect server: what Prefect says becomes what the row says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient

from infra import database as db
from infra import engine, runs
from infra import settings as configuration
from infra.api.app import create_app
from infra.errors import TakenOver, TooLong
from infra.jobs import mirror, stream, table
from infra.jobs.job import Job
from infra.jobs.migrate import migrate
from infra.jobs.request import Provider, Request
from infra.jobs.run import Run
from infra.jobs.stages import Stage
from infra.jobs.states import Outcome, Status
from infra.runs import StateType
from infra.stack.postgres import Postgres
from infra.stack.stack import free_port
from tests.running import ROOT, eventually

LINK = Request(link="https://www.youtube.com/watch?v=dQw4w9WgXcQ")
SOON = 5.0  # seconds; by event it takes a fraction of one, by the next round five


class Prefect:
    """A Prefect server without workers, whose runs do what the test says."""

    def __init__(self, cluster: Postgres, home: Path) -> None:
        self.port = free_port("127.0.0.1", preferred=0)
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.database = f"prefect_{self.port}"
        cluster.make_databases(self.database)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.api,
            "PREFECT_API_DATABASE_CONNECTION_URL": cluster.sqlalchemy_url(self.database),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_UI_ENABLED": "false",
        }
        self._log = home / "server.log"

    def start(self) -> None:
        words = ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *words],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self.answers, within=120, what="Prefect")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def answers(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.api}/health", timeout=2).is_success
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = httpx.request(method, f"{self.api}{path}", json=body or None, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deploy(self, flow: str, deployment: str, **schema: Any) -> str:
        made = self.ask("POST", "/flows/", name=flow)
        pool = httpx.post(f"{self.api}/work_pools/", json={"name": "default", "type": "process"}, timeout=30)
        assert pool.is_success or pool.status_code == httpx.codes.CONFLICT.value
        wanted = {"name": deployment, "flow_id": made["id"], "work_pool_name": "default"}
        strictly = {"parameter_openapi_schema": schema, "enforce_parameter_schema": bool(schema)}
        return self.ask("POST", "/deployments/", **wanted, **strictly)["id"]

    def undeploy(self, id: str) -> None:
        self.ask("DELETE", f"/deployments/{id}")

    def put(self, run: str, state: StateType, **more: Any) -> None:
        self.ask("POST", f"/flow_runs/{run}/set_state", state={"type": state, **more}, force=True)

    def state(self, run: str) -> StateType:
        return StateType(self.ask("GET", f"/flow_runs/{run}")["state_type"])


@pytest.fixture(scope="module")
def server(cluster: Postgres) -> Generator[Prefect]:
    with tempfile.TemporaryDirectory(prefix="ytl-", ignore_cleanup_errors=True) as home:
        prefect = Prefect(cluster, Path(home))
        prefect.start()
        yield prefect
        prefect.kill()
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{prefect.database}" WITH (FORCE)'.encode())


@pytest.fixture
def prefect(server: Prefect, database: str, monkeypatch: pytest.MonkeyPatch) -> Generator[Prefect]:
    """The server with the deployments there, and infra pointed at it and at a fresh jobs table."""
    migrate(database)
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("PREFECT_API_URL", server.api)
    forget()
    assert db.alive()
    assert runs.alive()
    server.deploy("fetch", "default")
    server.deploy("transcribe", "cuda")
    server.deploy("transcribe", "modal")
    yield server
    db.pool().close()
    engine.client().close()
    forget()


def forget() -> None:
    for kept in (configuration.settings, db.pool, engine.client, runs._deployment):
        kept.cache_clear()


@contextmanager
def mirroring() -> Generator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=mirror.mirror, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def mirrored(prefect: Prefect) -> Generator[Prefect]:
    with mirroring():
        yield prefect


def a_job() -> Job:
    """A queued job with its run."""
    id = table.new_id()
    assert table.insert(LINK, id=id)
    assert table.assign(id, 1, runs.fetch(id, 1))
    return now(id)


def now(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def run_of(job: Job) -> str:
    assert job.run_id is not None
    return job.run_id


def at_work(prefect: Prefect) -> tuple[Job, Run]:
    """A job whose run is at work and says so."""
    job = a_job()
    prefect.put(run_of(job), StateType.RUNNING)
    run = Run.claim(job.id, 1, run_of(job))
    run.report(Stage.DOWNLOAD, 0.5, "Downloading")
    return now(job.id), run


def says(id: str, words: str, *, within: float = SOON) -> None:
    eventually(lambda: words in (now(id).status_message or ""), within=within, what=f'"{words}" ({now(id)})')


def becomes(id: str, status: Status, *, attempt: int = 1, within: float = SOON) -> Job:
    def look() -> bool:
        return (now(id).status, now(id).attempt) == (status, attempt)

    eventually(look, within=within, what=f"{status} in attempt {attempt} ({now(id)})")
    return now(id)


def has_another_run(id: str, run: str) -> Job:
    eventually(lambda: now(id).run_id not in (None, run), what="the next attempt's run")
    return now(id)


# --- each state, as the row shows it --------------------------------------------------------------


def test_a_job_without_a_run_gets_one(mirrored: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    id = table.new_id()
    table.insert(LINK, id=id)
    job = eventually(lambda: now(id) if now(id).run_id else None, within=10, what="a run for the job")
    assert mirrored.state(run_of(job)) is StateType.SCHEDULED


def test_a_job_that_no_worker_takes_says_so_and_says_when_one_begins(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "LATE", timedelta(seconds=0.2))
    monkeypatch.setattr(mirror, "QUEUED", 0.0)
    with mirroring():
        job = a_job()
        says(job.id, "Waiting for a free worker", within=10)
        prefect.put(run_of(job), StateType.PENDING)
        says(job.id, "Starting")
        assert now(job.id).status is Status.QUEUED


def test_what_a_run_says_of_its_work_stays(prefect: Prefect) -> None:
    job, run = at_work(prefect)
    sight = mirror.Sight(rows=datetime.now(UTC), engine=datetime.now(UTC))
    mirror.look(set(), sight, everything=True)
    assert now(job.id) == job
    prefect.put(run_of(job), StateType.CANCELLING)
    run.report(Stage.DOWNLOAD, 1.0, "Downloaded")
    table.note(job, "Cancelling")  # by a mirror that looked before that
    assert now(job.id).status_message == "Downloaded"


def test_a_killed_run_is_tried_again_by_another_run(mirrored: Prefect) -> None:
    job, _ = at_work(mirrored)
    mirrored.put(run_of(job), StateType.CRASHED, message="Flow run process exited with SIGKILL.")
    again = becomes(job.id, Status.QUEUED, attempt=2)
    assert again.lost_runs == 1
    assert again.status_message == "Waiting to be tried again: Flow run process exited with SIGKILL"
    has_another_run(job.id, run_of(job))


def test_the_third_killed_run_ends_the_job_with_a_sentence(mirrored: Prefect) -> None:
    job = a_job()
    for attempt in (1, 2, 3):
        mirrored.put(run_of(job), StateType.CRASHED, message="Flow run process exited with SIGKILL.")
        if attempt < 3:
            becomes(job.id, Status.QUEUED, attempt=attempt + 1)
            job = has_another_run(job.id, run_of(job))
    ended = becomes(job.id, Status.ERROR, attempt=3)
    assert "interrupted 3 times" in (ended.error_message or "")
    assert ended.error_kind == "passing"


def test_a_run_that_its_stopping_worker_handed_back_costs_no_attempt(mirrored: Prefect) -> None:
    job, _ = at_work(mirrored)
    mirrored.put(run_of(job), StateType.CRASHED, message=f"{runs.HANDED_BACK}: it is tried again.")
    assert becomes(job.id, Status.QUEUED, attempt=2).lost_runs == 0


def test_a_process_that_vanished_is_told_to_prefect_and_its_job_tried_again(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SILENT", timedelta(seconds=1))
    job, _ = at_work(mirrored)
    becomes(job.id, Status.QUEUED, attempt=2, within=10)
    assert mirrored.state(run_of(job)) is StateType.CRASHED, "its slot is free"


def test_a_process_that_never_started_is_told_to_prefect_and_its_job_tried_again(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "UNBORN", timedelta(seconds=1))
    job = a_job()
    mirrored.put(run_of(job), StateType.PENDING)
    becomes(job.id, Status.QUEUED, attempt=2, within=10)
    assert mirrored.state(run_of(job)) is StateType.CRASHED


@pytest.mark.parametrize("state", [StateType.FAILED, StateType.COMPLETED])
def test_a_run_that_ended_without_a_last_word_is_tried_again(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch, state: StateType
) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    job, _ = at_work(mirrored)
    mirrored.put(run_of(job), state)
    becomes(job.id, Status.QUEUED, attempt=2, within=10)


def test_a_run_that_was_deleted_in_prefect_is_replaced(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    job = a_job()
    prefect.ask("DELETE", f"/flow_runs/{job.run_id}")
    with mirroring():
        again = becomes(job.id, Status.QUEUED, attempt=2, within=10)
        assert again.lost_runs == 0, "it was meant so"
        has_another_run(job.id, run_of(job))


def test_a_cancel_in_prefect_is_shown_and_then_final(mirrored: Prefect) -> None:
    job, run = at_work(mirrored)
    mirrored.put(run_of(job), StateType.CANCELLING)
    says(job.id, "Cancelling")
    mirrored.put(run_of(job), StateType.CANCELLED)
    becomes(job.id, Status.CANCELLED)
    with pytest.raises(TakenOver):
        run.report(Stage.TRANSCRIBE, 0.0, "Listening")


def test_a_cancel_in_prefect_that_no_worker_obeys_ends_the_job_within_ten_seconds(mirrored: Prefect) -> None:
    job, _ = at_work(mirrored)
    mirrored.put(run_of(job), StateType.CANCELLING)
    becomes(job.id, Status.CANCELLED, within=10)


RETRYING_FLOW = """
import prefect, sys
from prefect.runtime import flow_run

@prefect.task(retries=3, retry_delay_seconds=60, cache_policy=prefect.cache_policies.NO_CACHE)
def fails():
    raise OSError("not today")

@prefect.flow
async def trying():
    print(flow_run.id, flush=True)
    fails()

import asyncio
asyncio.run(trying())
"""


def test_a_step_that_is_tried_again_is_shown_with_its_attempt_and_time(mirrored: Prefect) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RETRYING_FLOW],
        env=mirrored.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        id = table.new_id()
        table.insert(LINK, id=id, run=run)
        Run.claim(id, 1, run).report(Stage.DOWNLOAD, 0.5, "Downloading")
        says(id, "Trying again: attempt 2 of 4, at ", within=20)
        job = now(id)
        assert job.pct > 0
        assert job.status is Status.PROCESSING
        assert (job.status_message or "").endswith(" UTC")
    finally:
        process.kill()
        process.communicate()


def test_a_change_is_seen_by_its_event_without_waiting_for_the_next_round(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "ROUND", 3600.0)
    with mirroring():
        job = a_job()
        eventually(lambda: table.followed_until(), what="the first round")
        eventually(lambda: is_seen_starting(prefect, job), what="the stream")
        prefect.put(run_of(job), StateType.CRASHED, message="killed")
        becomes(job.id, Status.QUEUED, attempt=2)


def is_seen_starting(prefect: Prefect, job: Job) -> bool:
    """The stream may not be up yet: the state is put again until an event of it is seen."""
    prefect.put(run_of(job), StateType.PENDING)
    return now(job.id).status_message == "Starting"


def test_what_a_stream_that_is_down_does_not_tell_the_next_round_sees(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(stream, "connected", refuse)
    with mirroring():
        job, _ = at_work(prefect)
        prefect.put(run_of(job), StateType.CRASHED, message="killed")
        becomes(job.id, Status.QUEUED, attempt=2, within=15)


# --- races, and runs that nobody waits for --------------------------------------------------------


def a_race(prefect: Prefect) -> tuple[Job, str, str]:
    """A job that two runs race for, both at work."""
    job, fetch = at_work(prefect)
    racers = {runs.transcribe(job.id, 1, provider): provider for provider in (Provider.CUDA, Provider.MODAL)}
    table.enqueue_runs(job.id, 1, racers, 60.0)
    fetch.hand_over(list(racers))
    for racer in racers:
        prefect.put(racer, StateType.RUNNING)
        Run.claim(job.id, 1, racer, racing=True)
    prefect.put(run_of(job), StateType.COMPLETED)
    leader = run_of(now(job.id))
    (rival,) = set(racers) - {leader}
    return now(job.id), leader, rival


def test_the_loser_of_a_race_is_cancelled(mirrored: Prefect) -> None:
    job, leader, rival = a_race(mirrored)
    Run.claim(job.id, 1, rival, racing=True).complete(results_url="/files/x", files={}, message="Done")
    eventually(lambda: mirrored.state(leader) in (StateType.CANCELLING, StateType.CANCELLED), within=10, what="its end")
    assert mirrored.state(rival) is StateType.RUNNING
    mirrored.put(leader, StateType.CANCELLED)
    eventually(lambda: outcome(leader) == Outcome.CANCELLED, within=10, what="its outcome")


def outcome(run: str) -> str | None:
    with db.connection() as connection:
        row = connection.execute("SELECT outcome FROM runs WHERE run_id = %s", (run,)).fetchone()
    return row["outcome"] if row else None


def test_a_racer_that_dies_leaves_the_song_to_its_rival(mirrored: Prefect) -> None:
    job, leader, rival = a_race(mirrored)
    mirrored.put(leader, StateType.CRASHED, message="killed")
    eventually(lambda: now(job.id).run_id == rival, within=10, what="the rival in the lead")
    assert (now(job.id).attempt, now(job.id).status) == (1, Status.PROCESSING)
    assert outcome(leader) == Outcome.CRASHED
    mirrored.put(rival, StateType.CRASHED, message="killed, too")
    becomes(job.id, Status.QUEUED, attempt=2, within=10)


def test_a_racer_that_is_cancelled_in_prefect_leaves_the_race_and_the_last_one_ends_the_job(mirrored: Prefect) -> None:
    job, leader, rival = a_race(mirrored)
    mirrored.put(rival, StateType.CANCELLED)
    eventually(lambda: now(job.id).racers == (leader,), within=10, what="one racer left")
    mirrored.put(leader, StateType.CANCELLED)
    becomes(job.id, Status.CANCELLED, within=10)


def test_the_run_of_a_cancelled_job_is_cancelled_in_prefect(mirrored: Prefect) -> None:
    job = a_job()
    table.cancel(job.id)
    eventually(lambda: mirrored.state(run_of(job)) is StateType.CANCELLED, within=10, what="the end of its run")


def test_a_provider_is_not_blamed_for_a_run_that_was_refused_because_its_job_was_cancelled(mirrored: Prefect) -> None:
    job, leader, _ = a_race(mirrored)
    table.cancel(job.id)
    mirrored.put(leader, StateType.FAILED, message="This run no longer owns its job")
    eventually(lambda: outcome(leader) == Outcome.CANCELLED, within=10, what="its outcome")


def test_a_cancelled_run_that_nobody_ends_gives_its_slot_back(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SILENT", timedelta(seconds=1))
    job, _ = at_work(mirrored)
    mirrored.put(run_of(job), StateType.CANCELLING)
    table.cancel(job.id)
    eventually(lambda: mirrored.state(run_of(job)) is StateType.CRASHED, within=20, what="the end of its run")
    assert now(job.id).status is Status.CANCELLED


# --- retried in Prefect ---------------------------------------------------------------------------


def retry_in_prefect(prefect: Prefect, run: str) -> None:
    """What the button in Prefect's UI does."""
    prefect.put(run, StateType.SCHEDULED, name="AwaitingRetry", message="Retry from the UI")


def a_failed_job(prefect: Prefect) -> Job:
    job, run = at_work(prefect)
    run.fail(TooLong(length="20:00", limit="15:00"))
    prefect.put(run_of(job), StateType.FAILED)
    return now(job.id)


def test_a_failed_run_that_is_retried_in_prefect_brings_its_job_back(mirrored: Prefect) -> None:
    job = a_failed_job(mirrored)
    retry_in_prefect(mirrored, run_of(job))
    again = becomes(job.id, Status.QUEUED, attempt=2)
    assert again.run_id == job.run_id
    assert again.error_message is None
    mirrored.put(run_of(job), StateType.RUNNING)
    Run.claim(job.id, 1, run_of(job)).complete(results_url="/files/x", files={}, message="Done")
    assert now(job.id).status is Status.COMPLETED


def test_a_retried_run_that_begins_before_the_mirror_saw_it_brings_its_job_back_itself(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.job import working_on

    job = a_failed_job(prefect)
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", run_of(job))
    with pytest.raises(TakenOver), working_on(job.id, 1):
        pytest.fail("a run that was not retried must not begin")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__RUN_COUNT", "2")
    with working_on(job.id, 1) as run:
        assert (run.job.attempt, run.job.status) == (2, Status.PROCESSING)


def test_a_run_that_goes_on_after_its_job_was_cancelled_brings_nothing_back(mirrored: Prefect) -> None:
    job, _ = at_work(mirrored)
    table.cancel(job.id)
    mirrored.put(run_of(job), StateType.PENDING)
    mirrored.put(run_of(job), StateType.RUNNING)
    eventually(lambda: mirrored.state(run_of(job)) is StateType.CANCELLING, within=10, what="the end of its run")
    assert now(job.id).status is Status.CANCELLED


def test_what_happened_while_no_mirror_was_up_is_caught_up_with(prefect: Prefect) -> None:
    with mirroring():
        killed, _ = at_work(prefect)
        failed = a_failed_job(prefect)
        eventually(lambda: table.followed_until() is not None, within=15, what="the mirror's place")
    prefect.put(run_of(killed), StateType.CRASHED, message="killed")
    retry_in_prefect(prefect, run_of(failed))
    with mirroring():
        becomes(killed.id, Status.QUEUED, attempt=2, within=15)
        becomes(failed.id, Status.QUEUED, attempt=2, within=30)


# --- things that are away -------------------------------------------------------------------------


def test_a_deployment_that_is_gone_is_named_and_the_job_goes_on_when_it_is_back(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    mirrored.undeploy(mirrored.deploy("fetch", "default"))
    id = table.new_id()
    table.insert(LINK, id=id)
    says(id, "Prefect knows no deployment fetch/default", within=10)
    mirrored.deploy("fetch", "default")
    job = eventually(lambda: now(id) if now(id).run_id else None, within=10, what="a run for the job")
    says(id, "Waiting for its turn", within=10)
    assert mirrored.state(run_of(job)) is StateType.SCHEDULED


def test_a_deployment_that_stays_away_ends_the_job_with_that_sentence(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    monkeypatch.setattr(mirror, "GONE", timedelta(seconds=1))
    job = a_job()
    prefect.undeploy(prefect.deploy("fetch", "default"))  # and its scheduled runs with it
    with mirroring():
        ended = becomes(job.id, Status.ERROR, attempt=2, within=30)
    assert "fetch/default" in (ended.error_message or "")
    assert ended.error_kind == "passing"
    assert "prefect deploy --all" in (ended.error_advice or "")


def test_a_row_that_prefect_refuses_does_not_keep_the_others_from_their_runs(
    mirrored: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SETTLING", timedelta(seconds=0))
    mirrored.deploy("fetch", "default", type="object", properties={"job": {"type": "string", "pattern": "^ok"}})
    refused, taken = table.new_id(), f"ok-{table.new_id()}"
    for id in (refused, taken):
        table.insert(LINK, id=id)
    eventually(lambda: now(taken).run_id, within=10, what="a run for the other job")
    assert now(refused).run_id is None


def test_while_prefect_is_away_rows_stay_as_they_are_and_health_says_so(prefect: Prefect) -> None:
    client = TestClient(create_app(configuration.settings()))
    well = client.get("/health")
    assert (well.status_code, well.json()["status"], well.json()["engine"]["connected"]) == (200, "ok", True)
    job, run = at_work(prefect)
    with mirroring():
        prefect.kill()
        try:
            began = time.monotonic()
            ill = client.get("/health")
            assert time.monotonic() - began < 1.0
            assert ill.status_code == 200, "jobs are still accepted"
            assert (ill.json()["status"], ill.json()["engine"]["status"]) == ("degraded", "disconnected")
            assert ill.json()["database"]["connected"]
            run.report(Stage.DOWNLOAD, 1.0, "Downloaded")
            before = now(job.id)
            threading.Event().wait(2 * mirror.PAUSE)  # in which the mirror looks
            assert now(job.id) == before
        finally:
            prefect.start()
        prefect.put(run_of(job), StateType.CRASHED, message="killed")
        becomes(job.id, Status.QUEUED, attempt=2, within=15)


@contextmanager
def a_mirror_process(prefect: Prefect) -> Generator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "DATABASE_URL": db.url(), "PREFECT_API_URL": prefect.api}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.jobs.mirror"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def leader() -> int | None:
    """The database's process that holds the leader's lock."""
    with db.connection() as connection:
        row = connection.execute(
            "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database "
            "WHERE locktype = 'advisory' AND objid = %s AND granted AND datname = current_database()",
            (mirror.LEADER,),
        ).fetchone()
    return row["pid"] if row else None


def test_another_mirror_takes_over_within_seconds_of_the_leaders_death(prefect: Prefect) -> None:
    with a_mirror_process(prefect) as first:
        before = eventually(leader, within=20, what="a leader")
        with a_mirror_process(prefect):
            job, _ = at_work(prefect)
            first.kill()
            eventually(lambda: leader() not in (None, before), within=10, what="another leader")
            prefect.put(run_of(job), StateType.CRASHED, message="killed")
            becomes(job.id, Status.QUEUED, attempt=2)


def test_a_mirror_ends_when_it_is_asked_to(prefect: Prefect) -> None:
    with a_mirror_process(prefect) as process:
        eventually(leader, within=20, what="a leader")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert leader() is None


def test_a_thousand_jobs_that_wait_in_prefects_queue_cost_a_round_little(prefect: Prefect) -> None:
    rows = [(table.new_id(), LINK.link, table.new_id()) for _ in range(1000)]
    with db.connection() as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO jobs (id, youtube_url, run_id) VALUES (%s, %s, %s)", rows)
    sight = mirror.Sight(rows=datetime.now(UTC), engine=datetime.now(UTC))
    asked: list[httpx.Request] = []
    engine.client().event_hooks["request"].append(asked.append)
    began = time.process_time()
    assert not mirror.look(set(), sight, everything=True, queued=False)
    assert time.process_time() - began < 0.5, "with a thousand real runs 0.03 s here and 0.05 s in the server"
    assert 0 < len(asked) <= 10, "hundreds of runs are asked for at a time"
    assert {job.attempt for job in table.open_jobs()} == {1}
