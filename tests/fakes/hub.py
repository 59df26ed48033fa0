"""The Hugging Face hub as loopback plays it: what a repository holds, and its files, also from where one stopped."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "abc"
LARGE = (".bin", ".safetensors")  # kept outside of git, so that the hub knows their sums


class Hub(ThreadingHTTPServer):
    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories = repositories
        self.asked: list[tuple[str, str | None]] = []  # path and range
        self.lies = False  # about sums
        self.silent = False
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def listing(self, repository: str) -> bytes:
        files = self.repositories[repository]
        siblings = [
            {"rfilename": name, "size": len(content)}
            | ({"lfs": {"sha256": self.sum(content)}} if name.endswith(LARGE) else {})
            for name, content in files.items()
        ]
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()

    def sum(self, content: bytes) -> str:
        return "0" * 64 if self.lies else hashlib.sha256(content).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append((path, self.headers["Range"]))
        repository, _, name = path.removeprefix("/").partition(f"/resolve/{COMMIT}/")
        if hub.silent:
            hub.closing.wait(10)
        elif (listed := path.removeprefix("/api/models/")) in hub.repositories:
            self.answer(200, hub.listing(listed))
        elif name in hub.repositories.get(repository, {}):
            content = hub.repositories[repository][name]
            begin = int((self.headers["Range"] or "bytes=0-")[6:-1])
            self.answer(206 if begin else 200, content[begin:])
        else:
            self.answer(404, b"")

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def a_hub(repositories: dict[str, dict[str, bytes]]) -> Generator[Hub]:
    """Serving these repositories: name → file → content."""
    hub = Hub(repositories)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        hub.shutdown()
        hub.server_close()
        thread.join()
