"""Which worker a run was taken by, in a word that tells whether that worker still lives.

A worker's children die with it. So a run that was taken by a process of this machine that is gone is dead as well,
which its heartbeat would show half a minute later.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import psutil


@cache
def machine() -> str:
    """This boot and this PID namespace: two containers of one name are two machines, and so is one that restarted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116
    except OSError:  # no Linux
        return socket.gethostname()


@cache
def ours() -> str:
    return f"{machine()}:{os.getpid()}:{psutil.Process().create_time()}"


def is_gone(identity: str) -> bool:
    """Whether it was a process of this machine that has ended. Of other machines we cannot tell: no."""
    where, pid, born = identity.rsplit(":", 2)
    if where != machine():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.create_time() != float(born) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
