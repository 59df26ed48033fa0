"""How soon `POST /api/jobs` answers on an idle stack, against Prefect's own call that starts a run.

The pools are paused meanwhile, so that nothing of what is asked is worked on.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from itertools import count

import httpx

from tests.fakes.media import MediaServer
from tests.running import RunningStack, a_stack

CALLS = 200
WARM_UP = 10


def timed(call: Callable[[], object]) -> list[float]:
    """Milliseconds of each call, one after the other."""
    for _ in range(WARM_UP):
        call()
    took: list[float] = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return took


def pause_pools(stack: RunningStack) -> None:
    for pool in ("default", "cuda"):
        url = f"{stack.addresses.prefect_api}/work_pools/{pool}"
        httpx.patch(url, json={"is_paused": True}).raise_for_status()


def main() -> None:
    with MediaServer() as media, a_stack(media) as stack, httpx.Client(timeout=30) as client:
        pause_pools(stack)
        prefect = stack.addresses.prefect_api
        deployment = client.get(f"{prefect}/deployments/name/fetch/default").raise_for_status().json()["id"]
        run = {"parameters": {"link": "https://youtu.be/harborlight"}, "state": {"type": "SCHEDULED"}}
        videos = count()

        def post() -> None:  # each another song: the same one again would start no run
            asked = {"youtubeUrl": f"https://youtu.be/{next(videos):011}"}
            client.post(f"{stack.url}/api/jobs", json=asked).raise_for_status()

        def start() -> None:
            client.post(f"{prefect}/deployments/{deployment}/create_flow_run", json=run).raise_for_status()

        def health() -> None:
            client.get(f"{stack.url}/health").raise_for_status()

        posts, starts, healths = timed(post), timed(start), timed(health)
    result = {
        "p50_ms": statistics.median(posts),
        "p99_ms": statistics.quantiles(posts, n=100)[98],
        "health_p50_ms": statistics.median(healths),
        "prefect_p50_ms": statistics.median(starts),
        "ratio": statistics.median(posts) / statistics.median(starts),
        "calls": CALLS,
    }
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
