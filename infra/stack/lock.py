"""One stack a data folder: a lock that names its holder, and the addresses it answers on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            there = running(data)
            where = f", its page is {there.page}" if there else ", it is still starting"
            raise BadRequest(what=f"Another yt-lyrics (process {holder}) uses the data folder {data}{where}.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            (data / "addresses.json").unlink(missing_ok=True)
            file.truncate(0)


def tell_addresses(addresses: Addresses) -> None:
    (Path(addresses.data) / "addresses.json").write_text(json.dumps(asdict(addresses)))


def running(data: Path) -> Addresses | None:
    """The addresses of the stack that is up on this folder."""
    try:
        addresses = Addresses(**json.loads((data / "addresses.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return addresses if psutil.pid_exists(addresses.pid) else None
