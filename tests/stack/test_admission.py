"""Requests for the same song share one work, each caller gets a job that ends with it, and keys replay answers."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from infra import settings as configuration
from infra.api.app import create_app
from infra.errors import DownloadFailed, TakenOver, VideoUnavailable
from infra.jobs import admission, table
from infra.jobs.admission import Fate, Wanted, admit
from infra.jobs.job import Job
from infra.jobs.migrate import migrate
from infra.jobs.mirror import Sight, begin
from infra.jobs.request import PIPELINE_VERSION, Preset, Queue, Request
from infra.jobs.run import Run
from infra.jobs.stages import Stage
from infra.jobs.states import ENDED, Status
from infra.stack.postgres import Postgres
from infra.storage import here
from tests.stack.rows import job_of, pointed_at, row_of, sql

ID = "dQw4w9WgXcQ"
LINK = f"https://www.youtube.com/watch?v={ID}"
RESULT = "transcriptions/first/results.json"


@pytest.fixture
def kept(jobs: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage with a result in it; its link."""
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    configuration.settings.cache_clear()
    return here().put(RESULT, b"{}")


@pytest.fixture
def client(jobs: str, kept: str) -> Generator[TestClient]:
    """The API without a Prefect: rows wait for the mirror."""
    with TestClient(create_app(configuration.settings())) as client:
        yield client


def ask(source: str = ID, *, queue: Queue = Queue.PEOPLE, **options: Any) -> Wanted:
    return Wanted(Request.model_validate({"link": LINK, **options}), source, video_id=ID, queue=queue)


def asked(wanted: Wanted) -> Fate:
    return admit([wanted])[wanted.id]


def submitted(**more: Any) -> str:
    wanted = ask(**more)
    asked(wanted)
    return wanted.id


def working(id: str) -> Run:
    return Run.claim(id, job_of(id).attempt, f"run of {id}")


def complete(run: Run, url: str = "/files/" + RESULT) -> None:
    run.learn(audio_key="audio/x/audio.webm", artist="Ann")
    run.complete(results_url=url, files={"json": url}, message="Done", title="A song", duration=200, quality=0.9)


def seen(id: str) -> Job:
    return table.seen([job_of(id)])[0]


# --- who follows --------------------------------------------------------------------------------


@pytest.mark.usefixtures("jobs")
def test_who_asks_for_a_song_that_is_being_made_waits_for_it_and_ends_with_it() -> None:
    first, second, third = submitted(), submitted(), submitted()
    assert [job_of(id).follows for id in (first, second, third)] == [None, first, first]
    run = working(first)
    run.report(Stage.TRANSCRIBE, 0.5, "Listening")
    complete(run)
    for id in (second, third):
        job = job_of(id)
        assert (job.status, job.pct, job.results_url, job.title) == ("completed", 100, "/files/" + RESULT, "A song")
        assert (job.artist, job.audio_key, job.quality) == ("Ann", "audio/x/audio.webm", pytest.approx(0.9))
        assert job.pipeline == PIPELINE_VERSION
        assert job.progress_log[-1]["status"] == "completed"


@pytest.mark.usefixtures("jobs")
def test_a_follower_shows_how_far_the_work_is() -> None:
    first, second = submitted(), submitted()
    run = working(first)
    run.learn(title="A song")
    run.report(Stage.TRANSCRIBE, 0.5, "Listening")
    shown = seen(second)
    assert (shown.id, shown.status, shown.pct) == (second, "processing", job_of(first).pct)
    assert (shown.status_message, shown.title) == ("Listening", "A song")
    assert job_of(second).status == "queued"


@pytest.mark.usefixtures("jobs")
def test_a_failure_ends_all_who_wait_with_its_sentence() -> None:
    first, second = submitted(), submitted()
    working(first).fail(VideoUnavailable(reason="it is private."))
    job = job_of(second)
    assert (job.status, job.error_kind) == ("error", "permanent")
    assert job.error_message == "YouTube does not give out this video: it is private."


@pytest.mark.usefixtures("jobs")
def test_other_options_and_other_songs_are_other_work() -> None:
    ids = [submitted(), submitted(preset=Preset.HIGH), submitted(language="en"), submitted(source="other")]
    assert [job_of(id).follows for id in ids] == [None] * 4


@pytest.mark.usefixtures("jobs")
def test_who_does_the_work_and_how_many_race_makes_no_other_work() -> None:
    first = submitted()
    assert job_of(submitted(provider="cpu")).follows == first
    assert job_of(submitted(race=2)).follows == first


