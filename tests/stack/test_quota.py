"""The seconds of sound that hosted engines were sent, as all processes count them."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from infra import database, quota, settings
from infra.quota import Quota, Ticket
from tests.stack.rows import sql

HOURLY = Quota(an_hour=100.0, a_day=250.0)


@pytest.fixture(params=["shared", "own"])
def ledger(request: pytest.FixtureRequest) -> Generator[str]:
    """The ledger of all processes, and that of one without a database: they keep the same rules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quota, "_own", quota._Own())  # pyright: ignore[reportPrivateUsage]
        if request.param == "shared":
            request.getfixturevalue("jobs")
        else:
            patch.delenv("DATABASE_URL", raising=False)
        settings.settings.cache_clear()
        yield request.param
    settings.settings.cache_clear()


def age(ledger: str, by: timedelta) -> None:
    """All that was ever written is so much older."""
    if ledger == "shared":
        sql("UPDATE engine_usage SET at = at - %(by)s", by=by)
        sql("UPDATE engine_blocks SET until = until - %(by)s", by=by)
        return
    own = quota._own  # pyright: ignore[reportPrivateUsage]
    own.usage = {id: (engine, seconds, at - by) for id, (engine, seconds, at) in own.usage.items()}
    own.blocks = {engine: until - by for engine, until in own.blocks.items()}


def kept(ledger: str) -> int:
    if ledger == "shared":
        return sql("SELECT count(*) AS rows FROM engine_usage")[0]["rows"]
    return len(quota._own.usage)  # pyright: ignore[reportPrivateUsage]


def test_an_hour_holds_no_more_than_its_seconds(ledger: str) -> None:
    assert quota.reserve("Groq", 60.0, HOURLY)
    assert quota.reserve("Groq", 60.0, HOURLY) is None
    assert quota.reserve("Groq", 40.0, HOURLY)
    assert quota.reserve("OpenAI", 60.0, HOURLY)
    age(ledger, timedelta(minutes=61))
    assert quota.reserve("Groq", 60.0, HOURLY)


def test_a_day_holds_no_more_than_its_seconds(ledger: str) -> None:
    for _ in range(2):
        assert quota.reserve("Groq", 100.0, HOURLY)
        age(ledger, timedelta(hours=2))
    assert quota.reserve("Groq", 60.0, HOURLY) is None
    assert quota.reserve("Groq", 50.0, HOURLY)
    age(ledger, timedelta(hours=23))
    assert quota.reserve("Groq", 100.0, HOURLY)


def test_without_a_limit_everything_is_taken(ledger: str) -> None:
    assert all(quota.reserve("OpenAI", 1e6, Quota()) for _ in range(3))


def test_what_is_given_back_can_be_taken_again(ledger: str) -> None:
    ticket = quota.reserve("Groq", 80.0, HOURLY)
    assert ticket is not None
    assert ticket.shared is (ledger == "shared")
    quota.give_back(ticket)
    quota.give_back(ticket)
    assert quota.reserve("Groq", 100.0, HOURLY)
    assert quota.reserve("Groq", 1.0, HOURLY) is None


def test_many_who_come_at_once_never_take_more_than_there_is(ledger: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda _: quota.reserve("Groq", 30.0, HOURLY), range(16)))
    assert sum(ticket is not None for ticket in tickets) == 3


def test_what_is_older_than_a_day_is_forgotten(ledger: str) -> None:
    for _ in range(3):
        quota.reserve("Groq", 1.0, HOURLY)
    age(ledger, timedelta(hours=25))
    quota.reserve("Groq", 1.0, HOURLY)
    assert kept(ledger) == 1


def test_a_block_lasts_until_its_time_and_a_shorter_one_does_not_open_it(ledger: str) -> None:
    assert quota.blocked("Groq") is None
    until = quota.block("Groq", 3600.0)
    assert timedelta(minutes=59) < until - datetime.now(UTC) <= timedelta(minutes=61)
    assert quota.block("Groq", 60.0) == until
    assert quota.blocked("Groq") == until
    assert quota.blocked("OpenAI") is None
    age(ledger, timedelta(hours=2))
    assert quota.blocked("Groq") is None


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    database.pool().close()
    database.pool.cache_clear()
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    settings.settings.cache_clear()
    yield


@pytest.mark.usefixtures("jobs")
def test_a_database_that_is_away_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "_own", quota._Own())  # pyright: ignore[reportPrivateUsage]
    taken = quota.reserve("Groq", 60.0, HOURLY)
    assert taken is not None
    with away(monkeypatch):
        ticket = quota.reserve("Groq", 60.0, HOURLY)
        assert ticket == Ticket(0, shared=False)
        assert quota.reserve("Groq", 60.0, HOURLY) is None
        quota.give_back(taken)
        quota.give_back(ticket)
        assert quota.blocked("Groq") is None
        assert quota.block("Groq", 60.0) == quota.blocked("Groq")


@pytest.mark.usefixtures("jobs")
def test_a_database_that_is_not_migrated_yet_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "_own", quota._Own())  # pyright: ignore[reportPrivateUsage]
    sql("DROP TABLE engine_usage")
    sql("DROP TABLE engine_blocks")
    assert quota.reserve("Groq", 60.0, HOURLY) == Ticket(0, shared=False)
    assert quota.block("Groq", 60.0) == quota.blocked("Groq")
