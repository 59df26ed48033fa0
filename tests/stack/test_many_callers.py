"""Many callers who want the same song, on a whole stack: one download, one transcription, a finished job for each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.fakes.media import MediaServer, Video
from tests.running import RunningStack, eventually

FIFTY = 50


def runs_of(stack: RunningStack, jobs: list[str], flow: str) -> list[dict[str, Any]]:
    asked = {"flow_runs": {"name": {"any_": [f"{flow} {job}" for job in jobs]}}, "limit": 200}
    return (
        httpx.post(f"{stack.addresses.prefect_api}/flow_runs/filter", json=asked, timeout=30).raise_for_status().json()
    )


def test_fifty_submissions_at_once_are_one_work(stack: RunningStack, media: MediaServer) -> None:
    media.video("fiftyatonce", Video(audio="/slow.opus?rate=1000000"))
    before = len(media.asked)
    with ThreadPoolExecutor(FIFTY) as pool:
        jobs = list(
            pool.map(lambda _: stack.submit(youtubeUrl="https://youtu.be/fiftyatonce", preset="low"), range(FIFTY))
        )
    ended = [stack.ended(job) for job in jobs]
    assert {job["status"] for job in ended} == {"completed"}
    assert len({job["resultUrl"] for job in ended}) == 1
    assert sum(path.startswith("/slow.opus") for path, _ in media.asked[before:]) == 1
    assert len(runs_of(stack, jobs, "fetch")) == 1
    assert len(runs_of(stack, jobs, "transcribe")) == 1


def test_a_song_that_its_first_caller_cancels_is_finished_for_the_next(stack: RunningStack, media: MediaServer) -> None:
    media.video("goesonalone", Video(audio="/slow.opus?rate=300000"))
    first, second = (stack.submit(youtubeUrl="https://youtu.be/goesonalone", preset="low") for _ in range(2))
    eventually(lambda: stack.job(second)["status"] == "processing", what="the second caller's view of the work")
    assert httpx.delete(f"{stack.url}/api/jobs/{first}", timeout=30).is_success
    assert stack.ended(second)["status"] == "completed"
    assert stack.job(first)["status"] == "cancelled"


def test_a_finished_song_is_there_when_the_answer_comes(stack: RunningStack, media: MediaServer) -> None:
    link = media.video("askedforago", Video())
    assert stack.ended(stack.submit(youtubeUrl=link, preset="low"))["status"] == "completed"
    again = stack.submit(youtubeUrl="https://music.youtube.com/watch?v=askedforago&list=RDx", preset="low")
    assert stack.job(again)["status"] == "completed"
    assert runs_of(stack, [again], "fetch") == []


def incoming(stack: RunningStack) -> list[str]:
    folder = stack.data / "files" / "incoming"
    return [str(path) for path in folder.rglob("*.part")] if folder.is_dir() else []


def test_a_cancelled_download_leaves_nothing_behind(stack: RunningStack, media: MediaServer) -> None:
    link = media.video("cancelledby", Video(audio="/slow.opus?rate=50000"))
    id = stack.submit(youtubeUrl=link, preset="low")
    eventually(lambda: incoming(stack), what="a download on its way")
    assert httpx.delete(f"{stack.url}/api/jobs/{id}", timeout=30).is_success
    eventually(lambda: not incoming(stack), what="an empty folder")


def test_a_download_whose_process_is_killed_leaves_nothing_for_the_next(
    stack: RunningStack, media: MediaServer
) -> None:
    link = media.video("killedinmid", Video(audio="/slow.opus?rate=50000"))
    id = stack.submit(youtubeUrl=link, preset="low")
    before = eventually(lambda: incoming(stack), what="a download on its way")
    folder = Path(before[0]).relative_to(stack.data / "files" / "incoming").parts[0]
    child = next(
        process
        for process in psutil.Process(stack.process.pid).children(recursive=True)
        if any(folder in file.path for file in open_files(process))
    )
    media.video("killedinmid", Video())
    child.kill()
    assert stack.ended(id)["status"] == "completed"
    assert incoming(stack) == []


def open_files(process: psutil.Process) -> list[Any]:
    try:
        return process.open_files()
    except psutil.Error:
        return []
