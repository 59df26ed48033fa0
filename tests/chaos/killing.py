"""One run of chaos: jobs go in, parts are killed, the books are checked."""

from __future__ import annotations

import random
import signal
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg

from tasks.audio import RATE, decode
from tests.fakes.media import MediaServer
from tests.running import DEMO, RunningStack, a_stack, eventually

PARTS = {  # a word of each one's command line
    "flow-default": "infra.warm.child",
    "flow-cuda": "infra.warm.child",
    "worker-default": "--pool default",
    "worker-cuda": "--pool cuda",
    "prefect": "prefect.server.api.server",
    "postgres": "unix_socket_directories",
    "mirror": "infra.jobs.mirror",
    "api": "infra.api",
}
PAUSE = (2.0, 5.0)  # seconds between two kills
END = 900.0  # seconds after the last kill in which every job must have ended
SHORT = 12.0  # seconds of the demo song that are sung


def kill_one(stack: RunningStack, part: str, dice: random.Random) -> bool:
    """Whether there was such a process. Of a flow's children, any one of its pool."""
    found: list[psutil.Process] = []
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        try:
            parent = process.parent()
            of_pool = not part.startswith("flow-") or (parent and f"--pool {part[5:]}" in " ".join(parent.cmdline()))
            if PARTS[part] in " ".join(process.cmdline()) and of_pool:
                found.append(process)
        except psutil.Error:
            continue
    if not found:
        return False
    try:
        dice.choice(sorted(found, key=lambda process: process.pid)).send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def short_song(folder: Path) -> Path:
    """The begin of the demo song, as a WAV file: more bytes behind it make it another song with the same sound."""
    samples = decode(DEMO / "harbor-light.vocals.opus", max_seconds=600).between(0.0, SHORT)
    song = folder / "short.wav"
    with wave.open(str(song), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return song


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
                files={"file": (f"song {place}{song.suffix}", content)},
                timeout=30,
            )
        except httpx.TransportError:
            return None
        return answer.json()["jobId"] if answer.status_code == 201 else None

    return eventually(send, within=120, what=f"that song {place} is accepted")


def plan(seed: int) -> Iterator[tuple[str, float]]:
    """What is killed after which pause, for ever; the same for the same seed."""
    dice = random.Random(seed)
    while True:
        yield dice.choice(list(PARTS)), dice.uniform(*PAUSE)


def chaos(
    *, jobs: int, seed: int, kills: int | None = None, tell: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Send the songs while parts are killed: so many times, or for as long as songs are left."""
    dice = random.Random(seed)
    killed: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, MediaServer() as media, a_stack(media) as stack:
        sent: list[str] = []
        song = short_song(Path(folder))
        sender = threading.Thread(target=lambda: sent.extend(submit(stack, song, place) for place in range(jobs)))
        sender.start()
        clock = threading.Event()
        for part, pause in islice(plan(seed), kills):
            clock.wait(pause)
            left = open_rows(stack)
            if kills is None and not sender.is_alive() and left == []:
                break
            killed[part] += kill_one(stack, part, dice)
            shown = "?" if left is None else len(left)
            tell(f"{time.monotonic() - began:6.0f} s  {len(sent)} sent, {shown} open; killed {part}")
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
            "kills": sum(killed.values()),
            "killed": dict(killed),
            "seconds": round(time.monotonic() - began),
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
