"""A worker's name for itself tells whether it still lives."""

from __future__ import annotations

import subprocess
import sys

import psutil

from infra.warm import identity


def test_we_are_not_gone() -> None:
    assert not identity.is_gone(identity.ours())


def test_a_process_of_this_machine_that_ended_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = f"{identity.machine()}:{process.pid}:{psutil.Process(process.pid).create_time()}"
        assert not identity.is_gone(name)
        process.communicate(b"\n")
    assert identity.is_gone(name)


def test_another_process_under_its_number_is_not_taken_for_it() -> None:
    where, pid, born = identity.ours().rsplit(":", 2)
    assert identity.is_gone(f"{where}:{pid}:{float(born) - 1}")


def test_of_another_machine_nothing_is_claimed() -> None:
    assert not identity.is_gone("another/4026531836:1:0.0")
