"""Batches on a real database and a real Prefect server, without workers: their runs are executed by the test."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from flows import batch as flow
from infra import runs
from infra.api.app import create_app
from infra.errors import DownloadFailed, TakenOver, VideoUnavailable
from infra.jobs import batches, breakers, listing, mirror, table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION
from infra.jobs.run import Run
from infra.jobs.stages import Stage
from infra.jobs.states import MAX_LOST_RUNS, Status
from infra.runs import HANDED_BACK
from infra.settings import settings
from tasks.playlist import listed
from tests.fakes.media import PLUGIN, MediaServer
from tests.fakes.playlists import Playlist, song
from tests.stack.deployed import House, a_house, forget_prefect, python
from tests.workers import PrefectServer

PLAYLIST = "https://www.youtube.com/playlist?list=PLharboursongs"


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path, media: MediaServer) -> Generator[House]:
    with a_house(prefect, database, tmp_path, FAKE_YOUTUBE=media.url) as made:
        yield made


@pytest.fixture
def api(house: House) -> Generator[TestClient]:
    with TestClient(create_app(settings()), raise_server_exceptions=False) as client:
        yield client


def link(number: int) -> str:
    return f"https://youtu.be/{song(number)}"


def submit(api: TestClient, *links: str, **options: Any) -> dict[str, Any]:
    answer = api.post("/api/batches", json={"links": links, **options})
    assert answer.status_code == 201, answer.text
    return answer.json()


def submit_playlist(api: TestClient, playlist: str = PLAYLIST, **options: Any) -> str:
    answer = api.post("/api/batches", json={"playlist": playlist, **options})
    assert answer.status_code == 201, answer.text
    return answer.json()["batchId"]


def told(api: TestClient, id: str, **query: Any) -> dict[str, Any]:
    answer = api.get(f"/api/batches/{id}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def job(id: str) -> Job:
    found = table.get(id)
    assert found is not None
    return found


def batch(id: str) -> batches.Batch:
    found = batches.get(id)
    assert found is not None
    return found


def run_of(id: str) -> str:
    run = batch(id).run_id
    assert run is not None
    return run


def finish(id: str) -> None:
    run = Run.claim(id, 1, f"the run of {id}")
    run.complete(results_url="/files/x", files={}, message="Done", title="Song", pipeline=PIPELINE_VERSION)


def execute(house: House, run: str, ends: str = "COMPLETED") -> None:
    """As a worker's child whose yt-dlp takes the fake for YouTube."""
    environment = dict(os.environ) | house.prefect.environment
    environment["PYTHONPATH"] = os.pathsep.join([str(PLUGIN), environment["PYTHONPATH"]])
    done = python("-m", "prefect.engine", run, environment=environment)
    state = house.prefect.state(run)
    assert state["type"] == ends, f"{state['message']}\n{done.stdout}{done.stderr}"


def crash(house: House, run: str, message: str = "It was killed") -> None:
    runs.mark_crashed(run, message)
    assert house.prefect.state(run)["type"] == "CRASHED"


@contextmanager
def prefect_away() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        forget_prefect()
        yield
    forget_prefect()


# --- links --------------------------------------------------------------------------------------


def test_many_links_are_rows_in_their_order_whose_runs_wait_behind_people(house: House, api: TestClient) -> None:
    answer = submit(api, link(1), "no link", link(2), link(1), preset="low", language="en")
    assert (answer["total"], answer["twice"]) == (3, 1)
    first, bad, second = answer["jobs"]
    assert bad["error"] == '"no link" is not a link to a YouTube video.'
    assert first["youtubeUrl"] == f"https://www.youtube.com/watch?v={song(1)}"
    for started in (job(first["jobId"]), job(second["jobId"])):
        assert (started.batch, started.queue, started.options) == (
            answer["batchId"], "batch", {"preset": "low", "language": "en", "race": 1},
        )  # fmt: skip
        assert started.run_id is not None
        assert house.prefect.call("GET", f"/flow_runs/{started.run_id}")["work_queue_name"] == "batch"
    shown = told(api, answer["batchId"])
    assert [song["jobId"] for song in shown["jobs"]] == [line["jobId"] for line in answer["jobs"]]
    assert (shown["status"], shown["message"]) == ("processing", "0 of 3 songs are done, 1 failed")
    assert shown["jobs"][1]["error"] == bad["error"]