@pytest.mark.usefixtures("jobs")
def test_a_run_of_a_follower_is_refused() -> None:
    submitted()
    with pytest.raises(TakenOver):
        working(submitted())


@pytest.mark.usefixtures("jobs")
def test_a_followers_own_cancel_leaves_the_work_alone() -> None:
    first, second = submitted(), submitted()
    run = working(first)
    assert table.cancel(second)
    complete(run)
    assert (job_of(first).status, job_of(second).status) == ("completed", "cancelled")


@pytest.mark.usefixtures("jobs")
def test_a_cancel_by_the_first_leaves_the_song_to_the_next() -> None:
    first, second, third = submitted(), submitted(), submitted()
    run = working(first)
    assert table.cancel(first)
    assert [job_of(id).follows for id in (second, third)] == [None, second]
    with pytest.raises(TakenOver):
        complete(run)
    heir = table.heir(job_of(second).fingerprint or "")
    assert heir is not None
    assert heir.id == second
    complete(working(second))
    assert job_of(third).status == "completed"


@pytest.mark.usefixtures("jobs")
def test_the_mirror_starts_the_heir_if_the_api_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr("infra.runs.fetch", lambda id, attempt, queue, at: started.append(id) or f"run of {id}")
    first, second = submitted(), submitted()
    assert begun(second) == []  # it is no work of its own
    table.cancel(first)
    assert begun(second) == [second]
    assert started == [second]


def begun(*ids: str) -> list[str]:
    """Which of these the mirror starts, once what was written is settled."""
    later = row_of(ids[0])["updated_at"].replace(year=2100)
    open_jobs = [job for job in table.open_jobs() if job.run_id is None and job.id in ids]
    for job in open_jobs:
        begin(job, Sight(later, later), later)
    return [job.id for job in open_jobs]


@pytest.mark.usefixtures("jobs")
def test_a_follower_whose_leader_is_gone_works_for_itself() -> None:
    first, second, third = submitted(), submitted(), submitted()
    sql("DELETE FROM jobs WHERE id = %(id)s", id=first)
    assert [job_of(id).follows for id in (second, third)] == [None, None]
    sql("UPDATE jobs SET follows = %(to)s WHERE id = %(id)s", id=third, to=second)
    with_rules_off("UPDATE jobs SET status = 'error', completed_at = now() WHERE id = %(id)s", id=second)
    assert table.free_the_stranded() == 1
    assert job_of(third).follows is None


def with_rules_off(query: str, **parameters: Any) -> None:
    from infra import database

    with database.connection() as conn, conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")
        conn.execute(query.encode(), parameters)


@pytest.mark.usefixtures("jobs")
def test_people_do_not_wait_behind_a_batch_but_the_batch_behind_them() -> None:
    queued, beside = submitted(queue=Queue.BATCH), submitted(queue=Queue.BATCH)
    person = submitted()
    assert [job_of(id).follows for id in (queued, beside, person)] == [person, person, None]
    assert job_of(queued).run_id is None
    complete(working(person))
    assert {job_of(id).status for id in (queued, beside)} == {"completed"}


@pytest.mark.usefixtures("jobs")
def test_people_wait_for_a_song_of_a_batch_that_is_under_way() -> None:
    batch = submitted(queue=Queue.BATCH)
    working(batch)
    assert job_of(submitted()).follows == batch


@pytest.mark.usefixtures("jobs")
def test_nobody_follows_a_song_that_is_made_anew_at_night() -> None:
    id = table.new_id()
    wanted = ask()
    table.insert(wanted.request, id=id, queue=Queue.NIGHTLY, replaces="old", fingerprint=wanted.fingerprint)
    assert job_of(submitted()).follows is None


@pytest.mark.usefixtures("jobs")
def test_who_tries_again_while_another_makes_the_song_waits_for_that() -> None:
    first = submitted()
    working(first).fail(DownloadFailed(reason="it broke off."))
    second = submitted()
    assert job_of(second).follows is None
    again = admission.retry(first)
    assert again is not None
    assert again.follows == second
    complete(working(second))
    assert (job_of(first).status, job_of(first).attempt) == ("completed", 2)


@pytest.mark.usefixtures("jobs")
def test_a_run_that_is_retried_in_prefect_while_another_job_makes_the_song_leaves_it_to_that() -> None:
    first = submitted()
    run = working(first)
    run.fail(DownloadFailed(reason="it broke off."))
    second = submitted()
    working(second)
    assert table.retaken(run.id)
    with pytest.raises(TakenOver):
        Run.claim(first, 2, run.id)
    complete(Run.claim(second, 1, f"run of {second}"))
    assert job_of(first).status == "completed"


