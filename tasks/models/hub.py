"""Weights from the hub, file by file: resumed, checked, with progress.

Not by huggingface_hub.snapshot_download: its first request has no time limit, and its progress counts files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from infra.errors import WeightsAway
from tasks.models import sums
from tasks.models.catalogue import Weights
from tasks.models.progress import Report

if TYPE_CHECKING:
    import httpx

TIMEOUT = 5.0  # seconds until the hub has told what it holds, and of silence in a download
CHUNK = 1 << 18  # bytes between two reports: a slow line, too, has them every few seconds

T = TypeVar("T")


class Large(BaseModel):
    sha256: str


class File(BaseModel):
    rfilename: str
    size: int
    lfs: Large | None = None  # small ones have none


class Listing(BaseModel):
    """What the hub says of a repository, as far as it is read here."""

    sha: str  # of the commit
    siblings: list[File]


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def forbidden() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def download(weights: Weights, into: Path, report: Report) -> None:
    """Fills the folder, from where an earlier attempt stopped."""
    import httpx

    if forbidden():
        raise WeightsAway(model=weights.name, reason="HF_HUB_OFFLINE forbids it")
    host = httpx.URL(endpoint()).host
    report(0.0, f"Asking {host} for the model {weights.name}")
    try:
        with httpx.Client(base_url=endpoint(), timeout=TIMEOUT, follow_redirects=True) as hub:
            _snapshot(hub, weights, into, report)
    except httpx.HTTPStatusError as error:
        raise WeightsAway(model=weights.name, reason=f"{host} answered {error.response.status_code}") from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise WeightsAway(model=weights.name, reason=f"{host} does not answer") from error
    except ValueError as error:
        raise WeightsAway(model=weights.name, reason=f"{host} gives no answer that makes sense") from error


def _snapshot(hub: httpx.Client, weights: Weights, into: Path, report: Report) -> None:
    listing = _within(TIMEOUT, lambda: _listing(hub, weights.repository))
    held = {file.rfilename: file for file in listing.siblings if "/" not in file.rfilename}  # nor out of the folder
    if weights.marker not in held:
        raise WeightsAway(model=weights.name, reason=f"{weights.repository} holds no {weights.marker}")
    files = [held[name] for name in sorted(weights.needed(frozenset(held)))]
    total, done, right = sum(file.size for file in files), 0, dict[str, str]()
    for file in files:
        target = into / file.rfilename
        for got in _fill(hub, f"/{weights.repository}/resolve/{listing.sha}/{target.name}", target, file.size):
            megabytes = f"{(done + got) >> 20} of {total >> 20} MB"
            report((done + got) / total, f"Downloading the model {weights.name}: {megabytes}")
        done += file.size
        right[target.name] = _checked(target, file, weights.name)
    sums.keep(into, right)


def _listing(hub: httpx.Client, repository: str) -> Listing:
    answer = hub.get(f"/api/models/{repository}", params={"blobs": "true"}).raise_for_status()
    return Listing.model_validate_json(answer.content)


def _within(seconds: float, work: Callable[[], T]) -> T:
    """The work's result within this time. httpx limits each step alone: not names, nor addresses tried in turn."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="hub", daemon=True).start()
    return done.result(timeout=seconds)


def _fill(hub: httpx.Client, url: str, target: Path, size: int) -> Generator[int]:
    """Fills the target, from where an earlier attempt stopped; yields how many bytes are there."""
    got = target.stat().st_size if target.exists() else 0
    if got >= size:
        return
    headers = {"Accept-Encoding": "identity"}  # sizes and ranges are of the file, not of how it travels
    if got:
        headers["Range"] = f"bytes={got}-"
    with hub.stream("GET", url, headers=headers) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206
        got = got if resumed else 0
        with target.open("ab" if resumed else "wb") as out:
            for chunk in answer.iter_bytes(CHUNK):
                out.write(chunk)
                got += len(chunk)
                yield got


def _checked(target: Path, file: File, model: str) -> str:
    """The file's sum, if it is as the hub describes it: its size, and for what is large its sum."""
    sha256 = sums.digest(target) if target.exists() and target.stat().st_size == file.size else None
    if sha256 is None or (file.lfs and sha256 != file.lfs.sha256):
        target.unlink(missing_ok=True)
        raise WeightsAway(model=model, reason=f"{target.name} arrived damaged")
    return sha256
