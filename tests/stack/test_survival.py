"""Parts of the stack are killed and come back; jobs end all the same. This stack is for killing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.fakes.media import MediaServer
from tests.running import DEMO, RunningStack, a_stack, eventually, start_stack

VOCALS = DEMO / "harbor-light.vocals.opus"


@pytest.fixture(scope="module")
def fragile(media: MediaServer) -> Generator[RunningStack]:
    with a_stack(media) as stack:
        yield stack


def child(stack: RunningStack, words: str) -> psutil.Process:
    """The stack's process whose command line holds the words."""

    def look() -> psutil.Process | None:
        for process in psutil.Process(stack.process.pid).children(recursive=True):
            try:
                if words in " ".join(process.cmdline()):
                    return process
            except psutil.Error:
                continue
        return None

    return eventually(look, within=60, what=f"a process of {words}")


def singing(stack: RunningStack) -> psutil.Process:
    """The warm child of the pool `cuda`."""
    return child(stack, "--pool cuda").children()[0]


def reaches(stack: RunningStack, id: str, percentage: int) -> None:
    eventually(lambda: stack.job(id).get("pct", 0) >= percentage, within=90, what=f"{percentage} % of job {id}")


def said(stack: RunningStack, words: str) -> None:
    eventually(lambda: words in (stack.data / "up.log").read_text(), what=f'"{words}" in the terminal')


@pytest.mark.parametrize(
    ("name", "words"), [("api", "infra.api"), ("mirror", "infra.jobs.mirror"), ("worker-cuda", "--pool cuda")]
)
def test_a_process_that_dies_is_started_again_and_that_is_said(fragile: RunningStack, name: str, words: str) -> None:
    before = child(fragile, words)
    before.kill()
    said(fragile, f"{name} ended (SIGKILL) and is started again")
    eventually(lambda: child(fragile, words).pid != before.pid, what=f"another {name}")
    eventually(fragile.healthy, what="the API")
    job = fragile.ended(fragile.submit(youtubeUrl="https://youtu.be/harborlight"), within=180)
    assert job["status"] == "completed", job


def test_a_killed_transcription_is_tried_again(fragile: RunningStack) -> None:
    id = fragile.upload(VOCALS, preset="low", language="en", model="base")
    reaches(fragile, id, 30)
    singing(fragile).kill()
    job = fragile.ended(id, within=180)
    assert job["status"] == "completed", job
    assert job["attempt"] == 2
    assert any("tried again" in step["message"] for step in steps(fragile, id))


def steps(stack: RunningStack, id: str) -> list[dict[str, str]]:
    return httpx.get(f"{stack.url}/api/jobs/{id}/steps", timeout=30).json()["steps"]


def test_a_database_that_is_killed_in_mid_run_costs_no_job(fragile: RunningStack) -> None:
    id = fragile.upload(VOCALS, language="en", preset="high")
    reaches(fragile, id, 30)
    postgres = child(fragile, "unix_socket_directories")
    postgres.kill()
    said(fragile, "postgres ended (SIGKILL) and is started again")
    job = fragile.ended(id, within=240)
    assert job["status"] == "completed", job
    assert httpx.get(job["resultUrl"], timeout=30).json()["words"]


def test_a_prefect_server_that_is_killed_in_mid_run_costs_no_job(fragile: RunningStack) -> None:
    id = fragile.upload(VOCALS, language="en", preset="low")
    reaches(fragile, id, 20)
    child(fragile, "prefect.server.api.server").kill()
    said(fragile, "prefect ended (SIGKILL) and is started again")
    job = fragile.ended(id, within=240)
    assert job["status"] == "completed", job


def test_a_full_disk_is_said_in_one_sentence(media: MediaServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a disk of 400 kB can be made only as root")
    try:
        with a_stack(media) as stack:
            (stack.data / "files").rename(stack.data / "before")
            (stack.data / "files").symlink_to(disk)
            job = stack.ended(stack.submit(youtubeUrl="https://youtu.be/harborlight"))
            assert job["status"] == "error"
            assert "disk is full" in job["error"]
            assert job["errorKind"] == "passing"
            (disk / "incoming").mkdir(exist_ok=True)
            with (DEMO / "harbor-light.mix.opus").open("rb") as file:
                answer = httpx.post(f"{stack.url}/api/jobs", files={"file": ("a.opus", file)}, timeout=60)
            assert answer.status_code == 507
            assert "disk is full" in answer.json()["error"]
            assert not [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size], "leftovers"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_was_running_when_the_stack_stopped_is_done_by_the_next(media: MediaServer, tmp_path: Path) -> None:
    environment = {"ALLOWED_HOSTS": f"{media.host}:{media.port}", **media.environment()}
    first = start_stack(tmp_path, **environment)
    running = first.upload(VOCALS, language="en")
    waiting = first.submit(youtubeUrl="https://youtu.be/harborlight")
    reaches(first, running, 30)
    family = psutil.Process(first.process.pid).children(recursive=True)
    first.stop(signal.SIGINT)
    assert first.process.returncode == 0
    eventually(lambda: not [process for process in family if process.is_running()], what="the end of every process")
    assert not (tmp_path / "addresses.json").exists()

    second = start_stack(tmp_path, **environment)
    try:
        for id in (running, waiting):
            assert second.ended(id, within=180)["status"] == "completed"
        assert "its service was stopped" in str(steps(second, running))
    finally:
        second.stop()


def test_a_stack_that_is_killed_leaves_no_process_and_loses_no_job(media: MediaServer, tmp_path: Path) -> None:
    environment = {"ALLOWED_HOSTS": f"{media.host}:{media.port}", **media.environment()}
    first = start_stack(tmp_path, **environment)
    id = first.upload(VOCALS, language="en")
    reaches(first, id, 30)
    family = psutil.Process(first.process.pid).children(recursive=True)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    eventually(lambda: not [p for p in family if p.is_running()], within=60, what="the end of every process")

    second = start_stack(tmp_path, **environment)
    try:
        assert second.ended(id, within=180)["status"] == "completed"
    finally:
        second.stop()
