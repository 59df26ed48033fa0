"""The flow `fetch` on a real Prefect server and a real database, with YouTube as loopback plays it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows import egress, fetch
from infra import database as db
from infra import settings as configuration
from infra.api.app import create_app
from infra.errors import UserError
from infra.jobs import breakers, table
from infra.jobs.admission import Wanted, admit
from infra.jobs.job import Job
from infra.jobs.request import Preset, Queue, Request
from infra.storage import here
from tests.fakes.media import MediaServer, Video
from tests.running import eventually
from tests.stack.deployed import House, a_house
from tests.workers import PrefectServer

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

LOGIN = "\n".join(
    f".youtube.com\tTRUE\t/\tTRUE\t{int(time.time()) + 90 * 86400}\t{name}\ts3cr3t-{name}"
    for name in ("LOGIN_INFO", "SAPISID")
)


@pytest.fixture
def youtube(media: MediaServer) -> Generator[MediaServer]:
    """Asked for nothing yet, and not strict with anybody."""
    with media.as_youtube():
        media.asked.clear()
        yield media
        media.limits.clear()


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path, youtube: MediaServer) -> Generator[House]:
    egress.made.cache_clear()
    with (
        a_house(prefect, database, tmp_path, **youtube.environment()) as made,
        temporary_settings({PREFECT_API_URL: prefect.api, PREFECT_LOGGING_TO_API_ENABLED: False}),
    ):
        yield made


@pytest.fixture
def signed_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", LOGIN)
    configuration.settings.cache_clear()


def asked(video: str, queue: Queue = Queue.PEOPLE, **options: Any) -> str:
    request = Request.model_validate({"link": f"https://www.youtube.com/watch?v={video}", **options})
    wanted = Wanted(request, video, video_id=video, queue=queue)
    admit([wanted])
    return wanted.id


def run(job: str, **parameters: Any) -> Job:
    """The job after a run of the flow in this process."""
    with suppress(UserError):
        asyncio.run(fetch.fetch(job=job, **parameters))
    return job_of(job)


def job_of(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def steps(job: Job) -> list[str]:
    return [step["message"] for step in job.progress_log]


def sounds(youtube: MediaServer) -> int:
    """How often somebody asked for a sound."""
    return sum(path.startswith("/harbor-light.opus") for path, _ in youtube.asked)


def health() -> dict[str, Any]:
    with TestClient(create_app(configuration.settings())) as client:
        return client.get("/health").json()["youtube"]


# --- the way ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("house")
def test_a_video_is_fetched_kept_and_handed_over(youtube: MediaServer) -> None:
    youtube.video(
        "songoffetch", Video("Mine", artist="Ann", chapters=(("0:00", "Verse"), ("0:20", "Chorus"), ("0:40", "End")))
    )
    job = run(asked("songoffetch"))
    assert (job.status, job.current_stage) == ("processing", "handover")
    assert (job.title, job.artist, job.duration) == ("Mine", "Ann", 60)
    assert job.thumbnail == youtube.at("/songoffetch-480.jpg")
    assert [chapter["title"] for chapter in job.chapters] == ["Verse", "Chorus", "End"]
    assert here().read(job.audio_key or "") == youtube.song
    assert any(re.search(r"^Downloaded, \d:\d\d$", step) or "Downloading" in step for step in steps(job))
    assert list((here().folder / "incoming").iterdir()) == []


@pytest.mark.usefixtures("house")
def test_the_same_song_with_other_options_is_not_fetched_again(youtube: MediaServer) -> None:
    first = run(asked("harborlight"))
    assert sounds(youtube) == 1
    second = run(asked("harborlight", preset=Preset.HIGH))
    assert second.audio_key == first.audio_key
    assert (second.title, second.thumbnail, second.chapters) == (first.title, first.thumbnail, first.chapters)
    assert sounds(youtube) == 1
    assert (second.status_message or "").startswith("Waiting for cuda")


@pytest.mark.usefixtures("house")
def test_of_two_that_want_the_same_sound_at_once_one_fetches_it(youtube: MediaServer) -> None:
    youtube.video("slowsong000", Video(audio="/slow.opus?rate=400000"))
    jobs = [asked("slowsong000"), asked("slowsong000", preset=Preset.HIGH)]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda job, context: context.run(run, job), jobs, [copy_context(), copy_context()]))
    assert {job.current_stage for job in ended} == {"handover"}
    assert sum(path.startswith("/slow.opus") for path, _ in youtube.asked) == 1


def waits_for_its_next_try(prefect: PrefectServer) -> bool:
    waiting = {"task_runs": {"state": {"name": {"any_": ["AwaitingRetry"]}}}}
    return bool(prefect.call("POST", "/task_runs/filter", waiting))


@pytest.mark.usefixtures("house")
def test_a_connection_that_breaks_is_tried_again_and_a_refusal_is_not(
    prefect: PrefectServer, youtube: MediaServer
) -> None:
    youtube.video("comesback00", Video(http=503))
    id = asked("comesback00")
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(copy_context().run, run, id)
        eventually(lambda: waits_for_its_next_try(prefect), what="a failed try")
        youtube.video("comesback00", Video())
        assert fetching.result().current_stage == "handover"
    youtube.asked.clear()
    job = run(asked("privatevid0"))
    assert (job.status, job.error_kind) == ("error", "permanent")
    assert "Private video" in (job.error_message or "")
    clients = [headers["x-client"] for path, headers in youtube.asked if path.startswith("/video/privatevid0")]
    assert len(clients) == len(set(clients))  # each was asked once


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("house")
def test_a_rate_limit_closes_the_address_for_every_job(youtube: MediaServer) -> None:
    youtube.limit("here", "ratelimit")
    first = run(asked("harborlight"))
    assert (first.status, first.error_kind) == ("error", "passing")
    youtube.asked.clear()
    second = run(asked("withchapter"))
    assert youtube.asked == []
    assert re.fullmatch(r"YouTube limits this address until \d\d:\d\d UTC\.", second.error_message or "")
    (limited,) = health()["limited"]
    assert limited["egress"] == "here"
    assert timedelta(minutes=55) < datetime.fromisoformat(limited["until"]) - datetime.now(UTC) < timedelta(minutes=61)


@pytest.mark.usefixtures("signed_in")
def test_a_bot_check_leads_to_the_cookies_and_says_so(youtube: MediaServer) -> None:
    youtube.limit("here", "botcheck")
    job = run(asked("harborlight"))
    assert job.current_stage == "handover"
    assert "YouTube wants to see that this is not a bot; using cookies" in steps(job)
    assert {way["egress"] for way in health()["limited"]} == {"here: as anybody", "here: other clients"}
    # The next job does not ask as anybody any more.
    youtube.asked.clear()
    next_job = run(asked("withchapter"))
    assert any(
        re.fullmatch(r"YouTube limits this address until \d\d:\d\d UTC; using cookies", it) for it in steps(next_job)
    )
    assert all(
        "LOGIN_INFO" in headers.get("cookie", "") for path, headers in youtube.asked if path.startswith("/video/")
    )


@pytest.mark.usefixtures("house")
def test_when_the_time_is_over_one_finds_out_for_all(youtube: MediaServer) -> None:
    breakers.trip("here", "it said so", 0.0)
    assert run(asked("harborlight")).current_stage == "handover"
    assert health()["limited"] == []


@pytest.mark.usefixtures("signed_in")
def test_a_login_that_youtube_no_longer_accepts_is_noticed_and_not_used_again(youtube: MediaServer) -> None:
    assert health()["cookies"]["status"] == "good"
    youtube.limit("here", "botcheck")
    run(asked("rotatedjar0"))
    assert health()["cookies"]["status"] == "stale"
    youtube.asked.clear()
    assert run(asked("withchapter")).status == "error"
    assert not any("cookie" in headers for _, headers in youtube.asked)


@pytest.mark.usefixtures("house")
def test_a_song_of_a_batch_waits_until_youtube_is_open_again(prefect: PrefectServer, youtube: MediaServer) -> None:
    youtube.limit("here", "ratelimit")
    job = run(asked("harborlight", Queue.BATCH))
    assert (job.status, job.attempt) == ("queued", 2)
    assert re.fullmatch(r"Waiting until \d\d:\d\d UTC: YouTube limits this address", job.status_message or "")
    planned = prefect.call("GET", f"/flow_runs/{job.run_id}")
    due = datetime.fromisoformat(planned["next_scheduled_start_time"])
    assert timedelta(minutes=50) < due - datetime.now(UTC) < timedelta(minutes=75)
    youtube.limit("here", None)
    breakers.passed(["here"])
    assert run(job.id, attempt=2).current_stage == "handover"


@pytest.mark.usefixtures("house")
def test_a_batch_does_not_wait_for_ever(youtube: MediaServer) -> None:
    youtube.limit("here", "ratelimit")
    id = asked("harborlight", Queue.BATCH)
    with db.connection() as conn:
        conn.execute("UPDATE jobs SET created_at = now() - interval '25 hours' WHERE id = %s", (id,))
    assert run(id).status == "error"


def test_downloads_from_one_address_share_a_limit_that_prefect_keeps(house: House, prefect: PrefectServer) -> None:
    assert run(asked("harborlight")).current_stage == "handover"
    limit = prefect.call("GET", "/v2/concurrency_limits/youtube-here")
    assert (limit["limit"], limit["active_slots"]) == (configuration.settings().downloads_per_egress, 0)


# --- elsewhere ----------------------------------------------------------------------------------


@pytest.fixture
def far_away(prefect: PrefectServer) -> Generator[None]:
    """A worker of the pool `download`, as far as Prefect knows."""
    workers = "/work_pools/download/workers"
    prefect.call("POST", f"{workers}/heartbeat", {"name": "far away"})
    yield
    prefect.call("DELETE", f"{workers}/far away")


@pytest.mark.usefixtures("far_away")
def test_a_worker_at_another_address_takes_over(
    house: House, prefect: PrefectServer, youtube: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    youtube.limit("here", "ratelimit")
    job = run(asked("harborlight"))
    assert job.status == "processing"
    assert any(re.fullmatch(r"YouTube limits this address until .*; using download pool", it) for it in steps(job))
    far = prefect.call("GET", f"/flow_runs/{job.run_id}")
    assert far["work_pool_name"] == "download"
    assert far["parameters"]["egress"] == "download"
    monkeypatch.setenv("FAKE_YOUTUBE_EGRESS", "far away")
    house.execute(job.run_id or "")
    assert job_of(job.id).current_stage == "handover"


@pytest.mark.usefixtures("house")
def test_a_video_that_is_blocked_here_and_nowhere_else_to_fetch_it_from_is_refused() -> None:
    job = run(asked("geoblocked0"))
    assert (job.status, job.error_kind) == ("error", "permanent")


@pytest.mark.usefixtures("house", "far_away")
def test_a_video_that_is_blocked_here_is_fetched_elsewhere() -> None:
    job = run(asked("geoblocked0"))
    assert job.status == "processing"
    assert any("using download pool" in step for step in steps(job))
