"""What a job shows of the steps of the GPU stage: which engine sang and which did not, and the voice and the music."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from flows.fetch import ranked
from infra import runs
from infra.jobs import table
from infra.jobs.job import Job
from infra.jobs.request import Provider, Request
from infra.jobs.states import Status
from infra.storage import here
from tests.fakes.transcribers import Fault, TranscriberServer
from tests.running import ROOT
from tests.stack.deployed import House, a_house, uploaded
from tests.workers import PrefectServer


@pytest.fixture
def hosted() -> Generator[TranscriberServer]:
    with TranscriberServer() as server:
        yield server


@pytest.fixture
def house(
    prefect: PrefectServer, database: str, tmp_path: Path, hosted: TranscriberServer, monkeypatch: pytest.MonkeyPatch
) -> Generator[House]:
    separator = {"DEMUCS_REPO": str(ROOT / "tests" / "checkpoints"), "DEMUCS_MODEL": "tinydemucs"}
    elsewhere = {"PROVIDERS": "modal,cuda"}  # history prefers nobody yet, and Modal's prior is worse than ours
    with a_house(prefect, database, tmp_path, **hosted.environment(), **separator, **elsewhere) as made:
        yield made


def done(house: House, request: Request) -> Job:
    """The job after both of its runs."""
    id = table.new_id()
    table.insert(request, id=id, title="Harbor Light")
    house.execute(runs.fetch(id, 1))
    house.execute(row(id).run_id or "")
    return row(id)


def row(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def steps(job: Job) -> list[str]:
    return [step["message"] for step in job.progress_log]


def test_the_job_names_the_engine_that_sang(house: House, hosted: TranscriberServer) -> None:
    job = done(house, uploaded(provider="cuda"))
    assert (job.status, job.processing_method) == (Status.COMPLETED, "Groq whisper-large-v3-turbo")
    assert [asked.engine for asked in hosted.asked] == ["groq"]


def test_the_job_says_which_engine_did_not_and_who_went_on(house: House, hosted: TranscriberServer) -> None:
    hosted.fault("groq", Fault(status=429, retry_after="600"))
    job = done(house, uploaded(provider="cuda"))
    assert (job.status, job.processing_method) == (Status.COMPLETED, "faster-whisper tiny.en")
    assert any(step.startswith("Groq") and step.endswith("faster-whisper goes on") for step in steps(job))


def test_what_was_separated_once_is_given_to_all_who_ask(house: House) -> None:
    job = done(house, uploaded(provider="cuda", engine="faster-whisper", stems=True))
    assert job.status is Status.COMPLETED, job.error_message
    for stem in ("vocals", "instrumental"):
        assert here().exists(here().key(job.files[stem]) or "")
    assert any(step.startswith("Separating the voice") or "separates the voice" in step for step in steps(job))

    again = done(house, uploaded(provider="cuda", engine="faster-whisper", stems=True, prompt="Harbor Light"))
    assert "The voice was separated before: used again" in steps(again)
    assert set(again.files) == set(job.files)


@pytest.mark.parametrize("named", [{"stems": True}, {"engine": "groq"}, {"model": "whisper-1"}])
def test_what_cannot_leave_stays_with_our_own_machines(house: House, named: dict[str, Any]) -> None:
    id = table.new_id()
    table.insert(uploaded(**named), id=id)
    assert {pick.provider for pick in ranked(row(id), 4.0)} == {Provider.CUDA}
