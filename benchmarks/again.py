"""How soon a song that was made before is there again: from `POST /api/jobs` until its job says completed.

Against the same request of a song whose sound alone is kept, which has to go through Prefect and the model.
"""

from __future__ import annotations

import json
import statistics
import time

import httpx

from tests.fakes.media import MediaServer
from tests.running import RunningStack, a_stack

CALLS = 200
WARM_UP = 10
SUNG = 3  # songs that are sung for comparison


def again(stack: RunningStack, client: httpx.Client, asked: dict[str, str]) -> float:
    """Milliseconds until the job is completed, as a caller sees it who asks at once and as often as it takes."""
    began = time.perf_counter()
    id = client.post(f"{stack.url}/api/jobs", json=asked).raise_for_status().json()["jobId"]
    while client.get(f"{stack.url}/api/jobs/{id}").raise_for_status().json()["status"] != "completed":
        time.sleep(0.005)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    with MediaServer() as media, a_stack(media) as stack, httpx.Client(timeout=60) as client:
        link = {"youtubeUrl": "https://youtu.be/harborlight", "preset": "low"}
        again(stack, client, link)
        # Another language is another request for the same sound.
        sung = [again(stack, client, {**link, "language": language}) for language in ("en", "es", "de")[:SUNG]]
        for _ in range(WARM_UP):
            again(stack, client, link)
        took = [again(stack, client, link) for _ in range(CALLS)]
    result = {
        "p50_ms": statistics.median(took),
        "p99_ms": statistics.quantiles(took, n=100)[98],
        "sung_p50_ms": statistics.median(sung),
        "ratio": statistics.median(took) / statistics.median(sung),
        "calls": CALLS,
    }
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


if __name__ == "__main__":
    main()
