"""Files in a folder, each written whole or not at all; the API serves them under /files/."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from infra.errors import MissingFile, disk_writes

URL_PREFIX = "/files/"


@dataclass(frozen=True)
class LocalStorage:
    folder: Path

    def path(self, key: str) -> Path:
        """Where the key's file stands, or would stand. A key never leads out of the folder."""
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or "\\" in key or "\0" in key or any(part in ("..", ".") for part in parts):
            raise MissingFile(name=key)
        return self.folder.joinpath(*parts)

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def url(self, key: str) -> str:
        """The link to the file, relative to the API's own address, which may change between starts."""
        return URL_PREFIX + quote(key)

    def key(self, url: str) -> str | None:
        """The key behind one of our links."""
        return unquote(url.removeprefix(URL_PREFIX)) if url.startswith(URL_PREFIX) else None

    def put(self, key: str, content: bytes) -> str:
        with self.writing(key) as partial:
            partial.write_bytes(content)
        return self.url(key)

    def keep(self, key: str, file: Path) -> str:
        """Move a finished file into the storage."""
        with self.writing(key) as partial:
            shutil.move(file, partial)
        return self.url(key)

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
        folder, before = self.path(prefix), time.time() - seconds
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [f"{prefix}/{path.name}" for path in found if _newest(path) < before]

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


def _newest(path: Path) -> float:
    """When the file, or the newest in the folder, was last written or used. What is gone by now is not old."""
    try:
        return max(file.stat().st_mtime for file in (path, *path.rglob("*")))
    except FileNotFoundError:
        return time.time()
