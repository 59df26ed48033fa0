"""Prefect's runs of long ago, and what hangs on them."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.engine import call

TAG = "yt-lyrics"  # of each deployment and so of its runs: a shared server holds others' runs, too
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
PAGE = 50  # runs a call; Prefect deletes no more at once
ARTIFACTS = 200  # a call


def forget_runs(days: float) -> int:
    """Delete the runs that ended so long ago, with their artifacts; Prefect takes their logs along. How many."""
    before = datetime.now(UTC) - timedelta(days=days)
    old = {
        "tags": {"all_": [TAG]},
        "state": {"type": {"any_": ENDED}},
        "end_time": {"before_": before.isoformat()},
    }
    forgotten = 0
    for runs in _pages("/flow_runs/filter", {"flow_runs": old, "limit": PAGE}):
        ids = [run["id"] for run in runs]
        _forget_artifacts(ids)
        call("POST", "/flow_runs/bulk_delete", {"flow_runs": {"id": {"any_": ids}}, "limit": PAGE})
        forgotten += len(ids)
    return forgotten


def _forget_artifacts(runs: list[str]) -> None:
    for artifacts in _pages("/artifacts/filter", {"flow_runs": {"id": {"any_": runs}}, "limit": ARTIFACTS}):
        for artifact in artifacts:
            call("DELETE", f"/artifacts/{artifact['id']}")


def _pages(path: str, asked: dict[str, Any]) -> Generator[list[dict[str, Any]]]:
    """What the filter finds, page by page, where each page is deleted before the next is asked for."""
    seen: set[str] = set()
    while found := [thing for thing in call("POST", path, asked) or () if thing["id"] not in seen]:
        seen |= {thing["id"] for thing in found}  # a page that stays would be asked for for ever
        yield found
