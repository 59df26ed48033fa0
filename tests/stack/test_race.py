"""Two runs race for one row, remote calls outlive their run, and the history tells who is quick."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import database as db
from infra.errors import DownloadFailed, TakenOver
from infra.jobs import admission, pulse, table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION, Provider, Queue
from infra.jobs.routing import Record, records
from infra.jobs.run import Run
from infra.jobs.stages import Stage
from infra.jobs.states import MAX_LOST_RUNS, Outcome, Status
from tests.running import eventually
from tests.stack.rows import LINK, job_of, new_job, row_of, sql

pytestmark = pytest.mark.usefixtures("jobs")

ROUNDS = 25  # of what only happens when two things meet


def a_race(*racers: str) -> tuple[str, list[Run]]:
    """A job that was fetched and handed over to these runs, which have claimed it."""
    id = new_job()
    Run.claim(id, 1, "fetch").hand_over(racers)
    return id, [Run.claim(id, 1, racer, racing=True) for racer in racers]


def finish(run: Run) -> None:
    run.complete(
        results_url=f"/files/{run.id}.json",
        files={"json": f"/files/{run.id}.json"},
        message="Done",
        quality=0.75,
        pipeline=PIPELINE_VERSION,
    )


def at_once(calls: Sequence[Callable[[], object]]) -> list[bool]:
    """Whether each of the calls was accepted; they begin together."""
    start = threading.Barrier(len(calls))

    def call(one: Callable[[], object]) -> bool:
        start.wait(10)
        try:
            one()
        except TakenOver:
            return False
        return True

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(call, calls))


# --- who wins -----------------------------------------------------------------------------------


def test_of_two_racers_that_finish_at_once_one_wins_and_its_result_stands() -> None:
    for _ in range(ROUNDS):
        id, racers = a_race("one", "other")
        won = at_once([partial(finish, run) for run in racers])
        assert sorted(won) == [False, True]
        winner = racers[won.index(True)].id
        row = row_of(id)
        assert (row["status"], row["run_id"]) == ("completed", winner)
        assert row["results_url"] == f"/files/{winner}.json"
        assert row["files"] == {"json": f"/files/{winner}.json"}
        assert (row["quality"], row["pipeline"]) == (0.75, PIPELINE_VERSION)
        assert [step["stage"] for step in row["progress_log"] if step["status"] == "completed"] == ["done"]


def test_a_racer_may_say_twice_that_it_won_but_the_beaten_one_never() -> None:
    id, (one, other) = a_race("one", "other")
    finish(other)
    before = row_of(id)
    finish(other)
    with pytest.raises(TakenOver):
        finish(one)
    with pytest.raises(TakenOver):
        one.fail(DownloadFailed(reason="it was too slow"))
    assert row_of(id) == before


def test_a_racer_that_fails_leaves_the_song_to_the_other() -> None:
    for loser, winner in ((0, 1), (1, 0)):
        id, racers = a_race("one", "other")
        racers[loser].fail(DownloadFailed(reason="the card is full"))
        row = row_of(id)
        assert (row["status"], row["run_id"], row["racers"]) == ("processing", racers[winner].id, [racers[winner].id])
        assert "the card is full" in row["progress_log"][-1]["message"]
        with pytest.raises(TakenOver):
            racers[loser].report(Stage.TRANSCRIBE, 0.5, "Still here")
        finish(racers[winner])
        assert job_of(id).status is Status.COMPLETED


def test_when_both_racers_fail_the_job_ends_with_the_last_ones_sentence() -> None:
    id, (one, other) = a_race("one", "other")
    other.fail(DownloadFailed(reason="the first reason"))
    one.fail(DownloadFailed(reason="the last reason"))
    job = job_of(id)
    assert (job.status, job.attempt) == (Status.ERROR, 1)
    assert "the last reason" in (job.error_message or "")


def test_when_both_racers_fail_at_once_the_job_ends_once() -> None:
    for _ in range(ROUNDS):
        id, racers = a_race("one", "other")
        assert at_once([partial(run.fail, DownloadFailed(reason=run.id)) for run in racers]) == [True, True]
        job = job_of(id)
        assert job.status is Status.ERROR
        assert job.racers == (job.run_id,)
        assert [step["status"] for step in job.progress_log if step["status"] == "error"] == ["error"]


def test_one_racer_fails_while_the_other_finishes_and_the_job_is_completed() -> None:
    for _ in range(ROUNDS):
        id, (one, other) = a_race("one", "other")
        at_once([partial(one.fail, DownloadFailed(reason="it broke")), partial(finish, other)])
        assert (job_of(id).status, job_of(id).run_id) == (Status.COMPLETED, "other")


def test_the_user_who_cancels_a_race_beats_both() -> None:
    id, racers = a_race("one", "other")
    assert table.cancel(id)
    for run in racers:
        with pytest.raises(TakenOver):
            finish(run)
    assert sorted(table.superfluous()) == [(id, "one"), (id, "other")]


# --- the hand-over, in every order ---------------------------------------------------------------


@given(st.permutations(["hand over", "one claims", "other claims", "hand over again"]), st.booleans())
@settings(max_examples=48, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_in_which_racers_claim_and_the_row_is_handed_over_does_not_matter(
    order: list[str], one_wins: bool
) -> None:
    id = new_job()
    fetch = Run.claim(id, 1, "fetch")
    held: dict[str, Run] = {}
    for step in order:
        match step.split():
            case ["hand", *_]:
                fetch.hand_over(["one", "other"])
            case [name, *_]:
                held[name] = Run.claim(id, 1, name, racing=True)
    row = row_of(id)
    assert sorted(row["racers"]) == ["one", "other"]
    assert row["run_id"] in row["racers"]
    with pytest.raises(TakenOver):
        fetch.report(Stage.HANDOVER, 1.0, "Handed over")
    finish(held["one" if one_wins else "other"])
    with pytest.raises(TakenOver):
        finish(held["other" if one_wins else "one"])


def test_claims_and_the_hand_over_at_once_leave_both_racers_in_the_race() -> None:
    for _ in range(ROUNDS):
        id = new_job()
        fetch = Run.claim(id, 1, "fetch")
        claims = [partial(Run.claim, id, 1, racer, racing=True) for racer in ("one", "other")]
        assert at_once([*claims, partial(fetch.hand_over, ["one", "other"])]) == [True] * 3
        assert sorted(job_of(id).racers) == ["one", "other"]


def test_a_racer_that_joined_by_itself_still_races_after_the_hand_over() -> None:
    id = new_job()
    fetch = Run.claim(id, 1, "fetch")
    Run.claim(id, 1, "one", racing=True)
    third = Run.claim(id, 1, "third", racing=True)
    fetch.hand_over(["one", "other"])
    assert sorted(job_of(id).racers) == ["one", "other", "third"]
    finish(third)


def test_a_single_heir_that_was_to_race_has_the_row_alone() -> None:
    for claims_first in (True, False):
        id = new_job()
        fetch = Run.claim(id, 1, "fetch")
        early = [Run.claim(id, 1, "one", racing=True)] if claims_first else []
        fetch.hand_over(["one"])
        (one,) = early or [Run.claim(id, 1, "one", racing=True)]
        assert (job_of(id).run_id, job_of(id).racers) == ("one", ("one",))
        finish(one)


def test_a_run_that_does_not_race_ends_the_race() -> None:
    id, racers = a_race("one", "other")
    newest = Run.claim(id, 1, "newest")
    assert job_of(id).racers == ()
    for run in racers:
        with pytest.raises(TakenOver):
            finish(run)
    finish(newest)


# --- who is shown, and whose pulse counts ---------------------------------------------------------


def test_the_racer_that_begins_first_is_shown_and_the_other_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.jobs.run.PAUSE", 0.0)
    id, (one, other) = a_race("one", "other")
    other.began(Provider.MODAL, 180.0)
    one.began(Provider.CUDA, 180.0)
    other.report(Stage.TRANSCRIBE, 0.5, "Modal hears it")
    before = row_of(id)
    one.report(Stage.DECODE, 0.5, "Decoding here")
    one.report(Stage.SEPARATE, 1.0, "Separating here")
    assert row_of(id) == before
    assert (before["run_id"], before["provider"], before["status_message"]) == ("other", "modal", "Modal hears it")
    finish(one)
    assert (row_of(id)["run_id"], row_of(id)["provider"]) == ("one", "cuda")


def test_the_rivals_pulse_does_not_hide_that_the_leader_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "HEARTBEAT", 0.01)
    beats: list[str] = []
    id, (one, other) = a_race("one", "other")
    before = row_of(id)

    def beat(query: str, parameters: dict[str, Any], execute: Callable[..., int] = table.execute) -> int:
        beats.append(parameters["run"])
        return execute(query, parameters)

    monkeypatch.setattr(table, "execute", beat)
    with other.heartbeat():
        eventually(lambda: beats.count("other") > 2, what="the rival's pulse")
    assert row_of(id) == before
    with one.heartbeat():
        eventually(lambda: beats.count("one") > 2, what="the leader's pulse")
    assert row_of(id)["updated_at"] > before["updated_at"]


def test_a_leader_that_died_leaves_the_row_to_its_rival_within_the_attempt() -> None:
    id, (one, other) = a_race("one", "other")
    one.began(Provider.CUDA, 180.0)
    other.began(Provider.MODAL, 180.0)
    assert table.lost(job_of(id), "it crashed")
    job = job_of(id)
    assert (job.status, job.attempt, job.lost_runs) == (Status.PROCESSING, 1, 0)
    assert (job.run_id, job.racers, job.provider) == ("other", ("other",), Provider.MODAL)
    with pytest.raises(TakenOver):
        one.report(Stage.TRANSCRIBE, 0.5, "A ghost")
    other.report(Stage.TRANSCRIBE, 0.5, "Modal goes on")
    assert job_of(id).status_message == "Modal goes on"

    assert table.lost(job_of(id), "it crashed, too")
    job = job_of(id)
    assert (job.status, job.attempt, job.lost_runs) == (Status.QUEUED, 2, 1)
    assert (job.run_id, job.racers, job.provider) == (None, (), None)


def test_a_rival_that_joins_while_the_leader_is_found_dead_keeps_its_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    id = new_job()
    Run.claim(id, 1, "one", racing=True)
    dead = job_of(id)
    joined: list[Run] = []

    def nobody_yet(fence: object, reason: str) -> bool:
        joined.append(Run.claim(id, 1, "other", racing=True))
        return False

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(table, "drop_out", nobody_yet)
        assert not table.lost(dead, "it crashed")
    assert (job_of(id).status, job_of(id).attempt) == (Status.PROCESSING, 1)
    assert table.lost(dead, "it crashed")  # the mirror's next look
    finish(joined[0])


def test_races_whose_racers_all_die_end_the_job_after_the_third() -> None:
    id = new_job()
    for attempt in itertools.count(1):
        names = [f"one-{attempt}", f"other-{attempt}"]
        Run.claim(id, attempt, f"fetch-{attempt}").hand_over(names)
        for name in names:
            Run.claim(id, attempt, name, racing=True)
        assert table.lost(job_of(id), "it crashed")
        assert table.lost(job_of(id), "it crashed")
        if job_of(id).ended:
            break
    assert (job_of(id).status, job_of(id).attempt) == (Status.ERROR, MAX_LOST_RUNS)


def test_both_racers_tell_what_they_learn() -> None:
    id, (one, other) = a_race("one", "other")
    other.learn(title="Harbor Light")
    one.learn(artist="Nobody")
    assert (job_of(id).title, job_of(id).artist) == ("Harbor Light", "Nobody")


# --- remote calls ---------------------------------------------------------------------------------


def test_a_remote_call_is_remembered_for_the_next_attempt_until_it_is_forgotten() -> None:
    id = new_job()
    run = Run.claim(id, 1, "first")
    run.remember(Provider.MODAL, "fc-1")
    run.remember(Provider.RUNPOD, "job-1")
    assert run.job.calls == {"modal": "fc-1", "runpod": "job-1"}
    assert table.lost(job_of(id), "it crashed")
    again = Run.claim(id, 2, "second")
    assert again.job.calls.get(Provider.MODAL) == "fc-1"
    again.remember(Provider.MODAL, None)
    assert again.job.calls == job_of(id).calls == {"runpod": "job-1"}


def test_racers_that_remember_their_calls_at_once_keep_both() -> None:
    for _ in range(ROUNDS):
        id, (one, other) = a_race("one", "other")
        at_once([partial(one.remember, Provider.MODAL, "a"), partial(other.remember, Provider.RUNPOD, "b")])
        assert job_of(id).calls == {"modal": "a", "runpod": "b"}


def test_a_result_is_wanted_by_an_open_job_whatever_its_attempt_and_by_no_ended_one() -> None:
    id = new_job()
    run = Run.claim(id, 1, "first")
    assert run.wanted()
    assert table.lost(job_of(id), "its service was stopped", blame=False)
    assert run.wanted()
    assert table.cancel(id)
    assert not run.wanted()


# --- a run that lives again -----------------------------------------------------------------------


def test_a_run_that_is_retried_in_prefect_brings_its_job_back() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    run.fail(DownloadFailed(reason="it broke off"))
    job = table.retaken("run")
    assert job is not None
    assert (job.id, job.status, job.attempt, job.run_id, job.error_message) == (id, Status.QUEUED, 2, "run", None)
    assert table.retaken("run") is None
    again = Run.claim(id, 1, "run")  # its parameters still say the first attempt
    assert again.job.attempt == 2
    with pytest.raises(TakenOver):
        run.report(Stage.DOWNLOAD, 0.5, "From the first time")
    finish(again)
    assert table.retaken("run") is None
    assert table.retaken("unknown") is None


# --- who is superfluous ---------------------------------------------------------------------------


def test_the_beaten_racer_is_superfluous_until_it_has_ended() -> None:
    id, (one, other) = a_race("one", "other")
    assert table.superfluous() == []
    finish(other)
    assert table.superfluous() == [(id, "one")]
    one.began(Provider.CUDA, 180.0)
    one.ended(Outcome.BEATEN, 4.0, 0.0)
    assert table.superfluous() == []


def test_a_run_that_has_not_begun_when_its_rival_wins_is_superfluous() -> None:
    id = new_job()
    Run.claim(id, 1, "fetch").hand_over(["one", "other"])
    table.enqueue_runs(id, 1, {"one": Provider.CUDA, "other": Provider.MODAL}, 180.0)
    finish(Run.claim(id, 1, "one", racing=True))
    assert table.superfluous() == [(id, "other")]
    assert table.close_run("other", Outcome.CANCELLED)
    assert not table.close_run("other", Outcome.CRASHED)
    assert table.superfluous() == []


def test_the_run_of_a_cancelled_job_is_superfluous_and_so_is_one_of_an_attempt_that_is_over() -> None:
    cancelled = new_job(run="waits")
    assert table.cancel(cancelled)
    tried_again = new_job()
    Run.claim(tried_again, 1, "first").began(Provider.CUDA, 180.0)
    assert table.cancel(tried_again)
    assert admission.retry(tried_again)
    Run.claim(tried_again, 2, "second").began(Provider.CUDA, 180.0)
    assert sorted(table.superfluous()) == sorted([(cancelled, "waits"), (tried_again, "first")])


def test_what_ended_long_ago_is_not_asked_about_for_ever() -> None:
    id, racers = a_race("one", "other")
    finish(racers[0])
    hours_ago = datetime.now(UTC) - timedelta(hours=2)
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql("UPDATE jobs SET completed_at = %(then)s WHERE id = %(id)s", then=hours_ago, id=id)
    sql("ALTER TABLE jobs ENABLE TRIGGER USER")
    assert table.superfluous() == []


# --- what routing learns --------------------------------------------------------------------------


def a_run_took(provider: Provider, outcome: Outcome, seconds: float, audio: float = 60.0) -> None:
    id = new_job()
    run = Run.claim(id, 1, f"run of {id}")
    run.began(provider, audio)
    run.ended(outcome, seconds, 0.0)
    assert table.cancel(id)


def record_of(provider: Provider) -> Record:
    (record,) = records([provider])
    return record


def test_a_provider_without_history_has_an_empty_record() -> None:
    assert records([Provider.MODAL, Provider.CUDA]) == [
        Record(Provider.MODAL, runs=0, failed=0, seconds_per_minute=None, waiting=0, price=1.1),
        Record(Provider.CUDA, runs=0, failed=0, seconds_per_minute=None, waiting=0, price=0.0),
    ]
    assert records([]) == []


def test_a_record_holds_the_median_pace_of_what_was_published_and_every_failure() -> None:
    for seconds in (4.0, 100.0, 6.0):
        a_run_took(Provider.CUDA, Outcome.PUBLISHED, seconds)
    a_run_took(Provider.CUDA, Outcome.PUBLISHED, 12.0, audio=120.0)
    a_run_took(Provider.CUDA, Outcome.BEATEN, 1.0)
    a_run_took(Provider.CUDA, Outcome.CANCELLED, 1.0)
    a_run_took(Provider.CUDA, Outcome.FAILED, 1.0)
    a_run_took(Provider.CUDA, Outcome.CRASHED, 1.0)
    assert record_of(Provider.CUDA) == Record(Provider.CUDA, 7, 2, seconds_per_minute=6.0, waiting=0, price=0.0)
    assert record_of(Provider.MODAL).runs == 0


def test_a_provider_that_was_always_beaten_is_as_slow_as_it_is_known_to_be_at_least() -> None:
    a_run_took(Provider.MODAL, Outcome.BEATEN, 12.0)
    a_run_took(Provider.MODAL, Outcome.BEATEN, 30.0)
    assert record_of(Provider.MODAL).seconds_per_minute == 30.0


def test_a_record_is_of_the_last_fifty_runs_and_thirty_days_and_forgives_failures_after_a_day() -> None:
    a_run_took(Provider.CUDA, Outcome.PUBLISHED, 60.0)
    a_run_took(Provider.CUDA, Outcome.FAILED, 1.0)
    sql("UPDATE runs SET ended_at = now() - interval '2 days'")
    assert (record_of(Provider.CUDA).runs, record_of(Provider.CUDA).failed) == (1, 0)
    for _ in range(50):
        a_run_took(Provider.CUDA, Outcome.PUBLISHED, 5.0)
    assert (record_of(Provider.CUDA).runs, record_of(Provider.CUDA).seconds_per_minute) == (50, 5.0)
    sql("UPDATE runs SET ended_at = now() - interval '31 days'")
    assert record_of(Provider.CUDA).runs == 0


def test_songs_that_wait_or_are_being_made_are_counted_until_they_end_or_go_on_to_another_attempt() -> None:
    waiting, working, over = new_job(), new_job(), new_job()
    for id in (waiting, working, over):
        table.enqueue_runs(id, 1, {f"run-{id}": Provider.CUDA}, 180.0)
    assert record_of(Provider.CUDA).waiting == 3
    Run.claim(working, 1, f"run-{working}").began(Provider.CUDA, 180.0)
    assert table.cancel(over)
    assert record_of(Provider.CUDA).waiting == 2
    Run.claim(waiting, 1, f"run-{waiting}")
    assert table.lost(job_of(waiting), "it crashed")
    assert record_of(Provider.CUDA).waiting == 1


def test_a_run_that_began_before_it_was_enqueued_is_one_run() -> None:
    id = new_job()
    run = Run.claim(id, 1, "run")
    run.began(Provider.MODAL, 180.0)
    table.enqueue_runs(id, 1, {"run": Provider.CUDA}, 180.0)
    run.ended(Outcome.PUBLISHED, 9.0, 0.003)
    (row,) = sql("SELECT * FROM runs")
    assert (row["provider"], row["outcome"], row["seconds"], row["attempt"]) == ("modal", "published", 9.0, 1)
    assert (row["cost"], row["audio_seconds"]) == (pytest.approx(0.003), 180.0)


def test_a_run_without_a_beginning_leaves_no_history() -> None:
    run = Run.claim(new_job(), 1, "run")
    run.ended(Outcome.FAILED, 1.0, 0.0)
    assert sql("SELECT * FROM runs") == []


# --- queues, and where the mirror is --------------------------------------------------------------


def test_a_job_made_at_night_knows_its_queue_and_what_it_replaces() -> None:
    old, new = new_job(), table.new_id()
    assert table.insert(LINK, id=new, queue=Queue.NIGHTLY, replaces=old)
    assert (job_of(new).queue, job_of(new).replaces) == (Queue.NIGHTLY, old)
    assert (job_of(old).queue, job_of(old).replaces) == (Queue.PEOPLE, None)


def test_a_job_that_its_user_tries_again_is_a_persons_job_whoever_tried_before() -> None:
    id = new_job()
    for queue in (Queue.NIGHTLY, Queue.PEOPLE):
        assert table.cancel(id)
        job = admission.retry(id, queue) if queue is Queue.NIGHTLY else admission.retry(id)
        assert job is not None
        assert job.queue is queue


def test_the_open_jobs_are_read_without_their_logs() -> None:
    id, _ = a_race("one", "other")
    (job,) = table.open_jobs()
    whole = job_of(id)
    assert job.progress_log == ()
    assert job == Job.model_validate({**whole.model_dump(), "progress_log": ()})
    assert whole.progress_log != ()


def test_the_mirror_finds_its_place_again_and_never_goes_back() -> None:
    assert table.followed_until() is None
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for then in (noon, noon + timedelta(seconds=5), noon - timedelta(days=1)):
        table.follow(then)
    assert table.followed_until() == noon + timedelta(seconds=5)


def test_what_the_history_misses_while_the_database_is_away_costs_no_song(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.claim(new_job(), 1, "run")
    with monkeypatch.context() as away:
        away.setattr(db, "PATIENCE", 0.1)
        db.pool().close()
        run.began(Provider.CUDA, 180.0)
        run.ended(Outcome.PUBLISHED, 9.0, 0.0)
        assert run.wanted()
        db.pool.cache_clear()
    run.ended(Outcome.PUBLISHED, 9.0, 0.0)
    assert [row["outcome"] for row in sql("SELECT * FROM runs")] == ["published"]
