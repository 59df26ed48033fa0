"""The voice and the music as files: who may ask for them, where they stand, and what becomes of them."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.transcribe import stems_of
from infra.jobs.job import Job
from infra.jobs.request import HERE, Format, Provider, Request
from infra.jobs.states import Status
from infra.settings import settings
from infra.storage import here, storage
from tasks import cache
from tasks.publish import publish, unpublish
from tasks.song import STEMS, Line, Song, Word

SONG = Song((Line((Word("la", 0.0, 1.0),)),))
KEY = "audio/upload-1/audio.opus"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.setenv("DEMUCS_MODEL", "htdemucs")
    settings.cache_clear()
    yield
    settings.cache_clear()


def asks(**how: Any) -> Request:
    return Request(link="https://youtu.be/x", **how)


def job(**how: Any) -> Job:
    now = datetime.now(UTC)
    return Job(
        id="1",
        youtube_url="upload:1",
        status=Status.PROCESSING,
        created_at=now,
        updated_at=now,
        audio_key=KEY,
        options=asks(**how).model_dump(mode="json", exclude={"link"}),
    )


@pytest.fixture
def separated() -> list[Path]:
    """The two files, as separating leaves them."""
    place = cache.stems_place(KEY)
    place.mkdir(parents=True)
    files = [place / name for name in STEMS]
    for file in files:
        file.write_bytes(file.name.encode())
    return files


def test_who_forbids_separating_gets_no_stems() -> None:
    with pytest.raises(ValidationError, match="stems are made by separating the voice"):
        asks(stems=True, separate=False)


@pytest.mark.parametrize("provider", Provider)
def test_stems_are_made_where_our_storage_is(provider: Provider) -> None:
    if provider in HERE:
        assert asks(stems=True, provider=provider).stems
    else:
        with pytest.raises(ValidationError, match=f"not on {provider}"):
            asks(stems=True, provider=provider)


def test_they_stand_beside_the_audio_and_go_with_it(separated: list[Path]) -> None:
    assert all(file.is_file() for file in separated)
    here().put(KEY, b"sound")
    assert here().trim("audio", 0) == ["audio/upload-1"]
    assert not any(file.exists() for file in separated)


def test_another_model_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = cache.stems_place(KEY)
    monkeypatch.setenv("DEMUCS_MODEL", "somebody/../htdemucs_ft")
    settings.cache_clear()
    other = cache.stems_place(KEY)
    assert other != usual
    assert other.parent == usual.parent


def test_a_job_that_asked_for_them_is_given_copies(separated: list[Path]) -> None:
    published = publish(storage(), "transcriptions/1", SONG, "1", stems_of(job(stems=True)))
    assert set(published.files) == {*Format, "vocals", "instrumental"}
    for name in STEMS:
        assert here().read(f"transcriptions/1/{name}") == name.encode()
    assert all(file.exists() for file in separated)  # for the next job of this song


def test_a_job_that_did_not_ask_is_given_none(separated: list[Path]) -> None:
    assert stems_of(job()) == []


def test_where_nobody_sings_there_are_none() -> None:
    assert stems_of(job(stems=True)) == []


def test_who_lost_a_race_takes_its_copies_along(separated: list[Path]) -> None:
    publish(storage(), "transcriptions/1/cpu", SONG, "1", separated)
    unpublish(storage(), "transcriptions/1/cpu")
    assert not [file for file in here().path("transcriptions/1/cpu").rglob("*") if file.is_file()]
