"""Files in a folder, each written whole or not at all; the API serves them under /files/."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, unquote

from infra.errors import MissingFile, disk_writes
from infra.storage.keys import parts

URL_PREFIX = "/files/"


@dataclass(frozen=True)
class LocalStorage:
    folder: Path

    def path(self, key: str) -> Path:
        """Where the key's file stands, or would stand."""
        return self.folder.joinpath(*parts(key))

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def url(self, key: str) -> str:
        """The link to the file, relative to the API's own address, which may change between starts."""
        return URL_PREFIX + quote(key)

    def key(self, url: str) -> str | None:
        """The key behind one of our links."""
        return unquote(url.removeprefix(URL_PREFIX)) if url.startswith(URL_PREFIX) else None

    def key_of(self, file: Path) -> str | None:
        """The key of a file that stands here."""
        return file.relative_to(self.folder).as_posix() if file.is_relative_to(self.folder) else None

    def put(self, key: str, content: bytes, *, job: str | None = None) -> str:
        with self.writing(key) as partial:
            partial.write_bytes(content)
        return self.url(key)

    def keep(self, key: str, file: Path, *, job: str | None = None) -> str:
        """Move a finished file into the storage."""
        with self.writing(key) as partial:
            shutil.move(file, partial)
        return self.url(key)

    def read(self, key: str) -> bytes:
        return self.file(key).read_bytes()

    def file(self, key: str) -> Path:
        if not self.exists(key):
            raise MissingFile(name=key)
        return self.path(key)

    def remove(self, key: str) -> None:
        """Take a file, or a folder of keys, out of the storage; what is not there is as it should be."""
        path = self.path(key)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def touch(self, key: str) -> None:
        """The file is used now."""
        with suppress(OSError):
            os.utime(self.path(key))

    def unused(self, prefix: str, seconds: float) -> list[str]:
        """The keys right below the prefix, files and folders, in which nothing was written or used for so long."""
        before = time.time() - seconds
        return [f"{prefix}/{path.name}" for path in self._below(prefix) if _newest(path) < before]

    def trim(self, prefix: str, most_bytes: float, spare: Collection[str] = ()) -> list[str]:
        """Remove what was not used for longest right below the prefix until the rest fits; which keys those were.

        What holds one of the keys to spare stays, whether the rest fits or not.
        """
        depth = len(parts(prefix)) + 1
        spared = {"/".join(parts(key)[:depth]) for key in spare}
        sizes = {f"{prefix}/{path.name}": _size(path) for path in sorted(self._below(prefix), key=_newest)}
        excess = sum(sizes.values()) - most_bytes
        removed: list[str] = []
        for key, size in sizes.items():
            if excess <= 0:
                break
            if key not in spared:
                self.remove(key)
                removed.append(key)
                excess -= size
        return removed

    def broken_off(self, seconds: float) -> list[str]:
        """The partial files whose writers died so long ago."""
        before = time.time() - seconds
        found = sorted(path for path in self.folder.rglob(".*.part") if _newest(path) < before)
        return [path.relative_to(self.folder).as_posix() for path in found]

    @contextmanager
    def writing(self, key: str) -> Generator[Path]:
        """A place to write the file at; it appears under its key once the block ends well."""
        target = self.path(key)
        with disk_writes(key):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
            os.close(handle)
            partial = Path(name)
            try:
                yield partial
                partial.chmod(0o644)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def incoming(self) -> Generator[Path]:
        """An empty folder for what is on its way, gone once the block ends.

        A process that is killed in the block leaves its folder behind, and its lock free: the next one to come here
        sweeps the folder away.
        """
        place, lock = self._entered()
        try:
            yield place / "work"
        finally:
            shutil.rmtree(place, ignore_errors=True)
            lock.close()

    def _entered(self) -> tuple[Path, IO[str]]:
        folder = self.path("incoming")
        with disk_writes("what is on its way"):
            folder.mkdir(parents=True, exist_ok=True)
            # One at a time: a folder that is made already and not locked yet would be swept away.
            with (self.folder / ".incoming").open("w") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                _sweep(folder)
                place = Path(tempfile.mkdtemp(dir=folder))
                lock = (place / "lock").open("w")
                fcntl.flock(lock, fcntl.LOCK_EX)
            (place / "work").mkdir()
        return place, lock

    def _below(self, prefix: str) -> list[Path]:
        folder = self.path(prefix)
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _sweep(incoming: Path) -> None:
    """Away with the folders whose processes are gone; what has no lock is not of this kind."""
    for lock in incoming.glob("*/lock"):
        with suppress(FileNotFoundError, BlockingIOError), lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _newest(path: Path) -> float:
    """When the file, or the newest in the folder, was last written or used. What is gone by now is not old."""
    try:
        return max(file.stat().st_mtime for file in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _size(path: Path) -> int:
    """Bytes; what is gone by now takes none."""
    try:
        return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
    except FileNotFoundError:
        return 0
