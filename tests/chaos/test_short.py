"""A short run of chaos; the long one is `python -m tests.chaos --jobs 200`."""

from __future__ import annotations

import random

import pytest

from tests.chaos.killing import PARTS, chaos


@pytest.mark.timeout(900)
def test_no_job_is_lost_or_stuck_while_parts_are_killed() -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"replay: python -m tests.chaos --jobs 6 --kills 8 --seed {seed}")
    report = chaos(jobs=6, kills=8, seed=seed)
    # A song whose answer was lost was sent once more.
    assert report.get("completed", 0) + report.get("error", 0) >= 6
    assert set(report["killed"]) <= set(PARTS)
