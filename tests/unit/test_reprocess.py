"""Which songs a night takes, and what upkeep reads from cookies."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from flows.reprocess import Chosen, affordable, dollars_for, why_anew
from infra.jobs.job import Job
from infra.jobs.nightly import Budget
from infra.jobs.request import PIPELINE_VERSION, Provider
from infra.jobs.routing import Record
from infra.jobs.states import Status

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
FREE = [Record(Provider.CUDA, 10, 0, 4.0, 0, 0.0)]
PAID = [Record(Provider.MODAL, 10, 0, 6.0, 0, 3600.0)]  # a dollar a second


def a_song(minutes: float, **more: object) -> Chosen:
    known = {"id": str(minutes), "youtube_url": "x", "status": Status.COMPLETED, "created_at": NOW, "updated_at": NOW}
    return Chosen(Job.model_validate({**known, **more}), "made anew", "it is old", minutes)


some_songs = st.lists(st.floats(0.1, 20).map(a_song), max_size=20)
some_minutes = st.floats(0, 200)


@given(some_songs, some_minutes, st.floats(0, 1000))
def test_a_night_never_costs_more_than_its_budget(songs: list[Chosen], minutes: float, dollars: float) -> None:
    chosen = affordable(songs, Budget(minutes, dollars), PAID)
    assert sum(song.minutes for song in chosen) <= minutes + 1e-6
    assert sum(dollars_for(song, PAID) for song in chosen) <= dollars + 1e-6


@given(some_songs, some_minutes)
def test_songs_are_taken_in_their_order_and_none_twice(songs: list[Chosen], minutes: float) -> None:
    chosen = affordable(songs, Budget(minutes, 1.0), FREE)
    places = [next(place for place, other in enumerate(songs) if other is song) for song in chosen]
    assert places == sorted(set(places))


@given(some_songs, some_minutes)
def test_a_song_is_left_only_if_it_did_not_fit_any_more(songs: list[Chosen], minutes: float) -> None:
    chosen = affordable(songs, Budget(minutes, 1.0), FREE)
    left = minutes
    for song in songs:
        if any(song is other for other in chosen):
            left -= song.minutes
        else:
            assert song.minutes > left


def test_without_money_only_what_is_free_is_done() -> None:
    assert affordable([a_song(3)], Budget(60, 0.0), FREE) != []
    assert affordable([a_song(3)], Budget(60, 0.0), PAID) == []


def test_a_race_costs_what_both_racers_cost() -> None:
    one, two = a_song(3), a_song(3, options={"race": 2})
    assert dollars_for(two, [*FREE, *PAID]) >= dollars_for(one, PAID)


def test_a_song_says_why_it_is_made_anew() -> None:
    assert why_anew(a_song(3, pipeline=PIPELINE_VERSION - 1).job) == (
        f"made by pipeline {PIPELINE_VERSION - 1} of {PIPELINE_VERSION}"
    )
    assert why_anew(a_song(3, pipeline=PIPELINE_VERSION, quality=0.31).job) == "its quality is 31%"
