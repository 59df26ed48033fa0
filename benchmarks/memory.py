"""Whether a warm child's memory stays flat over 200 songs.

Real transcriptions of a short song in one child. The first 20 fill caches that stay; from there on the memory of
every 20th song is noted, and `spread` is how far these lie from their middle.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import httpx
import psutil

from tests.chaos.killing import short_song, submit
from tests.fakes.media import MediaServer
from tests.running import RunningStack, a_stack

SONGS = 200
EACH = 20
WAVE = 5  # songs in the queue at a time


def child_of(stack: RunningStack) -> psutil.Process:
    """The warm child of the pool `cuda`."""
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        if "--pool cuda" in " ".join(process.cmdline()):
            return process.children()[0]
    raise AssertionError("no worker of the pool cuda")


def keep_one_child(stack: RunningStack) -> None:
    """For as many runs as this takes; the usual is 100."""
    url = f"{stack.addresses.prefect_api}/work_pools/cuda"
    template = httpx.get(url).raise_for_status().json()["base_job_template"]
    template["variables"]["properties"]["max_runs"]["default"] = 10 * SONGS
    httpx.patch(url, json={"base_job_template": template}).raise_for_status()
    worker = child_of(stack).parent()
    assert worker is not None
    worker.kill()  # its successor reads the new template


def main() -> None:
    noted: list[float] = []
    with tempfile.TemporaryDirectory() as folder, MediaServer() as media, a_stack(media) as stack:
        keep_one_child(stack)
        song = short_song(Path(folder))
        stack.ended(submit(stack, song, 0))
        child = child_of(stack)
        for begin in range(1, SONGS + 1, WAVE):
            for id in [submit(stack, song, place) for place in range(begin, begin + WAVE)]:
                assert stack.ended(id)["status"] == "completed"
            done = begin + WAVE - 1
            if done % EACH == 0:
                noted.append(child.memory_info().rss / 2**20)
        assert child.is_running(), "the child was replaced"
    middle = statistics.median(noted)
    result = {
        "songs": SONGS,
        "mb": [round(megabytes) for megabytes in noted],
        "spread": round(max(abs(megabytes - middle) for megabytes in noted) / middle, 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
