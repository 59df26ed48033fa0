"""What the stack asks of its Prefect server, over plain HTTP: importing Prefect would cost its start two seconds."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.runs import HANDED_BACK
from infra.settings import settings
from infra.stack.pools import Pool, make, pools

LEFT_BEHIND = ["PENDING", "RUNNING", "CANCELLING"]
STOPPED = {"type": "CRASHED", "name": "Crashed", "message": f"{HANDED_BACK}: its service ended"}


def server_command(port: int) -> list[str]:
    return ["server", "start", "--host", "127.0.0.1", "--port", str(port)]


def worker_command(pool: str, limit: int) -> list[str]:
    return ["worker", "start", "--pool", pool, "--type", "warm", "--limit", str(limit), "--name", f"embedded {pool}"]


def deploy_command(prefect_yaml: Path) -> list[str]:
    return ["--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_yaml)]


def deploy_everything(api: str, environment: Mapping[str, str]) -> int:
    """Pools and flows, on a server that is not ours; the exit status of Prefect's own command."""
    prefect_yaml = find_prefect_yaml()
    asyncio.run(make_pools(api, pools(prefect_yaml), ours=False))
    command = [sys.executable, "-m", "prefect", *deploy_command(prefect_yaml)]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def find_prefect_yaml() -> Path:
    """In a clone at its root, in an installed wheel beside this module."""
    here = Path(__file__).resolve()
    return next(path for path in (here.parents[2] / "prefect.yaml", here.parent / "prefect.yaml") if path.exists())


def _deployments(prefect_yaml: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(prefect_yaml.read_text())["deployments"]


def what_is_deployed(prefect_yaml: Path) -> str:
    """A fingerprint of all that `prefect deploy` reads: the same again needs no second deploy."""
    flows = prefect_yaml.parent.rglob("flows/*.py")
    digest = hashlib.sha256()
    for path in (prefect_yaml, *sorted(flows)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _client() -> httpx.AsyncClient:
    """One: making it costs more than many calls."""
    return httpx.AsyncClient(timeout=30, headers=settings().prefect_headers)


async def answers(url: str) -> bool:
    try:
        return (await _client().get(f"{url}/health", timeout=2)).is_success
    except httpx.TransportError:
        return False


async def knows_flows(api: str, prefect_yaml: Path) -> bool:
    """Whether its database still holds what was deployed to it."""
    known = (await _client().post(f"{api}/deployments/count", json={})).raise_for_status().json()
    return known >= len(_deployments(prefect_yaml))


async def knows(api: str, deployments: Iterable[str]) -> bool:
    for name in deployments:
        if not (await _client().get(f"{api}/deployments/name/{name}")).is_success:
            return False
    return True


async def crash_runs_left_behind(api: str) -> None:
    """Runs of an earlier stack ended with its processes; Prefect would show them as running for ever."""
    left = {"flow_runs": {"state": {"type": {"any_": LEFT_BEHIND}}}, "limit": 200}
    while runs := (await _client().post(f"{api}/flow_runs/filter", json=left)).raise_for_status().json():
        for run in runs:
            await _client().post(f"{api}/flow_runs/{run['id']}/set_state", json={"state": STOPPED, "force": True})


async def make_pools(api: str, wanted: Iterable[Pool], *, ours: bool) -> None:
    await asyncio.gather(*(make(_client(), api, pool, ours=ours) for pool in wanted))


async def workers_are_online(api: str, pools: Iterable[str]) -> bool:
    for pool in pools:
        asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
        answer = await _client().post(f"{api}/work_pools/{pool}/workers/filter", json=asked)
        if answer.is_error or not answer.json():
            return False
    return True
