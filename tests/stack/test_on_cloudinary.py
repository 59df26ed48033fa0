"""A song whose audio and results are on Cloudinary, from a kept upload to links that a browser follows."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from flows.fetch import hand_over, ranked
from flows.transcribe import removed_if_beaten
from infra.errors import TakenOver
from infra.jobs import table
from infra.jobs.request import Format
from infra.jobs.run import Run
from infra.jobs.states import Status
from infra.storage import here, storage, there
from tests.fakes.cloudinary import CloudinaryServer, Fault
from tests.stack.deployed import House, a_house, uploaded
from tests.workers import PrefectServer


@pytest.fixture
def cloudinary() -> Generator[CloudinaryServer]:
    with CloudinaryServer() as server:
        yield server
        assert server.requests("admin") == []


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path, cloudinary: CloudinaryServer) -> Generator[House]:
    with a_house(prefect, database, tmp_path, **cloudinary.environment()) as made:
        yield made


def fetching() -> Run:
    """A run that has its song's audio and is about to hand over."""
    id, request = table.new_id(), uploaded()
    table.insert(request, id=id, title="Harbor Light")
    run = Run.claim(id, 1, "the fetch run")
    source = request.link.removeprefix("upload:")
    run.learn(audio_key=f"audio/{source}/audio.opus", fingerprint=request.fingerprint(source), duration=56)
    return run


def test_a_song_is_heard_and_published_there(house: House, cloudinary: CloudinaryServer) -> None:
    run = fetching()
    cloudinary.fault("upload", Fault(status=420))  # of what is published; the step is tried again
    hand_over(run, ranked(run.job, 1.0), 56.0)
    row = table.get(run.job.id)
    assert row is not None
    house.execute(row.run_id or "")

    done = table.get(run.job.id)
    assert done is not None
    assert done.status is Status.COMPLETED
    assert done.results_url is not None
    assert there(done.results_url)
    assert "harbor" in httpx.get(done.results_url).json()["plain"].lower()
    assert set(done.files) == set(Format)
    assert all(there(link) for link in done.files.values())
    published = [kept for (_, id), kept in cloudinary.assets.items() if id.startswith("transcriptions/")]
    assert {kept.tags for kept in published} == {("yt-lyrics", f"job-{run.job.id}")}
    assert here().unused("stages", -1) == []
    assert here().unused("transcriptions", -1) == []


def test_who_lost_a_race_takes_its_files_along(house: House, cloudinary: CloudinaryServer) -> None:
    for racer in ("cuda", "modal"):
        storage().put(f"transcriptions/job/{racer}/results.json", b"{}")
    with pytest.raises(TakenOver), removed_if_beaten("transcriptions/job/modal", racing=True):
        raise TakenOver
    assert list(cloudinary.assets) == [("raw", "transcriptions/job/cuda/results.json")]


def test_a_storage_that_is_away_does_not_hide_that_a_race_is_lost(house: House, cloudinary: CloudinaryServer) -> None:
    cloudinary.fault("destroy", Fault(status=500))
    with pytest.raises(TakenOver), removed_if_beaten("transcriptions/job/modal", racing=True):
        raise TakenOver
