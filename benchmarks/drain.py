"""How many short jobs a stack finishes in a minute: API, both flows and publishing, with the model work stubbed.

Then how much memory 1,000 more jobs cost that only wait, and how many processes. In the same run, for comparison: the
same pair of flow runs for each job on Prefect's `process` workers of the same size, without any work in them.
"""

from __future__ import annotations

import json
import os
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import psutil

from tests.fakes.media import MediaServer
from tests.running import RunningStack, a_cluster, a_stack, eventually
from tests.workers import PrefectServer, a_prefect_server, a_worker

STUB = Path(__file__).parent / "stub"
JOBS = 100
WAITING = 1000
PROCESS_JOBS = 10
OURS = ("infra.api", "infra.jobs.mirror", "infra.warm.child", "worker start")


def sound(number: int) -> bytes:
    """Two seconds of quiet that no other job has."""
    file = BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(8000)
        audio.writeframes(number.to_bytes(4, "little") * 8000)
    return file.getvalue()


def send(stack: RunningStack, numbers: range) -> list[str]:
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(4) as senders:

        def one(number: int) -> str:
            files = {"file": (f"{number}.wav", sound(number))}
            return client.post(f"{stack.url}/api/jobs", files=files).raise_for_status().json()["jobId"]

        return list(senders.map(one, numbers))


def counted(stack: RunningStack) -> dict[str, int]:
    return httpx.get(f"{stack.url}/metrics", timeout=30).json()["jobs"]


def memory(stack: RunningStack) -> tuple[int, float]:
    """Processes of ours, and their memory in MB (each page counted once)."""
    found = [
        process
        for process in psutil.Process(stack.process.pid).children(recursive=True)
        if any(words in " ".join(process.cmdline()) for words in OURS)
    ]
    return len(found), sum(process.memory_full_info().pss for process in found) / 2**20


def drain(stack: RunningStack) -> float:
    """Seconds from the first submit to the last job's end."""
    warmed = send(stack, range(10_000, 10_005))
    for id in warmed:
        stack.ended(id)
    before = counted(stack).get("completed", 0)
    began = time.monotonic()
    send(stack, range(JOBS))
    eventually(lambda: counted(stack).get("completed", 0) == before + JOBS, within=400, what="the end of every job")
    return time.monotonic() - began


def wait_in_queue(stack: RunningStack) -> dict[str, float]:
    """What jobs cost that only wait."""
    for pool in ("default", "cuda"):
        url = f"{stack.addresses.prefect_api}/work_pools/{pool}"
        httpx.patch(url, json={"is_paused": True}).raise_for_status()
    # The first hundred fill buffers and connection pools that stay as they are.
    send(stack, range(20_000, 20_100))
    time.sleep(10)
    processes, megabytes = memory(stack)
    send(stack, range(30_000, 30_000 + WAITING))
    time.sleep(15)  # two rounds of the mirror
    more_processes, more_megabytes = memory(stack)
    return {
        "waiting": counted(stack)["queued"],
        "more_processes": more_processes - processes,
        "more_mb": more_megabytes - megabytes,
        "mb": more_megabytes,
    }


def process_workers(server: PrefectServer) -> float:
    """Jobs a minute of Prefect's own workers, two flow runs a job, three at a time as in our stack."""
    for pool in ("default", "cuda"):
        server.make_pool(pool, type="process", command="python -m prefect.engine")
    with (
        a_worker(server, "default", type="process", limit=2, PREFECT_WORKER_QUERY_SECONDS="1"),
        a_worker(server, "cuda", type="process", limit=1, PREFECT_WORKER_QUERY_SECONDS="1"),
    ):
        server.ended(server.run("quick", "default"))
        began = time.monotonic()
        runs = [server.run("quick", pool) for _ in range(PROCESS_JOBS) for pool in ("default", "cuda")]
        for run in runs:
            assert server.ended(run, within=400)["type"] == "COMPLETED"
        return PROCESS_JOBS * 60 / (time.monotonic() - began)


def main() -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STUB), os.environ.get("PYTHONPATH")]))
    with MediaServer() as media, a_stack(media) as stack:
        jobs_per_minute = JOBS * 60 / drain(stack)
        queue = wait_in_queue(stack)
    del os.environ["PYTHONPATH"]
    with a_cluster() as postgres, a_prefect_server(postgres) as server:
        process_per_minute = process_workers(server)
    result = {
        "jobs_per_minute": jobs_per_minute,
        "process_jobs_per_minute": process_per_minute,
        "ratio": jobs_per_minute / process_per_minute,
        **queue,
    }
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
