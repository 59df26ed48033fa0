"""Who gets a song: the choice, from records that are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.jobs.request import Provider
from infra.jobs.routing import HOPELESS, PRIORS, Record, choose

WORTH = 3600.0


def record(provider: Provider, **more: float | None) -> Record:
    return replace(Record(provider, runs=0, failed=0, seconds_per_minute=None, waiting=0, price=0.0), **more)  # type: ignore[arg-type]


@st.composite
def a_record(draw: st.DrawFn, provider: Provider) -> Record:
    runs = draw(st.integers(0, 50))
    failed = draw(st.integers(0, runs))
    return Record(
        provider,
        runs=runs,
        failed=failed,
        seconds_per_minute=draw(st.floats(0.1, 200)) if failed < runs else None,
        waiting=draw(st.integers(0, 300)),
        price=draw(st.just(0.0) | st.floats(0.01, 10)),
    )


providers = st.lists(st.sampled_from(Provider), unique=True, min_size=1)
several = providers.flatmap(lambda names: st.tuples(*map(a_record, names)))
minutes = st.just(0.0) | st.floats(0.1, 60)


def first(records: tuple[Record, ...], length: float) -> Provider:
    return choose(records, length, dollar_seconds=WORTH)[0].provider


def test_every_provider_has_a_pace_to_begin_with() -> None:
    assert set(PRIORS) == set(Provider)


@given(several, minutes, st.integers(1, 5))
def test_as_many_are_chosen_as_are_asked_for_or_there_are_and_none_twice(
    records: tuple[Record, ...], length: float, count: int
) -> None:
    picks = choose(records, length, count, dollar_seconds=WORTH)
    assert len(picks) == min(count, len(records))
    assert len({pick.provider for pick in picks}) == len(picks)
    assert {pick.provider for pick in picks} <= {record.provider for record in records}


@given(several, minutes, st.integers(1, 4))
def test_the_best_few_are_the_beginning_of_the_best_many(
    records: tuple[Record, ...], length: float, count: int
) -> None:
    everybody = choose(records, length, len(records), dollar_seconds=WORTH)
    assert choose(records, length, count, dollar_seconds=WORTH) == everybody[:count]


@given(several, minutes, st.data())
def test_the_choice_does_not_depend_on_the_order_of_the_records(
    records: tuple[Record, ...], length: float, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(records))
    assert choose(shuffled, length, 2, dollar_seconds=WORTH) == choose(records, length, 2, dollar_seconds=WORTH)


@given(several, minutes, st.integers(1, 10), st.data())
def test_further_failures_never_bring_a_provider_the_song(
    records: tuple[Record, ...], length: float, more: int, data: st.DataObject
) -> None:
    failing = data.draw(st.sampled_from(records))
    assume(first(records, length) is not failing.provider)
    worse = replace(failing, runs=failing.runs + more, failed=failing.failed + more)
    assert first(tuple(worse if one is failing else one for one in records), length) is not failing.provider


@given(several, minutes, st.integers(1, 10), st.data())
def test_a_longer_queue_never_brings_a_provider_the_song(
    records: tuple[Record, ...], length: float, more: int, data: st.DataObject
) -> None:
    busy = data.draw(st.sampled_from(records))
    assume(first(records, length) is not busy.provider)
    busier = replace(busy, waiting=busy.waiting + more)
    assert first(tuple(busier if one is busy else one for one in records), length) is not busy.provider


@given(several, minutes)
def test_a_provider_that_only_fails_gets_no_song_that_another_could_make(
    records: tuple[Record, ...], length: float
) -> None:
    hopeless = {one.provider for one in records if one.runs >= HOPELESS and one.failed == one.runs}
    assume(len(hopeless) < len(records))
    assert first(records, length) not in hopeless


@given(several, minutes)
def test_what_is_expected_is_told_and_no_less_than_the_bare_work(records: tuple[Record, ...], length: float) -> None:
    by_provider = {one.provider: one for one in records}
    for pick in choose(records, length, len(records), dollar_seconds=WORTH):
        one = by_provider[pick.provider]
        assert pick.expected_seconds >= length * (one.waiting + 1) * (one.seconds_per_minute or 0)
        assert (pick.expected_cost == 0) == (one.price * (one.seconds_per_minute or PRIORS[one.provider]) == 0)
        assert "\n" not in pick.reason
        assert all(other.provider in pick.reason for other in records)


def test_money_is_weighed_against_waiting() -> None:
    here = record(Provider.CUDA, runs=10, seconds_per_minute=4.0, waiting=3)
    there = record(Provider.MODAL, runs=10, seconds_per_minute=4.0, price=3.6)
    assert choose([here, there], 3.0, dollar_seconds=100)[0].provider is Provider.MODAL
    assert choose([here, there], 3.0, dollar_seconds=100_000)[0].provider is Provider.CUDA


def test_a_provider_without_history_is_tried_when_the_known_one_is_slow() -> None:
    known = record(Provider.CUDA, runs=5, seconds_per_minute=60.0)
    assert choose([known, record(Provider.MODAL, price=1.1)], 4.0, dollar_seconds=WORTH)[0].provider is Provider.MODAL


def test_a_song_whose_length_is_unknown_is_routed_as_a_usual_one() -> None:
    busy, idle = record(Provider.CUDA, waiting=9), record(Provider.CPU)
    (pick,) = choose([busy, idle], 0.0, dollar_seconds=WORTH)
    assert pick.provider is Provider.CPU
    assert pick.expected_seconds > 0


def test_without_a_provider_there_is_no_choice() -> None:
    assert choose([], 3.0, dollar_seconds=WORTH) == []


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (
            [
                record(Provider.CUDA, runs=12, seconds_per_minute=4.0, waiting=2),
                record(Provider.MODAL, runs=8, failed=2, seconds_per_minute=31.0, price=1.1),
            ],
            "cuda: about 51 s (4 s a minute over 12 songs, none failed, 2 waiting), free; "
            "modal would take 165 s (31 s a minute over 8 songs, 2 failed, 0 waiting) and cost $0.051",
        ),
        (
            [record(Provider.RUNPOD, price=0.79), record(Provider.CPU, runs=1, failed=1, waiting=1)],
            "runpod: about 53 s (no song yet, taken as 10 s a minute, 0 waiting), $0.012; "
            "cpu would take 267 s (taken as 20 s a minute over 1 song, all failed, 1 waiting) and be free",
        ),
    ],
)
def test_the_reason_reads_as_a_sentence_with_everybodys_figures(records: list[Record], reason: str) -> None:
    assert choose(records, 4.0, dollar_seconds=WORTH)[0].reason == reason
