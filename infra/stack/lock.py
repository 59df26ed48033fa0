"""One stack a data folder: a lock that names its holder, and the addresses it answers on."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from infra.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Addresses:
    pid: int
    page: str
    prefect: str  # the UI
    prefect_api: str
    data: str


@contextmanager
def only_stack(data: Path) -> Generator[None]:
    with (data / "lock").open("a+") as file:
        if not _locked(file, fcntl.LOCK_EX, patience=1.0):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            there = running(data)
            where = f", its page is {there.page}" if there else ", it is still starting"
            raise BadRequest(what=f"Another yt-lyrics (process {holder}) uses the data folder {data}{where}.")
        file.truncate(0)
        file.write(str(os.getpid()))
        (data / "addresses.json").unlink(missing_ok=True)  # of a stack that was killed
        file.flush()
        try:
            yield
        finally:
            (data / "addresses.json").unlink(missing_ok=True)
            file.truncate(0)


def tell_addresses(addresses: Addresses) -> None:
    (Path(addresses.data) / "addresses.json").write_text(json.dumps(asdict(addresses)))


def running(data: Path) -> Addresses | None:
    """The addresses of the stack that is up on this folder: one whose lock is held."""
    try:
        with (data / "lock").open("r") as file:
            if _locked(file, fcntl.LOCK_SH):
                return None
        return Addresses(**json.loads((data / "addresses.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _locked(file: IO[str], kind: int, patience: float = 0.0) -> bool:
    """Whether we hold the lock now. A look at it by others takes it for a moment: worth some patience."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True
