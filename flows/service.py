"""The service that the command line speaks to: one that is up, or one of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from socket import AF_INET, AF_INET6

import typer

from flows import terminal
from flows.client import Api
from infra.errors import BadRequest
from infra.folders import writable
from infra.settings import Settings


def running_url(chosen: Settings) -> str:
    from infra.stack.lock import running

    there = running(chosen.data) if chosen.data.is_dir() else None
    if there is None:
        raise BadRequest(
            what="No service is running on this data folder: start one with `yt-lyrics up`, or give --url."
        )
    return there.page


def check_before_start(chosen: Settings) -> None:
    """What would stop the start a few seconds later, in one sentence."""
    from flows.doctor import Verdict, database, prefect
    from infra.stack.lock import running

    writable(chosen.data, mode=0o700)
    for verdict, sentence in (database(chosen), prefect(chosen)):
        if verdict is Verdict.BROKEN:
            raise BadRequest(what=f"{sentence}.")
    if running(chosen.data) is None:
        for host, port in ((chosen.listen, chosen.port), ("127.0.0.1", chosen.prefect_port)):
            if port is not None:
                try:
                    socket.create_server((host, port), family=AF_INET6 if ":" in host else AF_INET).close()
                except OSError as error:
                    taken = f"Port {port} cannot be opened on {host}: another program may have it."
                    raise BadRequest(what=taken) from error


@contextmanager
def a_service(chosen: Settings, *, keep: bool) -> Generator[tuple[Api, bool]]:
    """The service that is running on the data folder, or one of ours for as long as this block lasts."""
    from infra.stack.lock import running

    writable(chosen.data, mode=0o700)
    there = running(chosen.data)
    if there is not None:
        terminal.err.print(f"Using the service that is up already: {there.page}")
        yield Api(there.page), False
        return
    command = [sys.executable, "-m", "flows.cli", "up", "--data", str(chosen.data)]
    # Kept, it must outlive this terminal's Ctrl-C; otherwise we stop it ourselves.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while (there := running(chosen.data)) is None:
            if process.poll() is not None:  # and has said why
                raise typer.Exit(1)
            time.sleep(0.1)
        yield Api(there.page), True
    except BaseException:
        keep = False
        raise
    finally:
        if keep:
            terminal.say(f"Everything stays up (stop it: kill {process.pid})")
            process.returncode = 0  # ours no longer
        else:
            process.terminate()
            process.wait()
