"""RunPod's serverless API on loopback: its paths, states, errors, and one worker.

with RunPodServer() as runpod:
    runpod.url                                       what RUNPOD_URL names; also runpod.environment()
    runpod.next(Play(news=[40], output={...}))       how the next call goes; without one, DOCUMENT at once
    runpod.next(Play(work=handler))                  … or as a handler of ours does it, through RunPod's own SDK
    runpod.fault("run", Fault(status=429))           what the next request to that path meets instead
    runpod.calls                                     every call ever made, in order
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "rpa_secret"
ENDPOINT = "endpoint1"
DOCUMENT = {
    "words": [
        {"word": "Light", "start": 1.0, "end": 1.5, "confidence": 0.9},
        {"word": "house", "start": 1.6, "end": 2.0, "confidence": 0.8},
    ],
    "srt": "1\n00:00:01,000 --> 00:00:02,000\nLight house\n",
    "plain": "Light house",
    "metadata": {"title": "", "duration": 3.0, "processedAt": "2026-01-01T00:00:00.000Z"},
}


@dataclass
class Play:
    """How a call goes, poll by poll: so many in the queue, one for each piece of news, then the end."""

    queued: int = 0
    news: list[Any] = field(default_factory=list)
    status: str = "COMPLETED"
    output: Any = field(default_factory=lambda: DOCUMENT)
    error: Any = None
    stuck: bool = False  # in progress for ever, as after a progress update that came late
    forgotten: bool = False  # in the end, as when its ttl is over
    work: Callable[[dict[str, Any]], Any] | None = None  # instead of all that: a handler


@dataclass
class Fault:
    status: int | None = None
    retry_after: int | None = None
    truncated: bool = False  # half of the true answer
    lost: bool = False  # the request is done, the connection breaks before the answer
    hangs: float = 0.0  # seconds between the work and the answer


@dataclass
class Call:
    id: str
    body: dict[str, Any]
    play: Play
    polls: int = 0
    told: Any = None  # by the handler
    ended: dict[str, Any] | None = None  # its last word
    cancelled: bool = False
    stays: bool = False  # its worker, although its job is over

    @property
    def input(self) -> dict[str, Any]:
        return self.body["input"]

    def status(self) -> dict[str, Any] | None:
        """What /status says this time; None where it no longer knows the call."""
        self.polls += 1
        here = {"id": self.id, "delayTime": 1}
        if self.cancelled:
            return here | {"status": "CANCELLED"}
        if self.play.work:
            running = {"status": "IN_PROGRESS"} | ({"output": self.told} if self.told else {})
            return here | (self.ended or running)
        at = self.polls - 1 - self.play.queued
        if at < 0:
            return here | {"status": "IN_QUEUE"}
        if at < len(self.play.news) or self.play.stuck:
            news = self.play.news[min(at, len(self.play.news) - 1)] if self.play.news else None
            return here | {"status": "IN_PROGRESS"} | ({} if news is None else {"output": news})
        if self.play.forgotten:
            return None
        self.ended = {"status": self.play.status, "executionTime": 5}
        self.ended |= {"output": self.play.output} if self.play.status == "COMPLETED" else {"error": self.play.error}
        return here | self.ended


class RunPodServer:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.lingers = 0  # looks at /health for which a worker outlives its last job
        self.files: dict[str, bytes] = {}  # under /files/…, for anybody
        self._plays: deque[Play] = deque()
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._one_worker = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._workers: list[threading.Thread] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v2"

    def environment(self) -> dict[str, str]:
        return {"RUNPOD_URL": self.url, "RUNPOD_API_KEY": KEY, "RUNPOD_ENDPOINT_ID": ENDPOINT}

    @property
    def job_done_url(self) -> str:
        """Where RunPod's SDK sends what a handler tells."""
        return f"{self.url}/{ENDPOINT}/job-done/$ID?gpu=none"

    def next(self, *plays: Play) -> None:
        self._plays.extend(plays)

    def fault(self, path: str, *faults: Fault) -> None:
        self._faults[path].extend(faults)

    def met(self, path: str) -> Fault:
        return self._faults[path].popleft() if self._faults[path] else Fault()

    def run(self, body: dict[str, Any]) -> dict[str, Any]:
        call = Call(f"call-{len(self.calls) + 1}-e1", body, self._plays.popleft() if self._plays else Play())
        self.calls.append(call)
        if call.play.work:
            worker = threading.Thread(target=self._work, args=(call,))
            self._workers.append(worker)
            worker.start()
        return {"id": call.id, "status": "IN_QUEUE"}

    def call(self, id: str) -> Call | None:
        return next((call for call in self.calls if call.id == id), None)

    def health(self) -> dict[str, Any]:
        busy = sum(call.ended is None and not call.cancelled for call in self.calls)
        running = bool(busy) or self.lingers > 0 or any(call.stays for call in self.calls)
        self.lingers -= self.lingers > 0
        return {
            "jobs": {"completed": 0, "failed": 0, "inProgress": busy, "inQueue": 0, "retried": 0},
            "workers": {"idle": 1, "initializing": 0, "running": int(running), "throttled": 0},
        }

    def _work(self, call: Call) -> None:
        """As RunPod's worker does it: through the SDK's own run_job."""
        from runpod.serverless.modules.rp_job import run_job

        assert call.play.work
        with self._one_worker:
            result = asyncio.run(run_job(call.play.work, {"id": call.id, "input": call.input}))
        call.stays = not result.get("stopPod")
        failed = {"status": "FAILED", "error": result.get("error")}
        call.ended = failed if "error" in result else {"status": "COMPLETED", "output": result.get("output")}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.join(60)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(runpod: RunPodServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/files/"):
                content = runpod.files.get(self.path)
                return self._send(200 if content else 404, content or b"")
            return self._api()

        def do_POST(self) -> None:
            self._api()

        def _api(self) -> None:
            _, version, endpoint, verb, *rest = self.path.partition("?")[0].split("/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if verb == "job-done":
                return self._told(rest[0], json.loads(body))
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                return self._send(401, b"")
            if (version, endpoint) != ("v2", ENDPOINT):
                return self._send(404, b'{"error": "endpoint not found"}')
            fault = runpod.met(verb)
            if fault.status:
                return self._send(fault.status, b"{}", fault)
            answer = self._answer(verb, rest[0] if rest else "", body)
            time.sleep(fault.hangs)
            if fault.lost:
                self.close_connection = True
                return None
            content = b'{"error": "not found"}' if answer is None else json.dumps(answer).encode()
            return self._send(404 if answer is None else 200, content, fault)

        def _answer(self, verb: str, id: str, body: bytes) -> dict[str, Any] | None:
            call = runpod.call(id)
            match verb:
                case "run":
                    return runpod.run(json.loads(body))
                case "health":
                    return runpod.health()
                case "status" if call:
                    return call.status()
                case "cancel" if call:
                    call.cancelled = True
                    return {"id": id, "status": "CANCELLED"}
                case _:
                    return None

        def _told(self, id: str, news: dict[str, Any]) -> None:
            call = runpod.call(id)
            if call and news.get("status") == "IN_PROGRESS":
                call.told = news["output"]
            self._send(200, b"{}")

        def _send(self, status: int, content: bytes, fault: Fault | None = None) -> None:
            fault = fault or Fault()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if fault.retry_after is not None:
                self.send_header("Retry-After", str(fault.retry_after))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault.truncated else content)
            self.close_connection |= fault.truncated

        def log_message(self, *_: object) -> None: ...

    return Handler
