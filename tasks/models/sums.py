"""The checksums kept beside weights, as `sha256sum --check` reads them: what was right once can be checked again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

SUMS = "SHA256SUMS"
CHUNK = 1 << 20  # bytes


def digest(file: Path, read: Callable[[int], object] = lambda _: None) -> str:
    """The file's sha256; told of each piece that was read, by its bytes."""
    sha256 = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(CHUNK):
            sha256.update(chunk)
            read(len(chunk))
    return sha256.hexdigest()


def keep(folder: Path, sums: Mapping[str, str]) -> None:
    (folder / SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def kept(folder: Path) -> dict[str, str]:
    """The sums by file; none where the folder was not filled by us."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def damaged(folder: Path, read: Callable[[int], object] = lambda _: None) -> Generator[str]:
    """The files that are not what they were."""
    for name, sha256 in kept(folder).items():
        if not (folder / name).is_file() or digest(folder / name, read) != sha256:
            yield name
