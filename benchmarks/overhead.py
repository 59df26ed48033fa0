"""What all around the work costs a real song on a warm stack: from POST to completed, minus the plain functions' time.

`work_s` is the same song by the same plain functions in this process, models loaded: probe, keep, sing, publish.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from infra.jobs.request import Preset, Request
from infra.storage import LocalStorage
from tasks import cache, gpu
from tasks.audio import probe
from tasks.publish import publish
from tasks.song import Audio
from tests.fakes.media import MediaServer
from tests.running import DEMO, RunningStack, a_stack

SONG = DEMO / "harbor-light.mix.opus"
ROUNDS = 5
REQUEST = Request(link="-", preset=Preset.REGULAR, language="en")


def another(folder: Path, number: int) -> Path:
    """The same sound with other bytes behind it: not found among what is kept."""
    song = folder / f"song {number}.opus"
    song.write_bytes(SONG.read_bytes() + number.to_bytes(4, "little"))
    return song


def plain(folder: Path, number: int) -> float:
    song = another(folder, number)
    store = LocalStorage(folder / "files")
    began = time.perf_counter()
    source = cache.keep_upload(store, song, song.name)
    found = cache.kept(store, source)
    assert found is not None
    track = probe(found[1].path, name=song.stem)
    heard = gpu.sing(Audio(path=found[1].path, duration=track.duration, title=song.stem), REQUEST)
    publish(store, f"job-{number}", heard)
    return time.perf_counter() - began


def through_everything(stack: RunningStack, folder: Path, number: int) -> float:
    song = another(folder, number)
    began = time.perf_counter()
    id = stack.upload(song, preset="regular", language="en")
    while (job := stack.job(id))["status"] not in ("completed", "error"):
        time.sleep(0.05)
    assert job["status"] == "completed", job
    return time.perf_counter() - began


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="ytl-"))
    try:
        with MediaServer() as media, a_stack(media) as stack:
            walls, works = [], []
            for number in range(ROUNDS + 1):  # by turns, so that both meet the same machine
                walls.append(through_everything(stack, folder, number))
                works.append(plain(folder, 1000 + number))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    wall, work = statistics.median(walls[1:]), statistics.median(works[1:])
    result = {"overhead_s": wall - work, "wall_s": wall, "work_s": work, "ratio": wall / work}
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
