"""What the suites of the stack share beside what all share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from infra.jobs.migrate import migrate
from infra.stack.postgres import Postgres
from tests.stack.deployed import a_deployed_prefect
from tests.stack.rows import pointed_at
from tests.workers import PrefectServer


@pytest.fixture(scope="session")
def prefect(cluster: Postgres) -> Generator[PrefectServer]:
    """A Prefect server with our deployments and no worker."""
    with a_deployed_prefect(cluster) as server:
        yield server


@pytest.fixture
def jobs(database: str) -> Generator[str]:
    """A migrated database that infra.jobs works on; its URL."""
    migrate(database)
    with pointed_at(database):
        yield database
