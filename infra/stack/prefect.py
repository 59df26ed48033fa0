"""What the stack asks of its Prefect server, over plain HTTP: importing Prefect would cost its start two seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

LEFT_BEHIND = ["PENDING", "RUNNING", "CANCELLING"]
STOPPED = {"type": "CRASHED", "name": "Crashed", "message": "Its service was stopped"}


def server_command(port: int) -> list[str]:
    return ["server", "start", "--host", "127.0.0.1", "--port", str(port)]


def worker_command(pool: str, limit: int) -> list[str]:
    return ["worker", "start", "--pool", pool, "--type", "process", "--limit", str(limit), "--name", f"embedded {pool}"]


def deploy_command(prefect_yaml: Path) -> list[str]:
    return ["--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_yaml)]


def pools(prefect_yaml: Path) -> set[str]:
    deployments: list[dict[str, Any]] = yaml.safe_load(prefect_yaml.read_text())["deployments"]
    return {deployment["work_pool"]["name"] for deployment in deployments}


def what_is_deployed(prefect_yaml: Path) -> str:
    """A fingerprint of all that `prefect deploy` reads: the same again needs no second deploy."""
    flows = prefect_yaml.parent.rglob("flows/*.py")
    digest = hashlib.sha256()
    for path in (prefect_yaml, *sorted(flows)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=30)  # one: making it costs more than many calls


async def answers(url: str) -> bool:
    try:
        return (await _client().get(f"{url}/health", timeout=2)).is_success
    except httpx.TransportError:
        return False


async def prepare(api: str, pools: Iterable[str]) -> None:
    """Before the first worker: runs of an earlier stack are told as crashed, since their processes ended with it and
    Prefect would show them as running for ever; and the work pools are made, which the workers fill in.
    """
    left = {"flow_runs": {"state": {"type": {"any_": LEFT_BEHIND}}}, "limit": 200}
    while runs := (await _client().post(f"{api}/flow_runs/filter", json=left)).raise_for_status().json():
        for run in runs:
            await _client().post(f"{api}/flow_runs/{run['id']}/set_state", json={"state": STOPPED, "force": True})
    for pool in sorted(pools):
        made = await _client().post(f"{api}/work_pools/", json={"name": pool, "type": "process"})
        if made.status_code != httpx.codes.CONFLICT.value:  # it is there already
            made.raise_for_status()


async def workers_are_online(api: str, pools: Iterable[str]) -> bool:
    for pool in pools:
        asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
        answer = await _client().post(f"{api}/work_pools/{pool}/workers/filter", json=asked)
        if answer.is_error or not answer.json():
            return False
    return True
