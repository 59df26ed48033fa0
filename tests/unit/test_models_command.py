"""`yt-lyrics models`: lists, downloads, checks."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.errors import BadRequest
from infra.settings import settings
from tasks.models.catalogue import CATALOGUE
from tests.fakes.hub import a_hub

SMALL = {"model.bin": bytes(3 << 20), "config.json": b"{}"}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    for name in ("HF_HUB_OFFLINE", "DEMUCS_REPO", "ALIGN_REPO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    settings.cache_clear()
    with a_hub({"Systran/faster-whisper-small": SMALL}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield tmp_path
    settings.cache_clear()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def row(result: Result, name: str) -> list[str]:
    return next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == [name])


def test_every_model_is_listed_with_its_size_its_licence_and_its_place(data: Path) -> None:
    listed = run()
    assert listed.exit_code == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} == {"model", *CATALOGUE}
    assert row(listed, "align-en")[:4] == ["align-en", "align", "378", "Apache-2.0"]
    assert row(listed, "small")[-1].endswith("/Systran/faster-whisper-small")
    assert run("small", "--download").exit_code == 0
    assert row(run("small"), "small")[-1] == str(data / "models" / "small")


def test_a_download_is_shown_and_ends_with_its_folder(data: Path) -> None:
    done = run("small", "--download")
    assert done.exit_code == 0
    assert done.stdout.strip() == str(data / "models" / "small")
    assert "Downloading the model small" in done.stderr
    assert (data / "models" / "small" / "model.bin").stat().st_size == 3 << 20


def test_another_data_folder_can_be_named(data: Path) -> None:
    assert run("small", "--download", "--data", str(data / "other")).exit_code == 0
    assert (data / "other" / "models" / "small" / "model.bin").is_file()


def test_what_is_right_is_told_and_what_is_damaged_fails(data: Path) -> None:
    run("small", "--download")
    right = run("small", "--check")
    assert right.exit_code == 0
    assert right.stdout.startswith("small: as it came, 2 files in ")
    (data / "models" / "small" / "config.json").write_text("{ }")
    wrong = run("--check")
    assert wrong.exit_code == 1
    assert "small is damaged (config.json): delete " in wrong.stderr


def test_a_model_that_is_not_here_cannot_be_checked() -> None:
    absent = run("small", "--check")
    assert absent.exit_code == 1
    assert "`yt-lyrics models small --download` fetches it." in absent.stderr


@pytest.mark.parametrize("words", [["basse"], ["small", "basse", "--download"]])
def test_an_unknown_model_is_one_sentence(words: list[str]) -> None:
    done = run(*words)
    assert isinstance(done.exception, BadRequest)
    assert str(done.exception) == 'No model "basse" is known: `yt-lyrics models` lists them all.'


def test_a_download_of_everything_is_not_what_anybody_means() -> None:
    assert isinstance(run("--download").exception, BadRequest)


def test_a_hub_without_the_model_is_told_and_fails() -> None:
    done = run("medium", "small", "--download")
    assert done.exit_code == 1
    assert 'The weights of "medium" are not on this machine' in done.stderr
    assert done.stdout.strip().endswith("small")
