"""A limit that a site puts on us, as all workers know it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from infra import database, settings
from infra.jobs import breakers
from tests.stack.rows import sql

pytestmark = pytest.mark.usefixtures("jobs")

HOUR = 3600.0
NAMES = ["here", "here: as anybody"]


def ended(name: str = "here", *, ago: float = 1.0) -> None:
    """Its time is over."""
    sql("UPDATE breakers SET until = now() - %(ago)s * interval '1 second' WHERE name = %(name)s", name=name, ago=ago)


def earlier(name: str, seconds: float) -> None:
    """It was tripped so long ago, and is over."""
    by = timedelta(seconds=seconds)
    sql("UPDATE breakers SET tripped_at = tripped_at - %(by)s, until = now() WHERE name = %(name)s", name=name, by=by)


def lasts(until: datetime) -> float:
    """Hours from now, to the minute."""
    return round((until - datetime.now(UTC)) / timedelta(hours=1), 2)


def test_nothing_is_closed_at_first() -> None:
    assert breakers.closed(NAMES) is None
    assert breakers.all_closed() == []
    assert breakers.opens_at(NAMES) is None


def test_what_is_closed_says_until_when_and_why() -> None:
    until = breakers.trip("here", "it said so", HOUR)
    found = breakers.closed(NAMES)
    assert found is not None
    assert (found.name, found.reason, found.until) == ("here", "it said so", until)
    assert lasts(until) == 1.0
    assert breakers.opens_at(NAMES) == until
    assert breakers.closed(["elsewhere"]) is None


def test_each_time_it_happens_again_it_takes_twice_as_long_up_to_a_limit() -> None:
    hours: list[float] = []
    for _ in range(5):
        hours.append(lasts(breakers.trip("here", "again", HOUR)))
        earlier("here", HOUR)
    assert hours == [1.0, 2.0, 4.0, 6.0, 6.0]


def test_several_jobs_that_meet_the_same_limit_count_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        untils = list(pool.map(lambda _: breakers.trip("here", "at once", HOUR), range(8)))
    assert {lasts(until) for until in untils} == {1.0}


def test_after_a_day_it_is_no_repetition() -> None:
    breakers.trip("here", "once", HOUR)
    earlier("here", 25 * HOUR)
    assert lasts(breakers.trip("here", "much later", HOUR)) == 1.0


def test_a_shorter_limit_does_not_open_what_a_longer_one_closed() -> None:
    until = breakers.trip("here", "long", 5 * HOUR)
    assert breakers.trip("here", "short", 60.0) == until


def test_when_the_time_is_over_one_is_let_through_and_the_others_wait_for_what_it_finds() -> None:
    breakers.trip("here", "it said so", HOUR)
    ended()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: breakers.closed(NAMES), range(8)))
    assert answers.count(None) == 1
    breakers.passed(NAMES)
    assert breakers.closed(NAMES) is None


def test_one_that_finds_out_and_never_tells_is_not_waited_for_long() -> None:
    breakers.trip("here", "it said so", HOUR)
    ended()
    assert breakers.closed(NAMES) is None
    ended()
    assert breakers.closed(NAMES) is None


def test_an_address_that_is_closed_keeps_a_route_of_it_from_finding_out() -> None:
    breakers.trip("here", "the address", HOUR)
    breakers.trip("here: as anybody", "the route", HOUR)
    ended("here: as anybody")
    found = breakers.closed(NAMES)
    assert found is not None
    assert found.name == "here"
    breakers.passed(["here"])
    assert breakers.closed(NAMES) is None


def test_a_login_that_is_refused_stays_so() -> None:
    assert not breakers.login_is_stale("here, signed in 1a2b3c4d")
    breakers.give_up_login("here, signed in 1a2b3c4d")
    assert breakers.login_is_stale("here, signed in 1a2b3c4d")
    assert not breakers.login_is_stale("here, signed in 00000000")


def test_what_is_over_for_a_day_is_forgotten() -> None:
    breakers.trip("here", "once", HOUR)
    ended(ago=25 * HOUR)
    breakers.trip("there", "once", HOUR)
    ended("there")
    assert breakers.forget() == 1
    assert [row["name"] for row in sql("SELECT name FROM breakers")] == ["there"]


def test_a_database_that_is_away_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    breakers.trip("here", "it said so", HOUR)
    database.pool().close()
    database.pool.cache_clear()
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    settings.settings.cache_clear()
    assert breakers.closed(NAMES) is None
    assert lasts(breakers.trip("here", "unheard", HOUR)) == 1.0
    breakers.passed(NAMES)
