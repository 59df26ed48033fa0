"""`python -m infra.stack.register PREFECT.YAML`: what the embedded Prefect server must know before workers start.

Runs that an earlier stack left behind are marked as crashed (their processes ended with it, Prefect would show them
as running for ever), the work pools are made, and `prefect deploy --all` registers prefect.yaml. Begins with a line
on standard input, like `gate`.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.cli import app
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Crashed
from prefect.workers.process import ProcessWorker

LEFT_BEHIND = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def crash_runs_left_behind(client: PrefectClient) -> None:
    left = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=LEFT_BEHIND)))
    while runs := await client.read_flow_runs(flow_run_filter=left, limit=200):
        for run in runs:
            await client.set_flow_run_state(run.id, Crashed(message="Its service was stopped"), force=True)


async def make_pools(client: PrefectClient, names: set[str]) -> None:
    template = ProcessWorker.get_default_base_job_template()
    for name in sorted(names):
        pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        try:
            await client.create_work_pool(pool)
        except ObjectAlreadyExists:
            continue


async def prepare(pools: set[str]) -> None:
    async with get_client() as client:
        await crash_runs_left_behind(client)
        await make_pools(client, pools)


def main() -> None:
    prefect_yaml = Path(sys.argv[1])
    deployments: list[dict[str, Any]] = yaml.safe_load(prefect_yaml.read_text())["deployments"]
    importlib.import_module("prefect.cli.deploy")  # before the wait: importing is most of what this costs
    if not sys.stdin.readline():
        return
    asyncio.run(prepare({deployment["work_pool"]["name"] for deployment in deployments}))
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_yaml)]
    sys.exit(app())


if __name__ == "__main__":
    main()
