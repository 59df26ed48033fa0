"""Prefect's event stream: which flow runs changed. An event only says "look": states are asked of Prefect's API.

Events come over a websocket as they happen. What it missed (the mirror was down, the connection broke, the server
dropped what a slow reader did not take) is read from Prefect's log of events, from `until` on and again every few
seconds, since an event stands in that log only some seconds after it happened.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Self, cast
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.typing import Subprotocol

from infra.engine import call
from infra.errors import EngineAway
from infra.settings import settings

WANTED = {
    "prefix": ["prefect.flow-run.", "prefect.task-run.AwaitingRetry"],
    "exclude_prefix": ["prefect.flow-run.heartbeat"],
}
RUN = "prefect.flow-run."  # begins the name of a run's resource
LAG = timedelta(seconds=20)  # an event this old stands in Prefect's log for certain
AS_FAR_BACK = timedelta(days=1)  # older runs that changed meanwhile are history
READ_AGAIN = 15.0  # seconds
PATIENCE = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before another connection, by how many failed in a row
GATHER = 0.1  # seconds: a change seldom comes alone

log = logging.getLogger("mirror.stream")


class Stream:
    def __init__(self, since: datetime | None) -> None:
        self.until = since or datetime.now(UTC)  # what happened before is known
        self._changed: set[str] = set()
        self._news, self._over = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1.0)

    def wait(self, seconds: float) -> set[str]:
        """The runs that changed since the last call: as soon as there are some, none when the time is over."""
        if self._news.wait(seconds):
            self._over.wait(GATHER)
        with self._lock:
            self._news.clear()
            changed, self._changed = self._changed, set()
        return changed

    def _follow(self) -> None:
        failed = 0
        while not self._over.is_set():
            try:
                with connected() as socket:
                    failed = 0
                    self._read(socket)
            except (OSError, WebSocketException, EngineAway, ValueError) as error:
                if failed == 0:
                    log.warning("the event stream broke off (%s): until it is back, the mirror asks", error)
                self._over.wait(PATIENCE[min(failed, len(PATIENCE) - 1)])
                failed += 1

    def _read(self, socket: Connection) -> None:
        again = 0.0
        while not self._over.is_set():
            if monotonic() >= again:
                self._catch_up()
                again = monotonic() + READ_AGAIN
            try:
                message = json.loads(socket.recv(timeout=0.5))
            except TimeoutError:
                continue
            self._saw([message["event"]])

    def _catch_up(self) -> None:
        now = datetime.now(UTC)
        for events in logged(max(self.until, now - AS_FAR_BACK), now):
            self._saw(events)
            if self._over.is_set():
                return
        self.until = max(self.until, now - LAG)

    def _saw(self, events: Iterable[Mapping[str, Any]]) -> None:
        runs = {run for event in events for run in runs_of(event)}
        if runs:
            with self._lock:
                self._changed |= runs
                self._news.set()


def connected() -> Connection:
    """A connection on which events have begun to come."""
    address = urlsplit(settings().prefect_api_url or "")
    url = address._replace(scheme={"http": "ws", "https": "wss"}.get(address.scheme, "ws")).geturl()
    socket = connect(
        f"{url}/events/out", subprotocols=[Subprotocol("prefect")], open_timeout=5, close_timeout=1, max_size=None
    )
    try:
        key = settings().prefect_api_key
        socket.send(json.dumps({"type": "auth", "token": key.get_secret_value() if key else None}))
        if json.loads(socket.recv(timeout=5)).get("type") != "auth_success":
            raise EngineAway
        now = datetime.now(UTC)
        wanted = {"event": WANTED, "occurred": _between(now, now + timedelta(days=365))}
        socket.send(json.dumps({"type": "filter", "filter": wanted, "backfill": False}))
    except BaseException:
        socket.close()
        raise
    return socket


def logged(since: datetime, until: datetime) -> Iterator[list[Mapping[str, Any]]]:
    """What Prefect's log holds of that time, the oldest first."""
    wanted = {"event": WANTED, "occurred": _between(since, until), "order": "ASC"}
    page = call("POST", "/events/filter", {"filter": wanted})
    while page is not None:
        yield page["events"]
        if not page["next_page"]:
            return
        page = call("GET", f"/events/filter/next?{urlsplit(str(page['next_page'])).query}")


def runs_of(event: Mapping[str, Any]) -> set[str]:
    """The flow runs that an event tells of: its own, or that of the task it tells of."""
    resources = cast("list[Mapping[str, str]]", [event.get("resource", {}), *event.get("related", [])])
    ids = (resource.get("prefect.resource.id", "") for resource in resources)
    return {id.removeprefix(RUN) for id in ids if id.startswith(RUN)}


def _between(since: datetime, until: datetime) -> dict[str, str]:
    return {"since": since.isoformat(), "until": until.isoformat()}
