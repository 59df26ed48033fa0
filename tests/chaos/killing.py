"""One run of chaos: jobs go in, parts are killed, the books are checked."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from tests.fakes.media import MediaServer
from tests.running import DEMO, RunningStack, a_stack, eventually

PARTS = {  # a word of each one's command line
    "flow": "prefect.engine",
    "worker-default": "--pool default",
    "worker-cuda": "--pool cuda",
    "prefect": "prefect.server.api.server",
    "postgres": "unix_socket_directories",
    "mirror": "infra.jobs.mirror",
    "api": "infra.api",
}
PAUSE = (1.0, 4.0)  # seconds between two kills
END = 600.0  # seconds after the last kill in which every job must have ended


def kill_one(stack: RunningStack, part: str) -> bool:
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            if PARTS[part] in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
                return True
        except psutil.Error:
            continue
    return False


def rows(stack: RunningStack) -> list[dict[str, Any]]:
    with psycopg.connect(stack.database_url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute("SELECT * FROM jobs ORDER BY id").fetchall()


def open_rows(stack: RunningStack) -> list[dict[str, Any]] | None:
    try:
        return [row for row in rows(stack) if row["status"] in ("queued", "processing")]
    except psycopg.OperationalError:
        return None


def submit(stack: RunningStack, song: Path, place: int) -> str:
    """A song of its own (another name would be found in the cache): the same sound with other bytes behind it."""

    def send() -> str | None:
        try:
            with song.open("rb") as file:
                content = file.read() + place.to_bytes(4)
            answer = httpx.post(
                f"{stack.url}/api/jobs",
                data={"preset": "low", "language": "en"},
                files={"file": (f"song {place}.opus", content)},
                timeout=30,
            )
        except httpx.TransportError:
            return None
        return answer.json()["jobId"] if answer.status_code == 201 else None

    return eventually(send, within=120, what=f"that song {place} is accepted")


def chaos(*, jobs: int, kills: int, seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    plan = [(dice.choice(list(PARTS)), dice.uniform(*PAUSE)) for _ in range(kills)]
    killed: Counter[str] = Counter()
    with MediaServer() as media, a_stack(media) as stack:
        sent: list[str] = []
        all_sent = threading.Event()

        def send_all() -> None:
            try:
                sent.extend(submit(stack, DEMO / "harbor-light.vocals.opus", place) for place in range(jobs))
            finally:
                all_sent.set()

        sender = threading.Thread(target=send_all)
        sender.start()
        clock = threading.Event()
        for part, pause in plan:
            clock.wait(pause)
            killed[part] += kill_one(stack, part)
        sender.join()
        assert len(sent) == jobs, "every song was accepted"
        eventually(lambda: open_rows(stack) == [], within=END, what="the end of every job")
        ended = rows(stack)
        clock.wait(5)  # what still runs somewhere has time to do harm
        assert rows(stack) == ended, "a row moved after its end"
        check(stack, sent, ended)
        return {
            "seed": seed,
            "jobs": jobs,
            "killed": dict(killed),
            **Counter(row["status"] for row in ended),
            "attempts": sum(row["attempt"] for row in ended),
        }


def check(stack: RunningStack, sent: list[str], ended: list[dict[str, Any]]) -> None:
    by_id = {row["id"]: row for row in ended}
    assert set(sent) <= set(by_id), "a job was lost"
    for row in ended:
        if row["status"] == "completed":
            key = row["results_url"].removeprefix("/files/")
            assert (stack.data / "files" / key).stat().st_size > 0
        else:
            assert row["status"] == "error"
            assert "was interrupted" in row["error_message"], row["error_message"]
        finished = [step for step in row["progress_log"] if step.get("stage") == "done"]
        assert len(finished) == (1 if row["status"] == "completed" else 0), "a job was published twice"