@pytest.mark.usefixtures("jobs")
def test_a_leader_whose_run_is_lost_keeps_its_followers() -> None:
    first, second = submitted(), submitted()
    working(first)
    assert table.lost(job_of(first), "its process died")
    assert job_of(second).follows == first
    complete(working(first))
    assert job_of(second).status == "completed"


@pytest.mark.usefixtures("jobs")
def test_many_at_once_make_one_work() -> None:
    together = threading.Barrier(16)

    def submit(_: int) -> str:
        together.wait()
        return submitted()

    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(submit, range(16)))
    leaders = [id for id in ids if job_of(id).follows is None]
    assert len(leaders) == 1
    assert {job_of(id).follows for id in ids if id not in leaders} == set(leaders)


@pytest.mark.usefixtures("jobs")
def test_none_is_left_behind_by_a_song_that_is_finished_at_the_same_moment(kept: str) -> None:
    for _ in range(20):
        first = submitted(source=table.new_id())
        source = job_of(first).fingerprint
        run = working(first)
        wanted = [ask(source=str(number)) for number in range(4)]
        assert source
        with ThreadPoolExecutor(5) as pool:
            ended = pool.submit(complete, run)
            fates = [pool.submit(asked, one) for one in wanted]
            ended.result()
            assert all(fate.result() for fate in fates)
        stuck = sql(
            "SELECT id FROM jobs WHERE follows IS NOT NULL AND status = 'queued' AND NOT EXISTS"
            " (SELECT FROM jobs AS leader WHERE leader.id = jobs.follows AND leader.status IN ('queued', 'processing'))"
        )
        assert stuck == []


# --- what was made before -----------------------------------------------------------------------


def test_a_song_that_was_made_before_is_finished_when_it_is_asked_for(kept: str) -> None:
    complete(working(submitted()), kept)
    wanted = ask()
    assert asked(wanted) is Fate.FINISHED
    job = job_of(wanted.id)
    assert (job.status, job.pct, job.results_url, job.title, job.attempt) == ("completed", 100, kept, "A song", 1)
    assert job.status_message == "Found: this song was made before"
    assert job.run_id is None


def test_a_result_that_is_gone_is_made_again(kept: str) -> None:
    complete(working(submitted()), kept)
    here().remove(RESULT)
    assert asked(ask()) is Fate.BEGINS


def test_a_result_of_an_older_pipeline_is_made_again(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    complete(working(submitted()), kept)
    monkeypatch.setattr("infra.jobs.request.PIPELINE_VERSION", PIPELINE_VERSION + 1)
    assert asked(ask()) is Fate.BEGINS


def test_in_a_batch_every_line_gets_its_row(kept: str) -> None:
    complete(working(submitted(source="before")), kept)
    leader = submitted(source="under way")
    refused = VideoUnavailable(reason="it is private.")
    wanted = [
        Wanted(Request(link=LINK), source, queue=Queue.BATCH, batch="b", place=place, refused=error)
        for place, (source, error) in enumerate(
            [("before", None), ("under way", None), ("new", None), ("bad", refused)]
        )
    ]
    fates = admit(wanted)
    assert list(fates.values()) == [Fate.FINISHED, Fate.FOLLOWS, Fate.BEGINS, Fate.REFUSED]
    rows = [job_of(one.id) for one in wanted]
    assert [(row.batch, row.place) for row in rows] == [("b", place) for place in range(4)]
    assert [row.status for row in rows] == ["completed", "queued", "queued", "error"]
    assert rows[1].follows == leader
    assert rows[3].error_message == str(refused)


# --- keys ---------------------------------------------------------------------------------------


def post(client: TestClient, key: str | None = "k-1", **asked: Any) -> Any:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return client.post("/api/jobs", json={"youtubeUrl": LINK, **asked}, headers=headers)


def test_the_same_request_under_the_same_key_gets_the_first_answer(client: TestClient) -> None:
    first, again = post(client), post(client)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(sql("SELECT id FROM jobs")) == 1


def test_another_request_under_the_same_key_is_a_conflict(client: TestClient) -> None:
    post(client)
    answer = post(client, preset="high")
    assert answer.status_code == 409
    assert answer.json() == {"error": "This Idempotency-Key was used for another request within the last 24 hours."}
    assert len(sql("SELECT id FROM jobs")) == 1


def test_a_key_is_free_again_after_a_day(client: TestClient) -> None:
    first = post(client).json()
    sql("UPDATE request_keys SET created_at = now() - interval '24 hours 1 second'")
    answer = post(client, preset="high")
    assert answer.status_code == 201
    assert answer.json() != first
    sql("UPDATE request_keys SET created_at = now() - interval '24 hours 1 second'")
    assert admission.forget_keys() == 1


def test_a_request_that_was_refused_does_not_use_up_its_key(client: TestClient) -> None:
    bad = client.post("/api/jobs", json={"youtubeUrl": "nonsense"}, headers={"Idempotency-Key": "k-1"})
    assert bad.status_code == 400
    assert post(client).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_an_impossible_key_is_refused(client: TestClient, key: str) -> None:
    answer = post(client, key)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]


