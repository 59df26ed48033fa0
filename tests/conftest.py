"""What the suites share: a real PostgreSQL, a whole stack, and YouTube as loopback plays it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator

import psycopg
import pytest

from infra.stack.postgres import Postgres
from tests.fakes.media import MediaServer
from tests.running import RunningStack, a_cluster, a_stack

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# To separate takes seconds here even of a short song, and its weights are not at hand: who tests it asks for it.
os.environ.setdefault("CPU_SEPARATION_MINUTES", "0")


@pytest.fixture(scope="session")
def cluster() -> Generator[Postgres]:
    with a_cluster() as postgres:
        yield postgres


@pytest.fixture
def database(cluster: Postgres) -> Generator[str]:
    """An empty database of that server; its URL."""
    name = f"test_{time.monotonic_ns()}"
    cluster.make_databases(name)
    yield cluster.url(name)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def media() -> Generator[MediaServer]:
    """YouTube, and a host with files, as loopback plays them."""
    with MediaServer() as server:
        yield server


@pytest.fixture(scope="session")
def stack(media: MediaServer) -> Generator[RunningStack]:
    """One stack for every test that does not kill parts of it."""
    with a_stack(media) as running_stack:
        yield running_stack
