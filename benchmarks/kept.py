"""What fetch itself costs a song whose sound is kept: from its run's begin until the GPU stage is asked to go on.

Without what starting costs (Prefect's pickup, `benchmarks.pickup`). Against the same for a song that is downloaded,
from loopback: from YouTube it takes seconds.
"""

from __future__ import annotations

import json
import statistics
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import psycopg

from tests.fakes.media import MediaServer, Video
from tests.running import RunningStack, a_stack, eventually

SONGS = 40
WARM_UP = 6


def main() -> None:
    with MediaServer() as media, a_stack(media) as stack:
        pause(stack, "cuda")  # the songs need not be sung
        videos = [media.video(f"song{number:07}", Video(title=f"Song {number}")) for number in range(SONGS + WARM_UP)]
        downloaded = [fetched(stack, video, "low") for video in videos][WARM_UP:]
        kept = [fetched(stack, video, "regular") for video in videos][WARM_UP:]
    result = {
        "p50_ms": statistics.median(kept),
        "p95_ms": statistics.quantiles(kept, n=20)[18],
        "downloaded_p50_ms": statistics.median(downloaded),
        "ratio": statistics.median(kept) / statistics.median(downloaded),
        "songs": SONGS,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


def pause(stack: RunningStack, pool: str) -> None:
    url = f"{stack.addresses.prefect_api}/work_pools/{pool}"
    httpx.patch(url, json={"is_paused": True}).raise_for_status()


def fetched(stack: RunningStack, link: str, preset: str) -> float:
    """Milliseconds between the first thing that the run says of the job and its hand-over."""
    id = stack.submit(youtubeUrl=link, preset=preset)

    def steps() -> list[dict[str, Any]]:
        with psycopg.connect(stack.database_url) as connection:
            row = connection.execute("SELECT progress_log FROM jobs WHERE id = %s", (id,)).fetchone()
        return row[0] if row and any(step.get("stage") == "handover" for step in row[0]) else []

    log = eventually(steps, what=f"the hand-over of {id}")
    moments = [datetime.fromisoformat(step["timestamp"]) for step in log if step.get("stage")]
    assert all(before <= after for before, after in pairwise(moments))
    return (moments[-1] - moments[0]).total_seconds() * 1000


if __name__ == "__main__":
    main()
