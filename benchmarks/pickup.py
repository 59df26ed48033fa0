"""From creating a flow run to the first line of its flow: our warm worker against Prefect's `process` worker.

One server, one run after the other, an idle worker each. `process_p50_s` is Prefect's worker as it comes;
`tuned_process_p50_s` polls each second and imports Prefect once instead of twice.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from tests.running import a_cluster, eventually
from tests.workers import PrefectServer, a_prefect_server, a_worker

RUNS = 30
PROCESS_RUNS = 7  # they take seconds each


def pickups(server: PrefectServer, pool: str, runs: int) -> list[float]:
    """Seconds of each pickup; a first run, which is not counted, warms the server up."""
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs + 1):
            place = Path(folder) / str(number)
            created = time.time()
            run = server.run("quick", pool, place=str(place))
            assert server.ended(run)["type"] == "COMPLETED"
            took.append(float(place.read_text().split()[0]) - created)
            time.sleep(0.2)  # what the worker still does for this run must not delay the next
    return took[1:]


def main() -> None:
    with a_cluster() as postgres, a_prefect_server(postgres) as server:
        server.make_pool("warm", preload=["tests.flows_for_workers"])
        server.make_pool("process", type="process")
        server.make_pool("tuned", type="process", command="python -m prefect.engine")
        with a_worker(server, "warm"):
            log = server.folder / "worker-warm.log"
            eventually(lambda: "is ready" in log.read_text(), what="a warm child")
            warm = pickups(server, "warm", RUNS)
        with a_worker(server, "process", type="process"):
            process = pickups(server, "process", PROCESS_RUNS)
        with a_worker(server, "tuned", type="process", PREFECT_WORKER_QUERY_SECONDS="1"):
            tuned = pickups(server, "tuned", PROCESS_RUNS)
    p50, process_p50 = statistics.median(warm), statistics.median(process)
    result = {
        "p50_s": p50,
        "p90_s": statistics.quantiles(warm, n=10)[8],
        "process_p50_s": process_p50,
        "tuned_process_p50_s": statistics.median(tuned),
        "ratio": process_p50 / p50,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
