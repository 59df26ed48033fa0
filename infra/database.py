"""The PostgreSQL that everything stands on: one pool a process, opened at first use."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from infra.errors import BadRequest, DatabaseAway, Passing
from infra.once import Once
from infra.settings import settings

PATIENCE = 5.0  # seconds to wait for a connection before the database counts as away
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL's text holds neither NUL nor half a surrogate pair

T = TypeVar("T")
Connection = psycopg.Connection[DictRow]


def url() -> str:
    secret = settings().database_url
    if secret is None:
        raise BadRequest(what="No database is configured: set DATABASE_URL, or start one with `yt-lyrics up`.")
    return secret.get_secret_value()


def _answers(conn: Connection) -> None:
    """A connection that a restarted server has forgotten must not cost a request."""
    conn.execute("SELECT 1")


@Once
def pool() -> ConnectionPool[Connection]:
    return ConnectionPool(
        url(),
        connection_class=psycopg.Connection[DictRow],
        kwargs={"row_factory": dict_row, "autocommit": True, "connect_timeout": int(PATIENCE)},
        min_size=1,
        max_size=10,
        timeout=PATIENCE,
        reconnect_timeout=PATIENCE,  # the pool doubles its pauses until then: a long outage must not outlast itself
        check=_answers,
        open=True,
        name="yt-lyrics",
    )


@contextmanager
def connection() -> Generator[Connection]:
    """A connection in autocommit mode; a database that is away is told as such."""
    try:
        with pool().connection() as conn:
            yield conn
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
        raise DatabaseAway from error


def insist(
    write: Callable[[], T], *, patience: float = 120.0, pause: float = 0.5, through: type[Passing] = DatabaseAway
) -> T:
    """Do a write that must not be lost, through a database (or what else is told) that is away for a while."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return write()
        except through:
            if time.monotonic() > deadline:
                raise
            time.sleep(pause)


@contextmanager
def alone(what: str, waiting: Callable[[], None], *, pause: float = 0.5, patience: float = 1800.0) -> Generator[None]:
    """Whoever else does the same anywhere is waited for. A database that is away keeps nobody from it."""
    deadline = time.monotonic() + patience
    with ExitStack() as held:
        try:
            own = held.enter_context(psycopg.connect(url(), autocommit=True, connect_timeout=int(PATIENCE)))
            while not _lock(own, what) and time.monotonic() < deadline:
                waiting()
                time.sleep(pause)
        except psycopg.OperationalError:
            pass
        yield


def _lock(own: psycopg.Connection, what: str) -> bool:
    """Held until its connection closes, which a dead process's does by itself."""
    found = own.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1))", (what,)).fetchone()
    return found is not None and found[0]


def alive() -> bool:
    """Whether the database answers at once."""
    try:
        with pool().connection(timeout=1.0) as conn:
            conn.execute("SELECT 1")
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
        return False
    return True


def storable(value: Any) -> Any:
    """The value with a replacement character for each one that PostgreSQL cannot hold."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {storable(name): storable(part) for name, part in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [storable(part) for part in cast("list[Any]", value)]
    return value


def as_jsonb(value: Any) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(storable(value))
