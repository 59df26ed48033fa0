"""A real Prefect server with our deployments and no worker: a run stays scheduled until the test executes it itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra import database as db
from infra import engine, runs
from infra import settings as configuration
from infra.jobs.migrate import migrate
from infra.jobs.request import Request
from infra.stack.postgres import Postgres
from infra.storage import storage
from tasks import cache
from tests.running import DEMO, ROOT
from tests.workers import PrefectServer, a_prefect_server

VOCALS = DEMO / "harbor-light.vocals.opus"


@contextmanager
def a_deployed_prefect(cluster: Postgres) -> Generator[PrefectServer]:
    with a_prefect_server(cluster, PREFECT_UI_ENABLED="false") as server:
        done = python("-m", "flows.cli", "deploy", environment=server.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        yield server


@dataclass(frozen=True)
class House:
    """infra works on this server, on a fresh jobs table, and on a folder of its own meanwhile."""

    prefect: PrefectServer
    database: str
    data: Path

    def execute(self, run: str, ends: str = "COMPLETED") -> None:
        """Run it to its end, as a worker's child would, in the environment of this test."""
        paths = [os.environ.get("PYTHONPATH"), self.prefect.environment["PYTHONPATH"]]
        environment = {**os.environ, **self.prefect.environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = python("-m", "prefect.engine", run, environment=environment)
        state = self.prefect.state(run)
        assert state["type"] == ends, f"{state['message']}\n{done.stdout}{done.stderr}"

    def run(self, deployment: str, **parameters: Any) -> str:
        return runs.start(deployment, parameters, key=os.urandom(8).hex(), name=deployment, queue=None)

    def artifacts(self, run: str) -> dict[str, dict[str, Any]]:
        """By key."""
        asked = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        return {found["key"]: found for found in self.prefect.call("POST", "/artifacts/filter", asked)}

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """As if it had come about: the rules of the table do not hold for this."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def a_house(server: PrefectServer, database: str, data: Path, **environment: str) -> Generator[House]:
    migrate(database)
    with pytest.MonkeyPatch.context() as patch:
        known = {"DATABASE_URL": database, "PREFECT_API_URL": server.api, "YT_LYRICS_DATA": str(data), **environment}
        for name, value in known.items():
            patch.setenv(name, value)
        forget()
        try:
            yield House(server, database, data)
        finally:
            db.pool().close()
            forget()


def forget() -> None:
    db.pool.cache_clear()
    forget_prefect()


def forget_prefect() -> None:
    """What the settings say of it is read again."""
    if engine.client.cache_info().currsize:
        engine.client().close()
    for kept in (configuration.settings, runs._deployment, engine.client):
        kept.cache_clear()


def uploaded(**asked: Any) -> Request:
    """The demo song, sung without music, kept as an upload."""
    kept = cache.keep_upload(storage(), VOCALS, "Harbor Light.opus")
    return Request.model_validate({"link": f"upload:{kept}", "preset": "low", "language": "en", **asked})


def python(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
