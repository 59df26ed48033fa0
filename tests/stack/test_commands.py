"""`yt-lyrics deploy` and `yt-lyrics mirror`, on a Prefect server and a database that are not ours."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from infra.jobs import table
from infra.stack.pools import pools
from tests.running import ROOT, eventually
from tests.stack.deployed import House, a_house, python, uploaded
from tests.workers import PrefectServer, a_process


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path) -> Generator[House]:
    with a_house(prefect, database, tmp_path) as made:
        yield made


@pytest.mark.parametrize("pool", pools(ROOT / "prefect.yaml"), ids=lambda pool: pool.name)
def test_deploy_makes_each_pool_as_prefect_yaml_defines_it(prefect: PrefectServer, pool) -> None:
    made = prefect.call("GET", f"/work_pools/{pool.name}")
    assert (made["type"], made["concurrency_limit"]) == ("warm", pool.concurrency_limit)
    assert made["base_job_template"] == pool.template
    queues = {queue["name"]: queue for queue in prefect.call("POST", f"/work_pools/{pool.name}/queues/filter", {})}
    assert queues["people"]["priority"] < queues["nightly"]["priority"]
    for name, about in pool.queues.items():
        assert queues[name]["concurrency_limit"] == about.get("concurrency_limit")


@pytest.mark.parametrize("words", [["flows.cli", "deploy"], ["prefect", "--no-prompt", "deploy", "--all"]], ids=str)
def test_deploying_again_works_and_changes_no_pool(prefect: PrefectServer, words: list[str]) -> None:
    prefect.call("PATCH", "/work_pools/cuda", {"concurrency_limit": 4})  # as its operator wants it
    before = {deployment["id"] for deployment in prefect.call("POST", "/deployments/filter", {})}
    done = python("-m", *words, environment=prefect.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {deployment["id"] for deployment in prefect.call("POST", "/deployments/filter", {})} == before
    assert prefect.call("GET", "/work_pools/cuda")["concurrency_limit"] == 4
    prefect.call("PATCH", "/work_pools/cuda", {"concurrency_limit": 1})


def test_a_mirror_of_its_own_starts_what_the_api_could_not_and_stops_when_asked(house: House) -> None:
    id = table.new_id()
    table.insert(uploaded(), id=id)
    environment = house.prefect.environment | {"DATABASE_URL": house.database, "YT_LYRICS_DATA": str(house.data)}
    with a_process(["-m", "flows.cli", "mirror"], environment, house.data / "mirror.log") as mirror:

        def started() -> str | None:
            job = table.get(id)
            return job.run_id if job else None

        run = eventually(started, within=30, what="a run for the row")
        assert house.prefect.state(run)["type"] == "SCHEDULED"
        mirror.send_signal(signal.SIGTERM)
        assert mirror.wait(15) == 0