def test_one_song_that_fails_does_not_touch_the_rest(house: House, api: TestClient) -> None:
    answer = submit(api, *map(link, range(3)))
    first, second, third = (line["jobId"] for line in answer["jobs"])
    finish(first)
    Run.claim(second, 1, "a run").fail(VideoUnavailable(reason="it is private."))
    shown = told(api, answer["batchId"])
    assert (shown["status"], shown["pct"]) == ("processing", 66)
    assert shown["counts"] == {"queued": 1, "processing": 0, "completed": 1, "error": 1, "cancelled": 0}
    finish(third)
    shown = told(api, answer["batchId"])
    assert (shown["status"], shown["pct"]) == ("completed", 100)
    assert shown["message"] == "2 of 3 songs are done, 1 failed"


def test_a_song_that_another_batch_makes_already_is_as_far_as_there(house: House, api: TestClient) -> None:
    leader = submit(api, link(1))["jobs"][0]["jobId"]
    Run.claim(leader, 1, "a run").report(Stage.TRANSCRIBE, 1.0, "Listening")
    shown = told(api, submit(api, link(1), link(2))["batchId"])
    assert shown["counts"]["processing"] == shown["counts"]["queued"] == 1
    assert shown["pct"] == job(leader).pct // 2 > 0
    assert [song["status"] for song in shown["jobs"]] == ["processing", "queued"]


def test_500_links_are_answered_within_seconds(house: House, api: TestClient) -> None:
    with prefect_away():  # what is measured is the answer, not what follows it
        began = time.monotonic()
        answer = submit(api, *map(link, range(500)))
        took = time.monotonic() - began
    assert len(answer["jobs"]) == 500
    assert batch(answer["batchId"]).queued == 500
    assert took < 10


def test_what_cannot_be_a_batch_is_refused_with_one_sentence(house: House, api: TestClient) -> None:
    refused: list[tuple[Any, str]] = [
        ({"links": [link(1)] * 501}, "These are 501 links; a batch takes at most 500."),
        ({"links": [link(1)], "preset": "best"}, "preset: Input should be 'low', 'regular' or 'high'."),
        ({"playlist": link(1)}, "This link leads to one video, not to a playlist or a channel."),
        ({"playlist": "https://evil.example/playlist?list=PLx"}, "Links to evil.example are not accepted here"),
        ({"playlist": f"{link(1)}?list=RD{song(1)}"}, "This is a mix that YouTube makes up as one listens"),
        ([], 'The body must be a JSON object such as {"links": ["https://youtu.be/…"]}.'),
    ]
    for asked, sentence in refused:
        answer = api.post("/api/batches", json=asked)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(sentence)
    assert api.post("/api/batches", content=b"links").status_code == 400
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        answer = api.request(method, f"/api/batches/nobody{path}")
        assert (answer.status_code, answer.json()) == (404, {"error": "Batch not found"})
    assert batches.recent() == []


