"""What the suites of the stack share beside what all share."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from infra.stack.postgres import Postgres
from tests.stack.deployed import a_deployed_prefect
from tests.workers import PrefectServer


@pytest.fixture(scope="session")
def prefect(cluster: Postgres) -> Generator[PrefectServer]:
    """A Prefect server with our deployments and no worker."""
    with a_deployed_prefect(cluster) as server:
        yield server
