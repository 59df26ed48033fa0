"""The house itself: what is held, what is not committed, what the service does not pull in."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from infra.jobs.stages import SHARES, Stage

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "demucs", "whisperx"}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_holds_each_package_by_hash_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.findall(
        r"^[a-z0-9][\w.-]*(?:\[[\w,-]+\])?==[^\n]+((?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+)", lock, re.MULTILINE
    )
    assert len(packages) == len(re.findall(r"^[a-z0-9][^\n]*==", lock, re.MULTILINE)) > 100
    assert "://" not in lock


def test_the_service_itself_pulls_in_nothing_heavy() -> None:
    base = {re.split(r"[\[<>=!~;]", name)[0] for name in project()["dependencies"]}  # pyright: ignore
    assert not base & HEAVY
    assert {name.split(">")[0] for name in project()["optional-dependencies"]["gpu"]} == HEAVY  # pyright: ignore


def test_the_lock_of_the_service_holds_heavy_packages_only_for_their_extra() -> None:
    """`# via` tells who asks for torch: nobody outside the extra."""
    lock = (ROOT / "requirements.lock").read_text()
    asks = re.search(r"^torch==.*?# via\n((?:    #   \S+\n?)+)", lock, re.MULTILINE | re.DOTALL)
    assert asks is not None
    askers = set(re.findall(r"#   (\S+)", asks[1]))
    assert "faster-whisper" not in askers
    assert "prefect" not in askers


def test_nothing_that_holds_addresses_of_registries_is_committed() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert not {"uv.lock", "pylock.toml", ".env"} & set(tracked.stdout.split())


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_fills_a_share_of_the_bar(stage: Stage) -> None:
    begin, end = SHARES[stage]
    assert 0 <= begin <= end <= 100
