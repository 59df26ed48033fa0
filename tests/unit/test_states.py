"""The state machine of a job and the stages of its progress, as values."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from infra.jobs.request import Provider, Request
from infra.jobs.stages import SHARES, Stage, percent, silent
from infra.jobs.states import ENDED, MAX_LOST_RUNS, MAY_TRY_AGAIN, OPEN, WITHIN_ATTEMPT, Status, may_move

statuses = st.sampled_from(Status)
stages = st.sampled_from(Stage)
FINGERPRINT = "2cc8dc92832469a079bc803ba9dbdcf2194e0a88474ede4827e5b0ed2eb29762"


def test_every_status_has_its_moves() -> None:
    assert set(WITHIN_ATTEMPT) == set(Status)
    assert set(Status) == OPEN | ENDED
    assert not OPEN & ENDED


def test_the_statuses_are_the_contracts() -> None:
    assert {status.value for status in Status} == {"queued", "processing", "completed", "error", "cancelled"}


@given(statuses, statuses)
def test_an_ended_job_moves_nowhere_within_its_attempt(old: Status, new: Status) -> None:
    assert not (old in ENDED and may_move(old, new))


def test_every_open_job_can_end_every_way() -> None:
    assert all(may_move(old, new) for old in OPEN for new in ENDED)


def test_work_goes_back_to_the_queue_only_as_a_new_attempt() -> None:
    assert not may_move(Status.PROCESSING, Status.QUEUED)
    assert may_move(Status.PROCESSING, Status.QUEUED, attempts=1)


def test_a_completed_job_is_never_tried_again() -> None:
    assert not any(may_move(Status.COMPLETED, new, attempts=attempts) for new in Status for attempts in (0, 1, 2))


@given(statuses, statuses, st.integers())
def test_a_new_attempt_begins_in_the_queue_and_attempts_are_counted_one_by_one(
    old: Status, new: Status, attempts: int
) -> None:
    if may_move(old, new, attempts=attempts) and attempts:
        assert attempts == 1
        assert new is Status.QUEUED
        assert old in MAY_TRY_AGAIN


def test_a_job_survives_a_lost_run() -> None:
    assert MAX_LOST_RUNS > 1


def test_every_stage_has_a_share_of_the_progress_bar() -> None:
    assert list(SHARES) == list(Stage)


def test_the_shares_neither_overlap_nor_fall() -> None:
    assert all(0 <= begin <= end <= 100 for begin, end in SHARES.values())
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(SHARES.values()))
    assert SHARES[Stage.DONE] == (100, 100)


@given(stages, st.floats())
def test_progress_stays_within_its_stages_share_whatever_a_model_reports(stage: Stage, share: float) -> None:
    begin, end = SHARES[stage]
    assert begin <= percent(stage, share) <= end
    if math.isnan(share):
        assert percent(stage, share) == begin


@given(stages, st.floats(0, 1), st.floats(0, 1))
def test_progress_within_a_stage_follows_its_share(stage: Stage, one: float, other: float) -> None:
    assert percent(stage, min(one, other)) <= percent(stage, max(one, other))
    assert (percent(stage, 0), percent(stage, 1)) == SHARES[stage]


@given(stages, st.floats(), st.text())
def test_progress_that_nobody_watches_takes_anything(stage: Stage, share: float, message: str) -> None:
    silent(stage, share, message)


@given(st.none() | st.sampled_from(Provider), st.integers(1, 2))
def test_who_makes_a_song_and_how_many_at_once_does_not_change_which_song_it_is(
    provider: Provider | None, race: int
) -> None:
    asked = Request(link="https://youtu.be/dQw4w9WgXcQ", language="en", provider=provider, race=race)
    # as it is since pipeline 3: earlier results must still be found when requests learn new words
    assert asked.fingerprint("youtube:dQw4w9WgXcQ") == FINGERPRINT
