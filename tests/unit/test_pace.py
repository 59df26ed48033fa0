"""How fast the songs of a batch are asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from infra.jobs.job import Job
from infra.jobs.pace import AT_ONCE, due
from infra.jobs.states import Status
from infra.settings import settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def song(place: int | None, **more: Any) -> Job:
    base = {"id": "1", "youtube_url": "x", "status": Status.QUEUED, "created_at": NOW, "updated_at": NOW}
    return Job.model_validate({**base, "place": place, "video_id": "dQw4w9WgXcQ", **more})


def test_a_song_of_its_own_and_the_first_of_a_batch_begin_at_once() -> None:
    assert [due(song(place)) for place in (None, 0, AT_ONCE - 1)] == [None] * 3


def test_the_others_follow_in_their_order_no_faster_than_youtube_allows() -> None:
    times = [due(song(place)) or NOW for place in range(500)]
    pause = timedelta(seconds=settings().batch_pause)
    assert all(later - earlier == pause for earlier, later in pairwise(times[AT_ONCE - 1 :]))
    in_an_hour = [time for time in times if time < NOW + timedelta(hours=1)]
    assert len(in_an_hour) <= 300 + AT_ONCE


def test_what_is_not_on_youtube_need_not_wait() -> None:
    assert due(song(400, video_id=None)) is None
