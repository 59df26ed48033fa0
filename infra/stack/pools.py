"""The work pools that prefect.yaml defines, made over plain HTTP."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

TEMPLATE = Path(__file__).parents[1] / "warm" / "template.json"
TYPE = "warm"


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    concurrency_limit: int | None = None
    queues: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    variables: dict[str, Any] = field(default_factory=dict[str, Any])  # defaults in the job template

    @property
    def template(self) -> dict[str, Any]:
        template = json.loads(TEMPLATE.read_text())
        for name, default in self.variables.items():
            template["variables"]["properties"][name]["default"] = default
        return template


def pools(prefect_yaml: Path) -> list[Pool]:
    defined: dict[str, dict[str, Any]] = yaml.safe_load(prefect_yaml.read_text())["definitions"]["pools"]
    return [Pool(name, **about) for name, about in defined.items()]


def with_gpus(pool: Pool, gpus: int) -> Pool:
    """A pool whose runs take a GPU each."""
    devices = {"devices": [str(number) for number in range(gpus)]} if gpus > 1 else {}
    return Pool(pool.name, max(gpus, 1), pool.queues, pool.variables | devices)


def gpus() -> int:
    """How many NVIDIA GPUs this machine shows us."""
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))


async def make(client: httpx.AsyncClient, api: str, pool: Pool, *, ours: bool) -> None:
    """Make the pool and its queues where they are missing; a server of our own gets them as they are defined."""
    wanted = {"concurrency_limit": pool.concurrency_limit, "base_job_template": pool.template}
    there = await client.get(f"{api}/work_pools/{pool.name}")
    if ours and there.is_success and there.json()["type"] != TYPE:  # of an earlier version
        (await client.delete(f"{api}/work_pools/{pool.name}")).raise_for_status()
        there = await client.get(f"{api}/work_pools/{pool.name}")
    if there.status_code == httpx.codes.NOT_FOUND.value:
        made = await client.post(f"{api}/work_pools/", json={"name": pool.name, "type": TYPE, **wanted})
        if made.status_code != httpx.codes.CONFLICT.value:  # somebody else was faster
            made.raise_for_status()
    elif ours:
        (await client.patch(f"{api}/work_pools/{pool.name}", json=wanted)).raise_for_status()
    for name, about in pool.queues.items():
        queue = await client.post(f"{api}/work_pools/{pool.name}/queues", json={"name": name, **about})
        if queue.status_code != httpx.codes.CONFLICT.value:
            queue.raise_for_status()
