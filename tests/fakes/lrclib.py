"""LRCLIB on loopback: it knows a few songs, and can be busy, slow or broken.

with LrclibServer() as server:
    server.environment()               LRCLIB and its address, as the settings take them
    server.asked                       every request, in order: its parameters and headers
    server.tracks[("Nobody", "Harbor Light")] = {"duration": 55.7, "plainLyrics": "…"}
    server.fault(Fault(status=429, retry_after="1"))     what the next request meets
"""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

APART = 2.0  # seconds


@dataclass(frozen=True)
class Fault:
    status: int = 0  # answered instead; 0 answers as it should
    retry_after: str | None = None
    body: bytes | None = None  # answered instead, with status 200
    hangs: bool = False  # no answer comes
    drips: bool = False  # the body comes byte by byte, with no end
    breaks: bool = False  # the connection, in the middle of the body


@dataclass(frozen=True)
class Asked:
    query: dict[str, str]
    agent: str


class LrclibServer(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tracks: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self._faults: deque[Fault] = deque()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="fake LRCLIB")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def environment(self) -> dict[str, str]:
        return {"LRCLIB": "true", "LRCLIB_URL": f"http://127.0.0.1:{self.server_port}"}

    def fault(self, *faults: Fault) -> None:
        self._faults.extend(faults)

    def met(self) -> Fault:
        return self._faults.popleft() if self._faults else Fault()

    def forget(self) -> None:
        """As it was at first."""
        self.tracks.clear()
        self.asked.clear()
        self._faults.clear()

    def found(self, query: dict[str, str]) -> dict[str, Any] | None:
        """The song of that name and artist, if it is about as long."""
        track = self.tracks.get((query["artist_name"], query["track_name"]))
        if track is None or abs(track["duration"] - float(query.get("duration", track["duration"]))) > APART:
            return None
        named = {"id": 1, "trackName": query["track_name"], "artistName": query["artist_name"], "albumName": "-"}
        return {**named, "instrumental": False, "plainLyrics": None, "syncedLyrics": None, **track}


class _Handler(BaseHTTPRequestHandler):
    server: LrclibServer
    timeout = 10  # seconds, so that no client keeps the server from closing

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        self.server.asked.append(Asked(query, self.headers.get("User-Agent", "")))
        fault = self.server.met()
        if fault.hangs:
            self.server.stopping.wait(20)
            return
        if fault.status:
            self._send(fault.status, {"message": "Something went wrong", "statusCode": fault.status}, fault)
        elif parts.path != "/api/get" or not {"artist_name", "track_name"} <= query.keys():
            self._send(400, {"message": "Missing parameters", "name": "ValidationError", "statusCode": 400}, fault)
        elif track := self.server.found(query):
            self._send(200, track, fault)
        else:
            missing = {"message": "Failed to find specified track", "name": "TrackNotFound", "statusCode": 404}
            self._send(404, missing, fault)

    def _send(self, status: int, answer: dict[str, Any], fault: Fault) -> None:
        content = json.dumps(answer).encode() if fault.body is None else fault.body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) * (100 if fault.drips else 1)))
        if fault.retry_after is not None:
            self.send_header("Retry-After", fault.retry_after)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            if fault.drips:
                while not self.server.stopping.wait(0.05):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            else:
                self.wfile.write(content[: len(content) // 2] if fault.breaks else content)

    def log_message(self, *_: object) -> None: ...