def test_the_same_call_with_the_same_key_gets_the_first_answer(house: House, api: TestClient) -> None:
    asked = {"links": [link(1), link(2)]}
    first = api.post("/api/batches", json=asked, headers={"Idempotency-Key": "a"})
    again = api.post("/api/batches", json=asked, headers={"Idempotency-Key": "a"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(batches.recent()) == 1
    other = api.post("/api/batches", json={"playlist": PLAYLIST}, headers={"Idempotency-Key": "a"})
    assert other.status_code == 409


def test_batches_and_their_songs_are_read_page_by_page(house: House, api: TestClient) -> None:
    made = [submit(api, *map(link, range(5)))["batchId"] for _ in range(3)]
    seen: list[str] = []
    after: str | None = None
    while True:
        page = api.get("/api/batches", params={"limit": 2, **({"after": after} if after else {})}).json()
        seen += [found["batchId"] for found in page["batches"]]
        after = page["next"]
        if after is None:
            break
    assert seen == made[::-1]
    first = told(api, made[0], limit=3)
    rest = told(api, made[0], limit=3, after=first["next"])
    assert [found["youtubeUrl"][-1] for found in first["jobs"] + rest["jobs"]] == list("01234")
    assert rest["next"] is None


# --- a playlist ---------------------------------------------------------------------------------


def test_a_playlist_is_listed_by_a_run_and_then_made_song_by_song(house: House, api: TestClient) -> None:
    id = submit_playlist(api, preset="low")
    assert told(api, id)["status"] == "listing"
    assert house.prefect.call("GET", f"/flow_runs/{run_of(id)}")["work_queue_name"] == "people"
    execute(house, run_of(id))
    shown = told(api, id)
    assert (shown["title"], shown["status"], shown["total"]) == ("Songs of the harbour", "processing", 2)
    assert shown["message"] == "0 of 2 songs are done. 1 private, deleted or live ones are left out."
    assert [found["youtubeUrl"][-11:] for found in shown["jobs"]] == ["harborlight", "longsong999"]
    for found in shown["jobs"]:
        made = job(found["jobId"])
        assert (made.options["preset"], made.queue, made.batch) == ("low", "batch", id)
        assert made.run_id is not None


def test_a_playlist_is_listed_later_while_youtube_limits_this_address(
    house: House, api: TestClient, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakers.trip("here", "rate-limited", 3600.0)
    id = submit_playlist(api)
    monkeypatch.setattr(flow, "list_task", flow.listed_from_here)
    with media.as_youtube():
        flow.list_songs(listing.claim(id, 1, run_of(id)))
        shown = told(api, id)
        assert (shown["status"], shown["total"]) == ("listing", 0)
        assert re.fullmatch(r"Waiting until \d\d:\d\d UTC: YouTube limits this address", shown["message"])
        planned = house.prefect.call("GET", f"/flow_runs/{run_of(id)}")
        due = datetime.fromisoformat(planned["next_scheduled_start_time"])
        assert timedelta(minutes=50) < due - datetime.now(UTC) < timedelta(minutes=75)
        listing.take_up()
        assert told(api, id)["message"] == shown["message"]
        breakers.passed(["here"])
        flow.list_songs(listing.claim(id, 2, run_of(id)))
    assert told(api, id)["total"] == 2


def test_a_limit_that_is_met_at_a_list_holds_for_songs_too(
    house: House, api: TestClient, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.playlists["PLlimitedatonce"] = Playlist(http=429)
    monkeypatch.setattr(flow, "list_task", flow.listed_from_here)
    id = submit_playlist(api, "https://youtube.com/playlist?list=PLlimitedatonce")
    with media.as_youtube():
        flow.list_songs(listing.claim(id, 1, run_of(id)))
    assert [way.name for way in breakers.all_closed()] == ["here"]
    assert told(api, id)["status"] == "listing"


def test_of_a_long_playlist_the_first_500_songs_are_made(
    house: House, api: TestClient, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = submit_playlist(api, "https://youtube.com/playlist?list=PLmanysongs000")
    monkeypatch.setattr(flow, "list_task", listed)  # here, without Prefect: it would take a while to take 500 runs
    monkeypatch.setattr(batches, "start", list)
    with media.as_youtube():
        flow.list_songs(listing.claim(id, 1, run_of(id)))
    shown = told(api, id, limit=500)
    assert [found["youtubeUrl"][-11:] for found in shown["jobs"]] == [song(number) for number in range(500)]
    assert shown["message"].endswith("It is longer: these are the first 500.")


def test_a_playlist_that_youtube_refuses_ends_with_its_sentence_and_can_be_tried_again(
    house: House, api: TestClient, media: MediaServer
) -> None:
    id = submit_playlist(api, "https://www.youtube.com/playlist?list=PLprivatelist0")
    first = run_of(id)
    execute(house, first, ends="FAILED")
    shown = told(api, id)
    assert shown["status"] == "error"
    assert shown["message"] == "YouTube does not give out this playlist: This playlist is private."
    assert api.post(f"/api/batches/{id}/retry").json() == {"batchId": id}
    assert told(api, id)["status"] == "listing"
    assert run_of(id) != first
    before = media.playlists["PLprivatelist0"]
    media.playlists["PLprivatelist0"] = media.playlists["PLharboursongs"]  # made public meanwhile
    try:
        execute(house, run_of(id))
    finally:
        media.playlists["PLprivatelist0"] = before
    assert told(api, id)["total"] == 2


def test_a_list_whose_run_is_retried_in_prefect_goes_on(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    run = run_of(id)
    listing.fail(listing.claim(id, 1, run), DownloadFailed(reason="it broke off."))
    assert told(api, id)["status"] == "error"
    execute(house, run)
    assert told(api, id)["total"] == 2


def test_a_run_that_is_not_the_newest_is_refused(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    old = listing.claim(id, 1, "an old run")
    listing.claim(id, 1, "a newer run")
    with pytest.raises(TakenOver):
        listing.listed(old, [], title="Old", message="")
    with pytest.raises(TakenOver):
        listing.claim(id, 2, "a run of another attempt")
    assert told(api, id)["status"] == "listing"


@pytest.mark.parametrize(
    ("parameters", "total"),
    [({"playlist": PLAYLIST}, 2), ({"links": [link(1), "nothing", link(2)], "language": "en"}, 3)],
    ids=["a playlist", "links"],
)
def test_a_run_that_was_started_in_prefect_makes_a_batch_of_its_own(
    house: House, api: TestClient, parameters: dict[str, Any], total: int
) -> None:
    run = house.run("batch/default", preset="low", **parameters)
    execute(house, run)
    shown = told(api, run)
    assert (shown["status"], shown["total"]) == ("processing", total)
    assert all(job(found["jobId"]).run_id for found in shown["jobs"] if found["status"] == "queued")


# --- whatever is away ---------------------------------------------------------------------------


def test_a_batch_is_taken_while_prefect_is_away_and_begun_when_it_is_back(house: House, api: TestClient) -> None:
    with prefect_away():
        songs = submit(api, link(1))["jobs"][0]["jobId"]
        id = submit_playlist(api)
        assert job(songs).run_id is batch(id).run_id is None
    listing.take_up()
    assert batch(id).run_id is None, "the API may still be about to start it"
    house.sql("UPDATE batches SET updated_at = now() - interval '10 seconds'")
    house.sql("UPDATE jobs SET updated_at = now() - interval '10 seconds'")
    listing.take_up()
    look()
    run = run_of(id)
    listing.take_up()
    assert run_of(id) == run
    assert house.prefect.call("GET", f"/flow_runs/{job(songs).run_id}")["work_queue_name"] == "batch"


def look() -> None:
    """As the mirror does each round."""
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    mirror.look(set(), mirror.Sight(rows=long_ago, engine=long_ago), everything=True)


def test_a_run_that_is_lost_is_followed_by_another_until_that_happened_too_often(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    for _ in range(MAX_LOST_RUNS - 1):
        crash(house, run_of(id))
        listing.take_up()
        assert batch(id).message == "Waiting to be listed again: It was killed"
        listing.take_up()
    assert batch(id).attempt == MAX_LOST_RUNS
    crash(house, run_of(id))
    listing.take_up()
    shown = told(api, id)
    assert shown["status"] == "error"
    assert shown["message"] == (
        "The playlist could not be listed: this was interrupted 3 times, the last time because It was killed."
    )


def test_a_service_that_is_stopped_on_purpose_is_not_held_against_a_list(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    for _ in range(MAX_LOST_RUNS + 1):
        crash(house, run_of(id), HANDED_BACK)
        listing.take_up()
        listing.take_up()
    assert (batch(id).status, batch(id).lost_runs) == ("listing", 0)


def test_a_run_whose_heart_stopped_beating_is_told_so_and_followed_by_another(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    run = run_of(id)
    house.prefect.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    claimed = listing.claim(id, 1, run)
    listing.beat(claimed)
    listing.take_up()
    assert run_of(id) == run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "SILENT", listing.SILENT * 0)
        listing.take_up()
    assert house.prefect.state(run)["type"] == "CRASHED"
    assert batch(id).attempt == 2


# --- the user's word ----------------------------------------------------------------------------


def test_a_cancelled_batch_ends_what_is_open_of_it_and_its_runs(house: House, api: TestClient) -> None:
    answer = submit(api, *map(link, range(3)))
    id, (first, *others) = answer["batchId"], (line["jobId"] for line in answer["jobs"])
    started = [job(other).run_id for other in others]
    finish(first)
    assert api.delete(f"/api/batches/{id}").json() == {"status": "cancelled"}
    assert [job(found).status for found in (first, *others)] == [Status.COMPLETED, Status.CANCELLED, Status.CANCELLED]
    assert told(api, id)["message"] == "1 of 3 songs are done, 2 cancelled"
    for run in started:
        assert run is not None
        assert house.prefect.state(run)["type"] in ("CANCELLING", "CANCELLED")
    again = api.delete(f"/api/batches/{id}")
    assert (again.status_code, again.json()) == (409, {"error": "This batch has ended already: cancelled"})


def test_whoever_waits_for_a_song_of_a_cancelled_batch_goes_on_with_it(house: House, api: TestClient) -> None:
    leader = submit(api, link(1), link(2))
    follower = submit(api, link(1))["jobs"][0]["jobId"]
    assert job(follower).follows == leader["jobs"][0]["jobId"]
    api.delete(f"/api/batches/{leader['batchId']}")
    assert (job(follower).status, job(follower).follows) == (Status.QUEUED, None)


def test_batches_with_the_same_songs_never_wait_for_each_other_for_ever(house: House, api: TestClient) -> None:
    def come_and_go(seed: int) -> set[int]:
        order = random.Random(seed).sample(range(30), 30)
        made = api.post("/api/batches", json={"links": [link(number) for number in order]})
        gone = api.delete(f"/api/batches/{made.json()['batchId']}")
        return {made.status_code, gone.status_code}

    with prefect_away(), ThreadPoolExecutor(6) as threads:
        assert set.union(*threads.map(come_and_go, range(12))) == {200, 201}
    assert table.count() == {"cancelled": 12 * 30}


def test_a_list_that_is_cancelled_gets_no_songs(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    claimed = listing.claim(id, 1, run_of(id))
    assert api.delete(f"/api/batches/{id}").status_code == 200
    assert house.prefect.state(run_of(id))["type"] in ("CANCELLING", "CANCELLED")
    with pytest.raises(TakenOver):
        listing.listed(claimed, [], title="Too late", message="")
    listing.take_up()
    shown = told(api, id)
    assert (shown["status"], shown["total"]) == ("cancelled", 0)


def test_a_list_whose_run_is_cancelled_in_prefect_is_cancelled(house: House, api: TestClient) -> None:
    id = submit_playlist(api)
    house.prefect.cancel(run_of(id))
    listing.take_up()
    assert told(api, id)["status"] == "cancelled"


def test_a_retry_tries_what_failed_and_nothing_else(house: House, api: TestClient) -> None:
    answer = submit(api, link(1), link(2), "no link")
    id, (first, second, bad) = answer["batchId"], (line["jobId"] for line in answer["jobs"])
    assert api.post(f"/api/batches/{id}/retry").status_code == 409
    finish(first)
    Run.claim(second, 1, "a run").fail(DownloadFailed(reason="it broke off."))
    tried = api.post(f"/api/batches/{id}/retry")
    assert (tried.status_code, [line["jobId"] for line in tried.json()["jobs"]]) == (201, [second])
    assert (job(second).attempt, job(second).queue) == (2, "batch")
    assert job(second).run_id not in (None, "a run")
    assert (job(first).status, job(bad).status) == (Status.COMPLETED, Status.ERROR)
    assert told(api, id)["status"] == "processing"


def test_a_retry_of_a_cancelled_batch_tries_what_was_cancelled_with_it(house: House, api: TestClient) -> None:
    answer = submit(api, link(1), link(2))
    api.delete(f"/api/batches/{answer['batchId']}")
    tried = api.post(f"/api/batches/{answer['batchId']}/retry").json()
    assert len(tried["jobs"]) == 2
    assert told(api, answer["batchId"])["status"] == "processing"
