"""How soon `yt-lyrics up` is ready on a fresh folder and on a used one, and how soon it is gone.

Against what Prefect's users start: `prefect server start` (on sqlite, without workers, deployments, API or page).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from infra.stack.stack import free_port
from tests.running import eventually, start_stack


def ready_and_gone(data: Path) -> tuple[float, float]:
    began = time.perf_counter()
    stack = start_stack(data)
    ready = time.perf_counter() - began
    return ready, stack.stop()


def prefect_ready(home: Path) -> float:
    port = free_port("127.0.0.1", preferred=0)
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {**own, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    began = time.perf_counter()
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
        httpx.Client() as client,
    ):

        def answers() -> bool:
            try:
                return client.get(f"http://127.0.0.1:{port}/api/health").is_success
            except httpx.TransportError:
                return False

        eventually(answers, within=120, what="Prefect's server")
        ready = time.perf_counter() - began
        process.terminate()
    return ready


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ytl-", ignore_cleanup_errors=True) as folder:
        prefect = prefect_ready(Path(folder) / "prefect")
        fresh, stop = ready_and_gone(Path(folder) / "data")
        again, stop_again = ready_and_gone(Path(folder) / "data")
    result = {
        "ready_s": fresh,
        "ready_again_s": again,
        "stop_s": max(stop, stop_again),
        "prefect_alone_s": prefect,
        "ratio": fresh / prefect,
    }
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
