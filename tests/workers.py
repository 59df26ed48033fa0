"""A real Prefect server and real workers on it, for what is not about songs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.stack.postgres import Postgres
from infra.stack.stack import free_port
from tests.running import ROOT, eventually

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class PrefectServer:
    api: str
    folder: Path
    environment: dict[str, str]
    deployments: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, f"{self.api}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def make_pool(self, name: str, type: str = "warm", **defaults: Any) -> None:
        """A pool whose template has these defaults beside the worker type's own."""
        from prefect.workers.base import BaseWorker

        worker = BaseWorker.get_worker_class_from_type(type)
        assert worker is not None
        template = worker.get_default_base_job_template()
        for variable, value in defaults.items():
            template["variables"]["properties"][variable]["default"] = value
        self.call("POST", "/work_pools/", {"name": name, "type": type, "base_job_template": template})

    def deploy(self, flow: str, pool: str, entrypoint: str | None = None, **more: Any) -> str:
        id = self.call("POST", "/flows/", {"name": flow.replace("_", "-")})["id"]
        wanted = {
            "name": pool,
            "flow_id": id,
            "entrypoint": entrypoint or f"tests.flows_for_workers.{flow}",
            "work_pool_name": pool,
            "pull_steps": [],
            **more,
        }
        made = self.call("POST", "/deployments/", wanted)["id"]
        self.deployments[f"{flow}/{pool}"] = made
        return made

    def run(self, flow: str, pool: str, **parameters: Any) -> str:
        key = f"{flow}/{pool}"
        deployment = self.deployments.get(key) or self.deploy(flow, pool)
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.call("POST", f"/deployments/{deployment}/create_flow_run", body)["id"]

    def state(self, run: str) -> dict[str, Any]:
        return self.call("GET", f"/flow_runs/{run}")["state"]

    def ended(self, run: str, within: float = 60) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            state = self.state(run)
            return state if state["type"] in ENDED else None

        return eventually(look, within=within, what=f"the end of run {run}")

    def cancel(self, run: str) -> None:
        self.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def logs(self, run: str) -> list[str]:
        found = self.call("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
        return [entry["message"] for entry in found]


@contextmanager
def a_prefect_server(postgres: Postgres, **environment: str) -> Generator[PrefectServer]:
    port = free_port("127.0.0.1", preferred=0)
    name = f"prefect_{port}"
    postgres.make_databases(name)
    with tempfile.TemporaryDirectory(prefix="ytl-", ignore_cleanup_errors=True) as folder:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        wanted = {
            **own,
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_HOME": folder,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH")])),
            "PREFECT_API_DATABASE_CONNECTION_URL": postgres.sqlalchemy_url(name),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            **environment,
        }
        command = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with a_process(command, wanted, Path(folder) / "server.log"):
            server = PrefectServer(f"http://127.0.0.1:{port}/api", Path(folder), wanted)

            def healthy() -> bool:
                try:
                    return httpx.get(f"{server.api}/health", timeout=2).is_success
                except httpx.TransportError:
                    return False

            eventually(healthy, within=60, what="the Prefect server")
            yield server


@contextmanager
def a_process(arguments: list[str], environment: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A Python process that is gone, with its children, when the block ends."""
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for relative in family:
                if relative.is_running():
                    relative.kill()


@contextmanager
def a_worker(
    server: PrefectServer, pool: str, *, type: str = "warm", limit: int = 1, **environment: str
) -> Generator[subprocess.Popen[bytes]]:
    log = server.folder / f"worker-{pool}.log"
    arguments = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", type, "--limit", str(limit)]
    with a_process(arguments, server.environment | environment, log) as process:

        def online() -> bool:
            assert process.poll() is None, log.read_text()
            asked = {"workers": {"status": {"any_": ["ONLINE"]}}}
            answer = httpx.post(f"{server.api}/work_pools/{pool}/workers/filter", json=asked, timeout=10)
            return answer.is_success and bool(answer.json())

        eventually(online, within=60, what=f"the worker of {pool}")
        yield process
