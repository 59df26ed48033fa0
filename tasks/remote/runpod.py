"""RunPod's serverless API: one endpoint, whose workers run infra/deploy/runpod_handler.py.

Nothing makes POST /run idempotent. Where its answer gets lost, the order is sent again, under the same token, and a
worker that finds the answer to that token kept gives it without working (tasks/remote/work.py).
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urljoin

import httpx

from infra.errors import Passing, ProviderFailed, ProviderNotReady, TooLargeToSend, UserError
from infra.jobs.request import Request
from infra.jobs.stages import Progress
from infra.settings import settings
from infra.storage import storage
from tasks.remote import Memory, call, wire
from tasks.remote.call import Answered, Broken, State, Unreached, Waiting, Working, asked_once
from tasks.remote.fetch import fetched
from tasks.song import Audio, Song

log = logging.getLogger(__name__)

NAME = "RunPod"
BODY_MB = 10  # the largest body of /run
INLINE = (BODY_MB << 20) * 3 // 4 - (64 << 10)  # bytes of sound that fit into it: base64 grows by a third
RESULT_MB = 20
TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds; an answer to /run that is given up is paid for all the same
GOING = 20.0  # seconds that a worker may take to end after its job
LOOK_AGAIN = 1.0  # seconds


def sing(audio: Audio, request: Request, report: Progress, memory: Memory) -> Song:
    """What tasks.gpu.sing does, done on RunPod."""
    with _api() as api:
        song = call.sing(RunPod(api, audio, request), audio, report, memory)
    threading.Thread(target=see_it_go, name="runpod worker goes", daemon=True).start()  # no song waits for that
    return song


def cancel(call: str) -> None:
    """End the call if it still runs; one that is over or unknown is left as it is."""
    with asked_once(NAME), _api() as api:
        _cancel(api, call)


def see_it_go() -> bool:
    """Has the worker ended after its job? An idle one is paid for, so one that stays is told to the operator."""
    deadline = time.monotonic() + GOING
    with _api() as api:
        while time.monotonic() < deadline:
            try:
                health = _ask(api, "GET", "health").json()
                jobs, workers = health["jobs"], health["workers"]
                if not workers.get("running") or jobs.get("inProgress") or jobs.get("inQueue"):
                    return True  # gone, or at somebody else's work
            except (Unreached, UserError, ValueError, KeyError, TypeError, AttributeError) as error:
                log.info("RunPod's /health tells nothing: %s", error)
            time.sleep(LOOK_AGAIN)
    log.warning("a RunPod worker still runs %.0f s after its job, and is paid for: see the endpoint's page", GOING)
    return False


@dataclass(frozen=True, slots=True)
class RunPod:
    api: httpx.Client
    audio: Audio
    request: Request
    name: str = NAME

    def start(self) -> str:
        working = call.working_time(self.audio)
        order = wire.order(self.audio, self.request, NAME) | self._sound() | {"auto_terminate": True}
        policy = {"executionTimeout": round(working * 1000), "ttl": round((call.QUEUED + working) * 1000)}
        answer = _ask(self.api, "POST", "run", {"input": order, "policy": policy})
        try:
            return str(answer.json()["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unreached("it answered nonsense") from error

    def look(self, call: str) -> State:
        answer = _ask(self.api, "GET", f"status/{call}", known=(404,))
        if answer.status_code == 404:
            return Broken("it no longer knows the call")
        try:
            told = cast(dict[str, Any], answer.json())
            return _state(told["status"], told.get("output"), told.get("error"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unreached("it answered nonsense") from error

    def cancel(self, call: str) -> None:
        _cancel(self.api, call)

    def _sound(self) -> dict[str, str]:
        if self.audio.path.stat().st_size <= INLINE:
            return {"audio": base64.b64encode(self.audio.path.read_bytes()).decode()}
        store = storage()
        key = store.key_of(self.audio.path)
        link = urljoin(settings().public_url or "", store.url(key)) if key else "/"
        if link.startswith("/"):
            raise TooLargeToSend(provider=NAME, limit_mb=BODY_MB)
        return {"audioUrl": link}


def _state(status: str, output: Any, error: Any) -> State:
    match status:
        case "IN_PROGRESS":
            return Working(output)
        case "COMPLETED":
            return _completed(output)
        case "FAILED":
            return _failed(error)
        case "CANCELLED":
            return Broken("the call was cancelled there")
        case "TIMED_OUT":
            return Broken("it did not finish in time")
        case _:  # IN_QUEUE, and what may come
            return Waiting()


def _completed(output: Any) -> State:
    """The result, or where it is kept."""
    if not isinstance(output, Mapping):
        return Broken("it gave no result")
    result = cast(Mapping[str, Any], output)
    if "resultUrl" not in result or "words" in result:
        return Answered(result)
    try:
        return Answered(json.loads(fetched(str(result["resultUrl"]), RESULT_MB)))
    except Passing as error:
        raise Unreached(f"its result cannot be fetched: {wire.shown(str(error))}") from error
    except (UserError, ValueError) as error:
        return Broken(f"its result cannot be fetched: {wire.shown(str(error))}")


def _failed(error: Any) -> State:
    """Our handler's sentence; or RunPod's own, of a worker that fell; or a traceback, which users do not read."""
    try:
        told = json.loads(error)
    except (ValueError, TypeError):
        told = None
    if isinstance(told, Mapping) and "error" in told:
        return Answered(told)
    log.warning("a RunPod worker failed: %s", error)
    if isinstance(told, Mapping):
        return Broken("its worker raised an error, which the log holds")
    return Broken(wire.shown(str(error or "")))


# --- HTTP -------------------------------------------------------------------------------------


@contextmanager
def _api() -> Generator[httpx.Client]:
    key, endpoint = settings().runpod_api_key, settings().runpod_endpoint_id
    if key is None or endpoint is None:
        raise ProviderNotReady(provider=NAME, reason="RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID are not both set")
    with httpx.Client(
        base_url=f"{settings().runpod_url.rstrip('/')}/{endpoint}/",
        headers={"Authorization": f"Bearer {key.get_secret_value()}"},
        timeout=TIMEOUT,
    ) as client:
        yield client


def _ask(api: httpx.Client, method: str, path: str, body: Any = None, *, known: tuple[int, ...] = ()) -> httpx.Response:
    """RunPod's answer, with a status that is good or `known`."""
    try:
        answer = api.request(method, path, json=body)
    except httpx.HTTPError as error:
        raise Unreached(
            "it does not answer" if isinstance(error, httpx.TimeoutException) else "no connection"
        ) from error
    status = answer.status_code
    if answer.is_success or status in known:
        return answer
    if status in (401, 403):
        raise ProviderNotReady(provider=NAME, reason="it refuses the key in RUNPOD_API_KEY")
    if status == 404:
        raise ProviderNotReady(provider=NAME, reason="it knows no endpoint of the id in RUNPOD_ENDPOINT_ID")
    if status in (408, 425, 429) or status >= 500:
        raise Unreached(f"it answered {status}", _seconds(answer.headers.get("Retry-After")))
    raise ProviderFailed(provider=NAME, reason=f"it answered {status} to {method} /{path.partition('/')[0]}")


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0


def _cancel(api: httpx.Client, call: str) -> None:
    _ask(api, "POST", f"cancel/{call}", known=(400, 404, 409))
