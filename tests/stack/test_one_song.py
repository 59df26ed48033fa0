"""One song through every room of the house, and the contract's answers on the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.jobs.request import Format
from tasks.render import read
from tests.fakes.media import MediaServer
from tests.running import DEMO, RunningStack, eventually
from tests.stack.deployed import python

MIX = DEMO / "harbor-light.mix.opus"


def get(stack: RunningStack, path: str, **request: Any) -> httpx.Response:
    return httpx.get(f"{stack.url}{path}", timeout=30, **request)


def cli(stack: RunningStack, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "YT_LYRICS_DATA": str(stack.data)}
    return python("-m", "flows.cli", *words, environment=environment)


@pytest.fixture(scope="module")
def song(stack: RunningStack) -> dict[str, Any]:
    """The demo song from a YouTube link, finished."""
    id = stack.submit(youtubeUrl="https://youtu.be/harborlight?si=share", preset="regular")
    job = stack.ended(id)
    assert job["status"] == "completed", job
    return {"id": id, **job}


def test_a_youtube_link_becomes_timed_words(stack: RunningStack, song: dict[str, Any]) -> None:
    document = httpx.get(song["resultUrl"], timeout=30).json()
    text = document["plain"].lower()
    assert "carry me" in text
    assert "harbor" in text or "harbour" in text
    for word in document["words"]:
        assert word["start"] < word["end"]
        assert 0 <= word["confidence"] <= 1
    starts = [word["start"] for word in document["words"]]
    assert starts == sorted(starts)
    assert document["language"] == "en"
    assert document["metadata"]["title"] == "Harbor Light"
    assert 55 < document["metadata"]["duration"] < 57
    assert re.match(r"\d{4}-\d\d-\d\dT", document["metadata"]["processedAt"])
    assert [line["text"] for line in document["lines"]] == document["plain"].strip().splitlines()
    assert document["srt"].startswith("1\n00:00:")


def test_the_job_tells_what_it_learnt(song: dict[str, Any]) -> None:
    assert song["pct"] == 100
    assert song["title"] == "Harbor Light"
    assert song["artist"] == "The Demo Singers"
    assert song["currentStage"] == "done"
    assert "whisper" in song["processingMethod"]
    assert "error" not in song


def test_the_short_answer_has_the_contracts_fields_only(stack: RunningStack, song: dict[str, Any]) -> None:
    answer = get(stack, f"/api/jobs/{song['id']}").json()
    assert set(answer) <= {"status", "pct", "resultUrl", "statusMessage", "error"}
    assert answer["status"] == "completed"


def test_the_steps_tell_the_whole_way(stack: RunningStack, song: dict[str, Any]) -> None:
    answer = get(stack, f"/api/jobs/{song['id']}/steps").json()
    assert answer["currentStage"] == "done"
    for step in answer["steps"]:
        assert step["status"] in ("pending", "in_progress", "completed", "error")
        assert {"percentage", "message", "timestamp"} <= set(step)
    assert [step["status"] for step in answer["steps"]][-1] == "completed"
    percentages = [step["percentage"] for step in answer["steps"]]
    assert percentages == sorted(percentages)
    assert any(step.get("duration", 0) > 0 for step in answer["steps"])


def test_the_result_is_a_redirect_to_the_document(stack: RunningStack, song: dict[str, Any]) -> None:
    answer = get(stack, f"/api/jobs/{song['id']}/result")
    assert answer.status_code in (302, 303, 307)
    assert answer.headers["location"] == song["resultUrl"]


@pytest.mark.parametrize("fmt", list(Format))
def test_every_format_is_published_and_can_be_read(stack: RunningStack, song: dict[str, Any], fmt: Format) -> None:
    files = get(stack, f"/api/jobs/{song['id']}/files").json()["files"]
    answer = httpx.get(files[fmt], timeout=30)
    assert answer.status_code == 200
    assert len(read(answer.text, fmt).lines) > 3


def test_the_audio_can_be_sought_in(stack: RunningStack, song: dict[str, Any]) -> None:
    part = httpx.get(song["audioUrl"], headers={"Range": "bytes=100-199"}, timeout=30)
    assert part.status_code == 206
    assert part.content == MIX.read_bytes()[100:200]
    assert part.headers["content-type"].startswith(("audio/", "video/"))


@pytest.mark.parametrize(
    "path",
    ["/files/../lock", "/files/..%2f..%2flock", "/files/audio/../../lock", "/files/%2fetc/passwd", "/files/incoming/x"],
)
def test_no_other_file_can_be_fetched(stack: RunningStack, path: str) -> None:
    with httpx.Client() as client:
        request = client.build_request("GET", stack.url)
        request.url = request.url.copy_with(raw_path=path.encode())  # not tidied by the client
        assert client.send(request).status_code == 404


def test_the_same_song_again_is_found_and_not_made(
    stack: RunningStack, song: dict[str, Any], media: MediaServer
) -> None:
    downloads = sum(path == "/harbor-light.opus" for path, _ in media.asked)
    again = stack.ended(stack.submit(youtubeUrl="https://www.youtube.com/watch?v=harborlight&list=PLx"))
    assert again["status"] == "completed"
    assert again["resultUrl"] == song["resultUrl"]
    assert "made before" in again["statusMessage"]
    assert sum(path == "/harbor-light.opus" for path, _ in media.asked) == downloads


def test_other_options_use_the_kept_audio(stack: RunningStack, song: dict[str, Any], media: MediaServer) -> None:
    downloads = sum(path == "/harbor-light.opus" for path, _ in media.asked)
    other = stack.ended(stack.submit(youtubeUrl="https://youtu.be/harborlight", language="en", preset="low"))
    assert other["status"] == "completed"
    assert other["resultUrl"] != song["resultUrl"]
    assert sum(path == "/harbor-light.opus" for path, _ in media.asked) == downloads


def test_a_file_on_an_allowed_host_is_fetched(stack: RunningStack, media: MediaServer) -> None:
    job = stack.ended(stack.submit(youtubeUrl=media.at("/harbor-light.opus"), preset="low", language="en"))
    assert job["status"] == "completed", job


def test_a_run_started_in_prefect_makes_its_own_job(stack: RunningStack, song: dict[str, Any]) -> None:
    environment = {
        **os.environ,
        "PREFECT_API_URL": stack.addresses.prefect_api,
        "PREFECT_HOME": str(stack.data / "cli"),
    }
    started = subprocess.run(
        [
            sys.executable,
            "-m",
            "prefect",
            "deployment",
            "run",
            "fetch/default",
            "-p",
            f"link={MIX}",
            "-p",
            "preset=low",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    run = re.search(r"UUID: ([0-9a-f-]{36})", started.stdout)
    assert run is not None, started.stdout
    eventually(lambda: "status" in stack.job(run[1]), within=60, what="the row of the run")
    job = stack.ended(run[1])
    assert job["status"] == "completed", job
    assert job["title"] == "harbor-light.mix"


def test_the_command_line_submits_follows_and_lists(stack: RunningStack, song: dict[str, Any]) -> None:
    submitted = cli(stack, "submit", "https://youtu.be/harborlight", "--wait")
    assert submitted.returncode == 0, submitted.stderr
    id = submitted.stdout.split()[0]
    listed = cli(stack, "jobs", "--limit", "100")
    assert id in listed.stdout
    assert "completed" in listed.stdout
    assert "Harbor Light" in cli(stack, "jobs", id).stdout


def test_jobs_are_listed_page_by_page(stack: RunningStack, song: dict[str, Any]) -> None:
    stack.ended(stack.submit(youtubeUrl="https://youtu.be/harborlight"))
    seen: list[str] = []
    after: str | None = None
    while True:
        page = get(stack, "/api/jobs", params={"limit": 2, **({"after": after} if after else {})}).json()
        assert len(page["jobs"]) <= 2
        seen += [job["jobId"] for job in page["jobs"]]
        after = page["next"]
        if after is None:
            break
    assert song["id"] in seen
    assert len(seen) == len(set(seen))
    assert all(job["status"] == "completed" for job in get(stack, "/api/jobs?status=completed").json()["jobs"])


def test_health_and_metrics_answer(stack: RunningStack) -> None:
    health = get(stack, "/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["database"] == {"status": "connected", "connected": True}
    assert {"timestamp", "uptime"} <= set(health.json())
    assert get(stack, "/metrics").json()["memory"]["rss"] > 10**7
    assert "yt_lyrics_jobs{" in get(stack, "/metrics", headers={"accept": "text/plain;version=0.0.4"}).text


def test_a_second_stack_on_the_folder_is_told_who_holds_it(stack: RunningStack) -> None:
    second = cli(stack, "up")
    assert second.returncode == 1
    assert f"process {stack.process.pid}" in second.stderr.replace("\n", " ")
    assert "Traceback" not in second.stderr


def test_the_document_on_disk_is_the_contracts(stack: RunningStack, song: dict[str, Any]) -> None:
    path = stack.data / "files" / "transcriptions" / song["id"] / "results.json"
    assert set(json.loads(path.read_text())) >= {"words", "srt", "plain", "metadata", "lines", "language"}
    assert not list(Path(stack.data / "files").rglob("*.part"))
