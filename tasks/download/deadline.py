"""A limit on time that holds whatever the thread is doing: also while an answer comes byte by byte.

yt-dlp knows limits of silence only, and asks nobody while it reads. So a second thread raises an exception in the
first, as Prefect does for tasks that have a timeout. It arrives between two steps of Python: at the latest when the
socket gives a byte or its own timeout ends. The JavaScript that YouTube's player brings along runs in a process that
yt-dlp waits for without a limit: that is killed.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from infra.errors import DownloadFailed

RUNTIME = "deno"
AGAIN = 0.5  # seconds until it is raised once more: an exception in a destructor is lost


class _Overdue(BaseException):
    """No Exception, so that nothing takes it for a failure that it knows."""


@contextmanager
def within(seconds: float, reason: str) -> Generator[None]:
    """What takes longer inside fails for this reason."""
    here, over, lock = threading.get_ident(), threading.Event(), threading.Lock()
    began, thrown = time.time(), threading.Event()

    def watch() -> None:
        pause = seconds
        while not over.wait(pause):
            with lock:
                if not over.is_set():
                    thrown.set()
                    _throw(here)
            _end_runtimes(began)
            pause = AGAIN

    watcher = threading.Thread(target=watch, name="deadline", daemon=True)
    try:
        watcher.start()
        yield
    except _Overdue:
        raise DownloadFailed(reason=reason) from None
    finally:
        _call_off(here, over, lock, thrown)
        if watcher.is_alive():
            watcher.join()


def _call_off(here: int, over: threading.Event, lock: threading.Lock, thrown: threading.Event) -> None:
    """None is on its way any more to whoever comes after.

    Python has a call that takes back what is on its way; after that, 3.11 looks for it at each step for ever, and hangs
    where steps are traced. So one more is thrown instead, which takes the other's place, and is caught here.
    """
    settled = False
    while not settled:
        with suppress(_Overdue):
            with lock:
                over.set()
            if thrown.is_set():
                thrown.clear()
                _throw(here)
            settled = True


def _end_runtimes(since: float) -> None:
    """Those that were started within the block: what waits for them goes on."""
    import psutil  # not there on the far side of a call, where nothing is downloaded but by the function `fetch`

    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.name() == RUNTIME and child.create_time() >= since - 1.0:  # the kernel's clock is coarse
                child.kill()


def _throw(thread: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Overdue))