def test_the_same_key_many_times_at_once_makes_one_job(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [answer.json() for answer in pool.map(lambda _: post(client), range(8))]
    assert all(answer == answers[0] for answer in answers)
    assert len(sql("SELECT id FROM jobs")) == 1


def test_without_a_key_each_request_is_a_job(client: TestClient) -> None:
    assert post(client, None).json() != post(client, None).json()


def test_a_follower_is_shown_with_its_leaders_progress_in_every_answer(client: TestClient) -> None:
    first, second = (post(client, None).json()["jobId"] for _ in range(2))
    working(first).report(Stage.TRANSCRIBE, 0.5, "Listening")
    assert client.get(f"/api/jobs/{second}").json() == client.get(f"/api/jobs/{first}").json()
    assert client.get(f"/api/jobs/{second}/progress").json()["currentStage"] == "transcribe"
    assert client.get(f"/api/jobs/{second}/steps").json()["steps"][-1]["message"] == "Listening"
    listed = client.get("/api/jobs").json()["jobs"]
    assert {job["statusMessage"] for job in listed} == {"Listening"}


# --- at random ----------------------------------------------------------------------------------


class Requests(RuleBasedStateMachine):
    """People and batches that ask for two songs, and what happens to the work on them."""

    def __init__(self) -> None:
        super().__init__()
        sql("TRUNCATE jobs CASCADE")
        self.runs: dict[str, Run] = {}

    @rule(source=st.sampled_from(["a", "b"]), queue=st.sampled_from(Queue))
    def ask(self, source: str, queue: Queue) -> None:
        submitted(source=source, queue=queue)

    def pick(self, number: int, condition: str) -> str | None:
        found = sql(f"SELECT id FROM jobs WHERE {condition} ORDER BY created_at, id")  # pyright: ignore
        return found[number % len(found)]["id"] if found else None

    @rule(number=st.integers(0, 9))
    def begin(self, number: int) -> None:
        if id := self.pick(number, "status = 'queued' AND follows IS NULL"):
            self.runs[id] = working(id)

    @rule(number=st.integers(0, 9), well=st.booleans())
    def end(self, number: int, *, well: bool) -> None:
        if id := self.pick(number, "status = 'processing'"):
            run = self.runs[id]
            if well:
                complete(run, "/files/gone.json")  # so that it is made again
            else:
                run.fail(DownloadFailed(reason="it broke off."))

    @rule(number=st.integers(0, 9))
    def lose(self, number: int) -> None:
        if id := self.pick(number, "status = 'processing'"):
            table.lost(job_of(id), "its process died")

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        if id := self.pick(number, "status IN ('queued', 'processing')"):
            assert table.cancel(id)

    @rule(number=st.integers(0, 9))
    def retake(self, number: int) -> None:
        if id := self.pick(number, "status = 'error' AND run_id IS NOT NULL"):
            assert table.retaken(job_of(id).run_id or "")

    @rule(number=st.integers(0, 9))
    def retry(self, number: int) -> None:
        if id := self.pick(number, "status IN ('error', 'cancelled')"):
            assert admission.retry(id)

    @invariant()
    def one_works_and_the_others_wait_for_it(self) -> None:
        jobs = {row["id"]: Job.model_validate(row) for row in sql("SELECT * FROM jobs")}
        waiting = [job for job in jobs.values() if job.follows and not job.ended]
        leaders = [job for job in jobs.values() if not job.follows and not job.ended]
        assert len(leaders) == len({job.fingerprint for job in leaders})
        for job in waiting:
            leader = jobs[job.follows or ""]
            assert leader.status not in ENDED
            assert leader.follows is None
            assert leader.fingerprint == job.fingerprint
            assert job.status is Status.QUEUED


@pytest.fixture
def a_database(cluster: Postgres, database: str) -> Generator[None]:
    migrate(database)
    with pointed_at(database):
        yield


@pytest.mark.usefixtures("a_database")
def test_whatever_happens_one_works_and_the_others_wait_for_it() -> None:
    run_state_machine_as_test(
        Requests,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
