"""The jobs table under competing runs, users and mirrors: what may happen to a row, and what never does."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from infra import database as db
from infra.errors import DatabaseAway, DownloadFailed, TakenOver, TooLong, UserError
from infra.jobs import admission, table
from infra.jobs import run as runs
from infra.jobs.job import Job
from infra.jobs.migrate import migrate
from infra.jobs.request import Preset, Provider
from infra.jobs.run import LOG_LIMIT, Run
from infra.jobs.stages import SHARES, Stage, percent
from infra.jobs.states import ENDED, MAX_LOST_RUNS, OPEN, Status, may_move
from infra.stack.postgres import Postgres
from tests.running import eventually
from tests.stack.rows import LINK, complete, job_of, new_job, pointed_at, row_of, sql

MOST_STEPS = 2 * LOG_LIMIT


# --- the state machine, walked at random --------------------------------------------------------

NAMES = ("run-a", "run-b", "run-c")
MESSAGES = ("One", "Two")
FAILURES: tuple[UserError, ...] = (TooLong(length="1 h", limit="15 min"), DownloadFailed(reason="it broke off."))


class OneJob(RuleBasedStateMachine):
    """One job, three runs that compete for it, a user and a mirror; beside it the little that must be true of it."""

    held = Bundle("held")  # what runs hold: Run objects, of this and of earlier attempts
    seen = Bundle("seen")  # what mirrors have read: Job objects, fresh and stale

    def __init__(self) -> None:
        super().__init__()
        self.id = new_job()
        self.status = Status.QUEUED
        self.attempt = 1
        self.owner: str | None = None
        self.racers: frozenset[str] = frozenset()
        self.provider: Provider | None = None
        self.calls: dict[str, str] = {}
        self.pct = 0
        self.losses = 0  # with blame, since the user's last word
        self.ended_by: tuple[str, str, int, str] | None = None  # what, run, attempt, message
        self.retried = False
        self.row = row_of(self.id)

    def named(self, name: str) -> str:
        """A run's id is its own among all jobs."""
        return f"{name}-{self.id}"

    def is_open(self, attempt: int) -> bool:
        return self.status in OPEN and attempt == self.attempt

    def leads(self, run: Run) -> bool:
        return self.is_open(run.job.attempt) and run.id == self.owner

    def owns(self, run: Run) -> bool:
        return self.leads(run) or (self.is_open(run.job.attempt) and run.id in self.racers)

    def changes_nothing(self, call: Callable[[], object], *, refused: bool = True) -> None:
        if refused:
            with pytest.raises(TakenOver):
                call()
        else:
            call()
        assert row_of(self.id) == self.row

    def next_attempt(self) -> None:
        self.status, self.owner, self.pct = Status.QUEUED, None, 0
        self.racers, self.provider = frozenset(), None
        self.attempt += 1
        self.ended_by = None

    def drop_out(self, name: str) -> None:
        self.racers -= {name}
        if self.owner == name:
            (self.owner,) = {row_of(self.id)["run_id"]} & self.racers
            self.provider = row_of(self.id)["provider"]

    # --- runs

    @rule(
        target=held,
        name=st.sampled_from(NAMES),
        attempt=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
        racing=st.booleans(),
    )
    def claim(self, name: str, attempt: int, racing: bool) -> Any:
        name = self.named(name)
        if self.status in OPEN and (attempt == 0 or name == self.owner):
            run = Run.claim(self.id, self.attempt + attempt, name, racing=racing)
            assert run.job.attempt == self.attempt
            self.status = Status.PROCESSING
            if not (racing and self.owner in self.racers):
                self.owner = name
            if name not in self.racers:
                self.racers = self.racers | {name} if racing else frozenset()
            return run
        self.changes_nothing(lambda: Run.claim(self.id, self.attempt + attempt, name, racing=racing))
        return multiple()

    @rule(run=held, provider=st.sampled_from(Provider))
    def begin(self, run: Run, provider: Provider) -> None:
        if self.leads(run) or (self.owns(run) and self.provider is None):
            run.began(provider, 200.0)
            self.owner, self.provider = run.id, provider
        else:
            self.changes_nothing(lambda: run.began(provider, 200.0), refused=False)

    @rule(run=held, provider=st.sampled_from(Provider), call=st.none() | st.sampled_from(["call-1", "call-2"]))
    def remember(self, run: Run, provider: Provider, call: str | None) -> None:
        if not self.owns(run):
            self.changes_nothing(lambda: run.remember(provider, call))
            return
        run.remember(provider, call)
        self.calls = {name: known for name, known in self.calls.items() if name != provider}
        self.calls |= {provider.value: call} if call else {}
        assert run.job.calls.get(provider) == call

    @rule(
        run=held,
        stage=st.sampled_from(Stage),
        share=st.floats(-0.5, 1.5) | st.just(float("nan")),
        message=st.text(max_size=8),
    )
    def report(self, run: Run, stage: Stage, share: float, message: str) -> None:
        if not self.owns(run):
            self.changes_nothing(lambda: run.report(stage, share, message))
            return
        if not self.leads(run):
            self.changes_nothing(lambda: run.report(stage, share, message), refused=False)
            return
        run.report(stage, share, message)
        self.pct = max(self.pct, percent(stage, share))
        assert row_of(self.id)["current_stage"] == stage.value

    @rule(run=held, title=st.none() | st.text(max_size=8), duration=st.none() | st.floats(0, 900))
    def learn(self, run: Run, title: str | None, duration: float | None) -> None:
        if not self.owns(run):
            self.changes_nothing(lambda: run.learn(title=title, duration=duration))
            return
        run.learn(title=title, duration=duration, video_id="dQw4w9WgXcQ")
        row = row_of(self.id)
        assert (row["title"] is None) == (title is None and self.row["title"] is None)
        assert row["duration"] == (round(duration) if duration else self.row["duration"])

    @rule(run=held, to=st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    def hand_over(self, run: Run, to: list[str]) -> None:
        to = [self.named(name) for name in to]
        race = len(to) > 1
        if not self.leads(run) and not (race and self.is_open(run.job.attempt) and self.owner in to):
            self.changes_nothing(lambda: run.hand_over(to), refused=False)  # the next run has it already
            return
        if self.leads(run):
            self.owner = to[0]
        run.hand_over(to)
        self.racers = self.racers | set(to) if race else frozenset()

    @rule(run=held, message=st.sampled_from(MESSAGES), now=st.sampled_from([True, False, False, False]))
    def complete(self, run: Run, message: str, now: bool) -> None:
        if self.owns(run) and not now:
            return  # nothing follows a completion; most walks should go further first
        self.end(Status.COMPLETED, run, message, lambda: complete(run, message))
        if self.status is Status.COMPLETED and self.ended_by and run.id == self.ended_by[1]:
            self.owner, self.pct = run.id, 100
            self.provider = row_of(self.id)["provider"]

    @rule(run=held, error=st.sampled_from(FAILURES))
    def fail(self, run: Run, error: UserError) -> None:
        if self.owns(run) and self.racers > {run.id}:
            run.fail(error)
            self.drop_out(run.id)
            return
        self.end(Status.ERROR, run, str(error), lambda: run.fail(error))

    def end(self, status: Status, run: Run, message: str, call: Callable[[], None]) -> None:
        ending = (status.value, run.id, run.job.attempt, message)
        if not self.owns(run):
            self.changes_nothing(call, refused=ending != self.ended_by)
            return
        call()
        self.status, self.ended_by = status, ending

    # --- the user

    @rule()
    def cancel(self) -> None:
        if self.status in ENDED:
            assert table.cancel(self.id) is None
            return
        assert table.cancel(self.id) is not None
        self.status = Status.CANCELLED

    @rule()
    def retry(self) -> None:
        if self.status not in (Status.ERROR, Status.CANCELLED):
            assert admission.retry(self.id) is None
            return
        assert admission.retry(self.id) is not None
        self.next_attempt()
        self.losses, self.retried = 0, True

    @rule(name=st.sampled_from(NAMES))
    def retry_in_prefect(self, name: str) -> None:
        name = self.named(name)
        if self.status not in (Status.ERROR, Status.CANCELLED) or self.owner != name:
            assert table.retaken(name) is None
            return
        assert table.retaken(name) is not None
        self.next_attempt()
        self.owner, self.losses, self.retried = name, 0, True

    # --- the mirror

    @rule(target=seen)
    def look(self) -> Job:
        return job_of(self.id)

    @rule(job=seen, blame=st.booleans())
    def lose(self, job: Job, blame: bool) -> None:
        self.lose_what_was_seen(job, blame)

    @precondition(lambda self: self.status in OPEN)
    @rule()
    def crash(self) -> None:
        self.lose_what_was_seen(job_of(self.id), blame=True)

    def lose_what_was_seen(self, job: Job, blame: bool) -> None:
        if self.is_open(job.attempt) and job.run_id and {job.run_id} < self.racers:
            assert table.lost(job, "it crashed", blame=blame)
            self.drop_out(job.run_id)
            return
        is_so = self.is_open(job.attempt) and job.run_id == self.owner
        assert table.lost(job, "it crashed", blame=blame) == is_so
        if not is_so:
            assert row_of(self.id) == self.row
            return
        self.losses += blame
        if blame and self.losses == MAX_LOST_RUNS:
            self.status = Status.ERROR
        else:
            self.next_attempt()

    @rule(job=seen, name=st.sampled_from(NAMES))
    def assign(self, job: Job, name: str) -> None:
        name = self.named(name)
        free = self.status is Status.QUEUED and self.owner is None and job.attempt == self.attempt
        assert table.assign(self.id, job.attempt, name) == free
        if free:
            self.owner = name

    @rule(job=seen, message=st.sampled_from(MESSAGES))
    def note(self, job: Job, message: str) -> None:
        same = (job.run_id, job.attempt, job.status_message) == (self.owner, self.attempt, self.row["status_message"])
        table.note(job, message)
        if self.status in OPEN and same:
            assert row_of(self.id)["status_message"] == message
        else:
            assert row_of(self.id) == self.row

    # --- what is true after every one of these

    @invariant()
    def the_row_is_what_it_must_be(self) -> None:
        before, row = self.row, row_of(self.id)
        shown = ("status", "attempt", "run_id", "provider", "calls", "pct", "lost_runs")
        assert {name: row[name] for name in shown} == {
            "status": self.status.value,
            "attempt": self.attempt,
            "run_id": self.owner,
            "provider": self.provider,
            "calls": self.calls,
            "pct": self.pct,
            "lost_runs": self.losses,
        }
        assert sorted(row["racers"]) == sorted(self.racers)
        same_attempt = row["attempt"] == before["attempt"]
        assert may_move(Status(before["status"]), Status(row["status"]), attempts=self.attempt - before["attempt"]) or (
            row == before
        )
        if same_attempt:
            assert row["pct"] >= before["pct"]
        if before["status"] in ENDED:
            assert row == before or (self.retried and not same_attempt)
        assert row["progress_log"][: len(before["progress_log"])] == before["progress_log"]
        assert len(row["progress_log"]) <= MOST_STEPS
        assert row["lost_runs"] <= MAX_LOST_RUNS
        assert (row["completed_at"] is not None) == (self.status in ENDED)
        assert (row["error_message"] is not None) == (self.status is Status.ERROR)
        assert job_of(self.id).attempt == self.attempt
        self.row, self.retried = row, False


@pytest.mark.usefixtures("jobs")
def test_a_job_keeps_its_rules_whatever_runs_users_and_mirrors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PAUSE", 0.0)
    run_state_machine_as_test(
        OneJob,
        settings=settings(
            max_examples=110, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


# --- the same rules, in the database itself -----------------------------------------------------


def put(status: Status, **more: Any) -> str:
    """A row in this state, as if a run had brought it there."""
    id = table.new_id()
    ended = datetime.now(UTC) if status in ENDED else None
    sql(
        """INSERT INTO jobs (id, youtube_url, status, pct, run_id, completed_at, progress_log)
           VALUES (%(id)s, 'https://youtu.be/a', %(status)s, 40, 'run', %(ended)s, '[{"message": "a"}]')""",
        id=id,
        status=status.value,
        ended=ended,
    )
    return id


def is_refused(query: LiteralString, **parameters: Any) -> bool:
    try:
        sql(query, **parameters)
    except (psycopg.IntegrityError, psycopg.DataError):
        return True
    return False


@pytest.mark.usefixtures("jobs")
def test_the_database_allows_the_moves_that_states_allows_and_no_other() -> None:
    said, done = {}, {}
    for old, new, attempts in itertools.product(Status, Status, (0, 1, 2, -1)):
        case = (old.value, new.value, attempts)
        said[case] = may_move(old, new, attempts=attempts)
        done[case] = not is_refused(
            """UPDATE jobs SET status = %(new)s, attempt = attempt + %(attempts)s,
                 completed_at = CASE WHEN %(ended)s THEN now() END WHERE id = %(id)s""",
            new=new.value,
            attempts=attempts,
            ended=new in ENDED,
            id=put(old),
        )
    assert done == said


BREACHES: dict[LiteralString, tuple[Status, ...]] = {  # what is forbidden, and in which states
    "pct = 39": tuple(Status),
    "pct = 101": tuple(Status),
    "pct = -1, attempt = attempt + 1, status = 'queued'": (Status.QUEUED, Status.PROCESSING),
    "pct = NULL": tuple(Status),
    "progress_log = '[]'": tuple(Status),
    'progress_log = \'[{"message": "b"}]\'': tuple(Status),
    'progress_log = \'[{"message": "b"}]\' || progress_log': tuple(Status),
    "progress_log = '{}'": tuple(Status),
    "progress_log = NULL": tuple(Status),
    "progress_log = '[]', attempt = attempt + 1, status = 'queued'": (Status.QUEUED, Status.PROCESSING),
    "id = id || 'x'": tuple(Status),
    "status = 'done'": tuple(Status),
    "status = NULL": tuple(Status),
    "status = 'processing', run_id = NULL": tuple(Status),
    "racers = '{another,third}'": tuple(Status),
    "racers = '{run,another}', status = 'queued'": tuple(Status),
    "racers = '{run,another}'": tuple(ENDED),
    "calls = '[]'": tuple(Status),
    'calls = \'{"modal": "call"}\'': tuple(ENDED),
    "quality = 1.5": tuple(Status),
    "quality = 0.5, provider = 'modal', replaces = 'another'": tuple(ENDED),
    "status = 'completed', completed_at = NULL": tuple(Status),
    "completed_at = now()": tuple(Status),
    "title = 'Another'": tuple(ENDED),
    "results_url = 'https://elsewhere.example'": tuple(ENDED),
    "error_message = error_message": tuple(ENDED),
    "run_id = 'another'": tuple(ENDED),
    "attempt = attempt - 1": tuple(Status),
    "attempt = attempt + 1": (Status.PROCESSING, Status.COMPLETED, Status.ERROR, Status.CANCELLED),
}


@pytest.mark.usefixtures("jobs")
def test_the_database_refuses_every_breach_of_the_rules() -> None:
    accepted: list[str] = []
    for breach, states in BREACHES.items():
        for status in states:
            id = put(status)
            before = row_of(id)
            query: LiteralString = f"UPDATE jobs SET {breach} WHERE id = %(id)s"
            if not is_refused(query, id=id) or row_of(id) != before:
                accepted.append(f"{status}: {breach}")
    assert accepted == []


# --- runs ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("jobs")
def test_a_thousand_reports_leave_a_bounded_log_that_ends_with_the_end() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    stages = [stage for stage in Stage if stage is not Stage.DONE]
    for count in range(1000):
        run.report(stages[count % len(stages)], 0.5, f"Message {count}")
    row = row_of(id)
    assert row["status_message"] == "Message 999"
    assert len(row["progress_log"]) <= LOG_LIMIT + 2
    complete(run)
    log = job_of(id).progress_log
    assert len(log) <= LOG_LIMIT + 4
    assert log[-1]["stage"] == Stage.DONE.value
    assert log[-1]["status"] == "completed"


@pytest.mark.usefixtures("jobs")
def test_a_log_that_is_full_still_takes_what_ends_an_attempt() -> None:
    id = new_job()
    full = [{"message": str(count)} for count in range(LOG_LIMIT)]
    sql("UPDATE jobs SET progress_log = progress_log || %(full)s WHERE id = %(id)s", full=db.as_jsonb(full), id=id)
    for attempt in itertools.count(1):
        run = Run.claim(id, attempt, f"run-{attempt}")
        run.report(Stage.DOWNLOAD, 0.0, "Downloading")
        assert table.lost(job_of(id), "it crashed")
        if job_of(id).ended:
            break
    job = job_of(id)
    assert (job.status, job.attempt, job.lost_runs) == (Status.ERROR, MAX_LOST_RUNS, MAX_LOST_RUNS)
    assert len(job.progress_log) == 1 + LOG_LIMIT + MAX_LOST_RUNS
    assert job.progress_log[-1]["message"] == job.error_message


@pytest.mark.usefixtures("jobs")
def test_reports_within_a_stage_are_written_at_most_four_times_a_second() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    run.report(Stage.TRANSCRIBE, 0.0, "begin")
    before = row_of(id)
    began = time.monotonic()
    run.report(Stage.TRANSCRIBE, 0.5, "between")
    if time.monotonic() - began < runs.PAUSE / 2:
        assert row_of(id) == before
    run.report(Stage.TRANSCRIBE, 1.0, "end")
    row = row_of(id)
    assert (row["status_message"], row["pct"]) == ("end", SHARES[Stage.TRANSCRIBE][1])


@pytest.mark.usefixtures("jobs")
def test_completing_again_after_the_commit_is_harmless() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    complete(run)
    before = row_of(id)
    complete(run)
    assert row_of(id) == before
    assert before["status"] == "completed"
    assert before["files"] == {"json": "/files/r.json", "srt": "/files/r.srt"}
    assert (before["srt_url"], before["duration"], before["pct"]) == ("/files/r.srt", 201, 100)


@pytest.mark.usefixtures("jobs")
def test_failing_again_after_the_commit_is_harmless() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    run.fail(FAILURES[0])
    before = row_of(id)
    run.fail(FAILURES[0])
    assert row_of(id) == before
    assert (before["error_message"], before["error_kind"]) == (str(FAILURES[0]), "permanent")


@pytest.mark.usefixtures("jobs")
def test_a_run_whose_job_was_cancelled_is_told_when_it_ends() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    assert table.cancel(id)
    before = row_of(id)
    for end in (lambda: complete(run), lambda: run.fail(FAILURES[0])):
        with pytest.raises(TakenOver):
            end()
    assert row_of(id) == before


@pytest.mark.usefixtures("jobs")
def test_of_many_who_end_a_job_at_once_one_wins() -> None:
    for _ in range(10):
        id = new_job()
        run = Run.claim(id, 1, "run")
        endings = [
            partial(complete, run),
            partial(run.fail, FAILURES[0]),
            partial(run.fail, FAILURES[1]),
            partial(table.cancel, id),
        ]
        start = threading.Barrier(len(endings))

        def race(end: partial[Job | None], start: threading.Barrier = start) -> bool:
            start.wait(10)
            try:
                return end() is not None or end.func != table.cancel
            except TakenOver:
                return False

        with ThreadPoolExecutor(len(endings)) as threads:
            won = list(threads.map(race, endings))
        assert sum(won) == 1
        assert job_of(id).ended


@pytest.mark.usefixtures("jobs")
def test_of_many_runs_that_claim_at_once_the_last_holds_the_row_alone() -> None:
    id = new_job()
    with ThreadPoolExecutor(6) as threads:
        claimed = list(threads.map(lambda number: Run.claim(id, 1, f"run-{number}"), range(6)))
    owner = row_of(id)["run_id"]
    for run in claimed:
        if run.id != owner:
            with pytest.raises(TakenOver):
                run.report(Stage.CACHE, 0.0, "Looking")
    next(run for run in claimed if run.id == owner).report(Stage.CACHE, 0.0, "Looking")


@pytest.mark.usefixtures("jobs")
def test_a_mirror_that_looked_before_the_row_changed_hands_takes_it_from_nobody() -> None:
    id = new_job()
    looks = [job_of(id)]
    assert table.assign(id, 1, "run-a")
    looks.append(job_of(id))
    run = Run.claim(id, 1, "run-b")
    before = row_of(id)
    for stale in looks:
        assert not table.lost(stale, "it crashed")
        table.note(stale, "Waiting for a free worker")
    assert row_of(id) == before
    run.report(Stage.CACHE, 0.0, "Looking")


NASTY = "a\x00b\ud800c"


@pytest.mark.usefixtures("jobs")
def test_text_that_postgresql_cannot_hold_costs_no_job() -> None:
    id = new_job(title=NASTY)
    run = Run.claim(id, 1, "run")
    run.report(Stage.DOWNLOAD, 0.0, NASTY)
    run.learn(title=NASTY, artist=NASTY)
    run.fail(DownloadFailed(reason=NASTY))
    job = job_of(id)
    assert job.status is Status.ERROR
    assert job.title == "a\ufffdb\ufffdc"
    assert table.get(NASTY) is None
    assert table.cancel(NASTY) is None
    assert table.recent(after=NASTY) == []


# --- asking -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("jobs")
def test_listing_pages_through_all_jobs_newest_first() -> None:
    ids = [new_job() for _ in range(23)]
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for place, id in enumerate(ids):  # many share a time to the microsecond
        sql("UPDATE jobs SET created_at = %(at)s WHERE id = %(id)s", at=noon + timedelta(seconds=place // 6), id=id)
    for id in ids[::3]:
        assert table.cancel(id)

    def pages(**asked: Any) -> list[Job]:
        found: list[Job] = []
        while page := table.recent(limit=4, after=found[-1].id if found else None, **asked):
            assert len(page) <= 4
            found += page
        return found

    everything = pages()
    assert sorted(job.id for job in everything) == sorted(ids)
    keys = [(job.created_at, job.id) for job in everything]
    assert keys == sorted(keys, reverse=True)
    assert {job.id for job in pages(status=Status.CANCELLED)} == set(ids[::3])
    assert {job.id for job in pages(status=Status.QUEUED)} == set(ids) - set(ids[::3])
    assert table.recent(after="unknown") == []
    assert table.count() == {"cancelled": 8, "queued": 15}


@pytest.mark.usefixtures("jobs")
def test_an_id_is_taken_once() -> None:
    id = new_job()
    assert not table.insert(LINK, id=id)
    assert table.get("unknown") is None


@pytest.mark.usefixtures("jobs")
def test_a_job_keeps_what_was_asked() -> None:
    asked = LINK.but(language="es", preset=Preset.HIGH, model="small")
    id = table.new_id()
    assert table.insert(asked, id=id)
    assert job_of(id).request == asked


@pytest.mark.usefixtures("jobs")
def test_a_finished_job_is_found_by_its_fingerprint() -> None:
    id, other = new_job(), new_job()
    run = Run.claim(id, 1, "run")
    run.learn(fingerprint="f" * 64)
    assert table.finished_like("f" * 64, other) is None
    complete(run)
    found = table.finished_like("f" * 64, other)
    assert found is not None
    assert found.id == id
    assert table.finished_like("f" * 64, id) is None


# --- a database that goes away ------------------------------------------------------------------


@pytest.fixture
def own_cluster() -> Generator[Callable[[], subprocess.Popen[bytes]]]:
    """A PostgreSQL of this test alone: call it to start the server, kill what it gave."""
    with tempfile.TemporaryDirectory(prefix="ytl-", ignore_cleanup_errors=True) as folder:
        postgres = Postgres(Path(folder) / "pg")
        postgres.initialise()
        started: list[subprocess.Popen[bytes]] = []

        def start() -> subprocess.Popen[bytes]:
            def up() -> bool:
                # The killed server's children may hold its memory for a moment, and the next one then gives up.
                if not started or started[-1].poll() is not None:
                    quiet = subprocess.DEVNULL
                    started.append(subprocess.Popen(postgres.command(), stdout=quiet, stderr=quiet))
                return postgres.ready()

            eventually(up, what="PostgreSQL")
            return started[-1]

        start.postgres = postgres  # type: ignore[attr-defined]
        yield start
        for process in started:
            process.kill()
            process.wait(10)


def test_a_database_that_is_away_is_told_and_waited_for(
    own_cluster: Callable[[], subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "PATIENCE", 2.0)
    server = own_cluster()
    postgres: Postgres = own_cluster.postgres  # type: ignore[attr-defined]
    postgres.make_databases("lyrics")
    migrate(postgres.url("lyrics"))
    with pointed_at(postgres.url("lyrics")), ThreadPoolExecutor(1) as threads:
        id = new_job()
        run = Run.claim(id, 1, "run")
        run.report(Stage.DOWNLOAD, 0.0, "Downloading")
        server.kill()
        server.wait(10)
        eventually(lambda: not db.alive(), what="the end of its children")  # they live on until they notice

        began = time.monotonic()
        with pytest.raises(DatabaseAway):
            table.get(id)
        assert time.monotonic() - began < db.PATIENCE + 2
        run.report(Stage.DOWNLOAD, 1.0, "nobody will read this")  # costs the message, not the song
        assert not db.alive()
        end = threads.submit(complete, run)

        own_cluster()
        returned = time.monotonic()
        end.result(timeout=60)
        assert time.monotonic() - returned < db.PATIENCE + 2
        # However long it was away: psycopg_pool doubles its pauses between two tries until this, 300 s by default.
        assert db.pool().reconnect_timeout <= db.PATIENCE
        row = row_of(id)
        assert (row["status"], row["status_message"]) == ("completed", "Done")
