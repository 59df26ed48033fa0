"""What runs at night: which songs it takes, what it clears away, and that people never wait for it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.upkeep import old_audio, orphans
from infra import retention, runs
from infra.errors import SiteLimitsUs, TooLong, UserError
from infra.jobs import nightly, table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION, Provider, Queue, Request
from infra.jobs.run import Run
from infra.jobs.states import Status
from infra.storage import storage
from tests.running import eventually
from tests.stack.deployed import House, a_house, uploaded
from tests.workers import PrefectServer

DAY = 24 * 3600.0
SOON = datetime.now(UTC) + timedelta(days=3)
COOKIES = "".join(
    f".youtube.com\tTRUE\t/\tTRUE\t{SOON.timestamp():.0f}\t{name}\tvalue\n" for name in ("LOGIN_INFO", "SAPISID")
)


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path) -> Generator[House]:
    with a_house(prefect, database, tmp_path, YOUTUBE_COOKIES_CONTENT=COOKIES) as made:
        yield made


def link(name: str) -> Request:
    return Request(link=f"https://www.youtube.com/watch?v={name:_<11}")


def completed(request: Request, *, quality: float | None = 0.9, pipeline: int = PIPELINE_VERSION, **more: Any) -> str:
    id = table.new_id()
    table.insert(request, id=id, title="Song", **more)
    run = Run.claim(id, 1, f"the run of {id}")
    run.learn(fingerprint=request.fingerprint("x"), duration=180)
    run.complete(results_url="/x", files={}, message="Done", quality=quality, pipeline=pipeline)
    return id


def failed(error: UserError, request: Request | None = None) -> str:
    id = table.new_id()
    table.insert(request or link("failed"), id=id)
    Run.claim(id, 1, f"the run of {id}").fail(error)
    return id


def row(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def remade() -> list[str]:
    return [job.id for job in nightly.worth_remaking(0.5)]


# --- which songs --------------------------------------------------------------------------------


def test_songs_of_an_older_pipeline_and_poor_ones_are_made_anew_the_oldest_first(house: House) -> None:
    poor = completed(link("poor"), quality=0.2)
    completed(link("good"))
    old = completed(link("old"), pipeline=PIPELINE_VERSION - 1)
    completed(link("instrumental"), quality=None)
    assert remade() == [poor, old]


def test_a_song_is_made_anew_once(house: House) -> None:
    poor = completed(link("poor"), quality=0.2)
    completed(link("poor"), quality=0.3, replaces=poor)
    assert remade() == []


def test_a_song_that_waits_for_its_night_is_not_chosen_again(house: House) -> None:
    poor = completed(link("poor"), quality=0.2)
    table.insert(link("poor"), id="again", replaces=poor, queue=Queue.NIGHTLY)
    assert remade() == []


def test_a_song_that_many_asked_for_is_made_anew_once(house: House) -> None:
    completed(link("hit"), pipeline=PIPELINE_VERSION - 1)
    newest = completed(link("hit").but(provider="modal", race=2), pipeline=PIPELINE_VERSION - 1)
    assert remade() == [newest]


def test_a_song_that_was_asked_for_again_since_is_left_alone(house: House) -> None:
    completed(link("old"), pipeline=PIPELINE_VERSION - 1)
    completed(link("old"))
    assert remade() == []


def test_a_replacement_that_an_older_pipeline_made_gets_its_turn_again(house: House) -> None:
    first = completed(link("old"), pipeline=PIPELINE_VERSION - 2)
    second = completed(link("old"), pipeline=PIPELINE_VERSION - 1, replaces=first)
    assert remade() == [second]


def test_rows_of_the_system_before_this_one_are_left_as_they_are(house: House) -> None:
    house.sql("INSERT INTO jobs (id, youtube_url, status, completed_at) VALUES ('old', 'x', 'completed', now())")
    assert remade() == []


def test_passing_failures_are_tried_again_for_two_weeks(house: House) -> None:
    limited, hopeless, fresh, ancient, tired = (
        failed(SiteLimitsUs(reason="x")),
        failed(TooLong(length="1:00:00", limit="15:00")),
        failed(SiteLimitsUs(reason="x")),
        failed(SiteLimitsUs(reason="x")),
        failed(SiteLimitsUs(reason="x")),
    )
    house.sql("UPDATE jobs SET completed_at = now() - interval '2 hours' WHERE id <> %s", fresh)
    house.sql("UPDATE jobs SET created_at = now() - interval '15 days' WHERE id = %s", ancient)
    house.sql("UPDATE jobs SET attempt = %s WHERE id = %s", nightly.NIGHTS + 1, tired)
    assert [job.id for job in nightly.worth_another_try()] == [limited]
    assert row(hopeless).status is Status.ERROR


def test_a_night_starts_what_it_chose_behind_what_people_asked_for(house: House) -> None:
    poor = completed(uploaded(), quality=0.2)
    house.sql("UPDATE jobs SET audio_key = %s WHERE id = %s", kept_audio(uploaded()), poor)
    gone = completed(Request(link="upload:upload-gone"), quality=0.2)
    limited = failed(SiteLimitsUs(reason="x"))
    house.sql("UPDATE jobs SET completed_at = now() - interval '2 hours' WHERE id = %s", limited)
    long = completed(link("long"), quality=0.2)
    house.sql("UPDATE jobs SET duration = 36000, completed_at = now() WHERE id = %s", long)

    night = house.run("reprocess/nightly", minutes=60)
    house.execute(night)

    (anew,) = [job for job in table.recent(limit=100) if job.replaces]
    assert (anew.replaces, anew.queue, anew.request) == (poor, Queue.NIGHTLY, uploaded())
    assert (row(limited).status, row(limited).attempt, row(limited).queue) == (Status.QUEUED, 2, Queue.NIGHTLY)
    for job in (anew, row(limited)):
        run = house.prefect.call("GET", f"/flow_runs/{job.run_id}")
        assert run["work_queue_name"] == "nightly"
    report = house.artifacts(night)["reprocess"]["data"]
    assert "Chosen: 2" in report
    assert "Left for other nights: 1" in report
    assert row(gone).status is Status.COMPLETED
    house.execute(house.run("reprocess/nightly", minutes=60))
    assert len([job for job in table.recent(limit=100) if job.replaces]) == 1


def test_a_song_made_anew_ignores_the_earlier_result(house: House) -> None:
    request = uploaded()
    before = completed(request, quality=0.2)
    fingerprint = request.fingerprint(request.link.removeprefix("upload:"))
    house.sql(
        "UPDATE jobs SET fingerprint = %s, results_url = '/files/x', files = '{}' WHERE id = %s", fingerprint, before
    )
    storage().put("x", b"{}")
    found, anew = table.new_id(), table.new_id()
    table.insert(request, id=found)
    table.insert(request, id=anew, replaces=before)
    house.execute(runs.fetch(found, 1))
    house.execute(runs.fetch(anew, 1))
    assert (row(found).status, row(found).quality) == (Status.COMPLETED, pytest.approx(0.2))
    assert row(anew).status is Status.PROCESSING


# --- upkeep -------------------------------------------------------------------------------------


def kept_audio(request: Request) -> str:
    return f"audio/{request.link.removeprefix('upload:')}/audio.opus"


def grown_old(*keys: str, days: float = 100) -> None:
    then = time.time() - days * DAY
    for key in keys:
        path = storage().path(key)
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            os.utime(file, (then, then))


def test_upkeep_clears_away_what_nobody_needs_and_one_step_that_fails_stops_no_other(house: House) -> None:
    store = storage()
    needed, unneeded = "audio/needed/audio.opus", "audio/unneeded/audio.opus"
    for key in (needed, unneeded, "stages/abc.json", "transcriptions/orphan/results.json", "incoming/half"):
        store.put(key, b"{}")
    done = [completed(link(f"song{number}")) for number in range(2)]
    for id in done:
        store.put(f"transcriptions/{id}/results.json", b"{}")
    grown_old("audio/needed", "audio/unneeded", "stages/abc.json", "transcriptions/orphan", "incoming/half")
    grown_old(*(f"transcriptions/{id}" for id in done))
    table.insert(link("waiting"), id="waiting")
    Run.claim("waiting", 1, "r").learn(audio_key=needed)
    table.lost(row("waiting"), "it crashed")
    table.insert(link("called"), id="called")
    Run.claim("called", 1, "r").remember(Provider.MODAL, "fc-1")
    table.cancel("called")

    upkeep = house.run("upkeep/nightly")
    house.execute(upkeep, ends="FAILED")

    assert not any(
        map(store.exists, (unneeded, "stages/abc.json", "transcriptions/orphan/results.json", "incoming/half"))
    )
    assert store.exists(needed)
    assert all(store.exists(f"transcriptions/{id}/results.json") for id in done)
    assert house.prefect.state(upkeep)["message"] == "Not done: Remote calls that nobody waits for"  # no keys for Modal
    report = house.artifacts(upkeep)["upkeep"]["data"].replace("\\", "")
    assert f"expire on {SOON:%d %B %Y}: give new ones" in report
    assert "1 runs lost, now in attempt 2" in report
    assert "audio/unneeded removed" in report
    assert any("give new ones" in line for line in house.prefect.logs(upkeep))


def test_audio_may_be_kept_for_ever(prefect: PrefectServer, database: str, tmp_path: Path) -> None:
    with a_house(prefect, database, tmp_path, KEEP_AUDIO_DAYS="never"):
        storage().put("audio/old/audio.opus", b"la")
        grown_old("audio/old", days=10_000)
        assert old_audio.fn() == ["all of it is kept"]
        assert storage().exists("audio/old/audio.opus")


def test_results_are_not_taken_for_orphans_where_the_database_is_another(house: House) -> None:
    for number in range(3):
        storage().put(f"transcriptions/job{number}/results.json", b"{}")
        grown_old(f"transcriptions/job{number}")
    (sentence,) = orphans.fn()
    assert "nothing is removed" in sentence
    assert storage().exists("transcriptions/job0/results.json")


def test_old_runs_leave_prefect_with_their_logs_and_artifacts(house: House) -> None:
    gone = house.run("upkeep/nightly")
    house.execute(gone, ends="COMPLETED")
    assert house.artifacts(gone)
    table.insert(uploaded(), id="waiting")
    waits = runs.fetch("waiting", 1)
    stranger = house.prefect.call("POST", "/flows/", {"name": "somebody-elses"})["id"]
    theirs = house.prefect.call("POST", "/flow_runs/", {"flow_id": stranger, "state": {"type": "COMPLETED"}})["id"]

    assert retention.forget_runs(days=1) == 0
    assert retention.forget_runs(days=0) >= 1

    with pytest.raises(httpx.HTTPStatusError, match="404"):
        house.prefect.state(gone)
    assert house.artifacts(gone) == {}
    eventually(lambda: not house.prefect.logs(gone), what="the end of the logs")
    assert house.prefect.state(waits)["type"] == "SCHEDULED"
    assert house.prefect.state(theirs)["type"] == "COMPLETED"


# --- prefect.yaml, as Prefect understands it ----------------------------------------------------


def known(prefect: PrefectServer, name: str) -> dict[str, Any]:
    return prefect.call("GET", f"/deployments/name/{name}")


def test_what_runs_by_itself_is_scheduled_and_never_twice_at_once(prefect: PrefectServer) -> None:
    for name, cron in (("reprocess/nightly", "0 3 * * *"), ("upkeep/nightly", "30 4 * * *")):
        deployment = known(prefect, name)
        assert [schedule["schedule"]["cron"] for schedule in deployment["schedules"]] == [cron]
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert (deployment["work_pool_name"], deployment["work_queue_name"]) == ("default", "nightly")


def test_a_form_shows_what_may_be_chosen(prefect: PrefectServer) -> None:
    schema = known(prefect, "fetch/default")["parameter_openapi_schema"]
    assert "low is fastest" in json.dumps(schema["properties"]["preset"])
    assert {"low", "regular", "high"} in [set(one.get("enum", ())) for one in schema["definitions"].values()]
    schema = known(prefect, "transcribe/modal")["parameter_openapi_schema"]
    assert set(Provider) in [set(one.get("enum", ())) for one in schema["definitions"].values()]


def test_a_parameter_that_is_no_choice_is_refused(prefect: PrefectServer) -> None:
    deployment = known(prefect, "fetch/default")["id"]
    body = {"parameters": {"link": "x", "preset": "loud"}}
    answer = httpx.post(f"{prefect.api}/deployments/{deployment}/create_flow_run", json=body, timeout=30)
    assert answer.status_code == 409
    assert "loud" in answer.text


def test_audio_that_no_job_used_for_long_is_known_from_the_rows(house: House) -> None:
    for number, (days, status) in enumerate([(91, "completed"), (10, "completed"), (200, "completed"), (91, "queued")]):
        id = completed(link(f"song{number}"))
        ended = None if status == "queued" else f"{days} days"
        house.sql(
            "UPDATE jobs SET audio_key = %s, status = %s, completed_at = now() - %s::interval WHERE id = %s",
            f"audio/{number}/audio.webm",
            status,
            ended,
            id,
        )
    again = completed(link("song3"))
    house.sql("UPDATE jobs SET audio_key = 'audio/3/audio.webm' WHERE id = %s", again)
    assert nightly.unused_audio(90) == ["audio/0/audio.webm"]
