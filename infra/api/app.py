"""The application: routes, errors as one sentence, who may call it, files and the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from infra import database, runs
from infra.api import batches, jobs
from infra.errors import (
    UNEXPECTED,
    DatabaseAway,
    DiskFull,
    KeyReused,
    MissingFile,
    Passing,
    StorageRefused,
    TooLarge,
    UserError,
)
from infra.jobs import breakers, table
from infra.jobs.breakers import Closed
from infra.settings import Settings
from infra.storage import content_type, here
from tasks.download.cookies import cookies

PAGE = Path(__file__).parent / "page"
STARTED = time.time()
POLICY = (
    "default-src 'self'; media-src 'self' https: blob:; img-src 'self' https: data:; connect-src 'self' https:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
CODES: dict[type[UserError], int] = {
    jobs.NoSuchJob: 404,
    batches.NoSuchBatch: 404,
    MissingFile: 404,
    KeyReused: 409,
    TooLarge: 413,
    StorageRefused: 502,
    DiskFull: 507,
}

log = logging.getLogger("api")


class Liveness:
    stopping = False


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(title="yt-lyrics", docs_url=None, redoc_url=None)  # their pages load scripts from elsewhere
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.frontend_origin),
        allow_credentials=True,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Content-Range", "Accept-Ranges", "Content-Length", "Idempotency-Replayed"],
    )
    app.middleware("http")(_say_what_may_be_loaded)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _bug)
    app.include_router(jobs.router)
    app.include_router(batches.router)
    app.add_api_route("/health", health)
    app.add_api_route("/metrics", metrics)
    app.add_api_route("/files/{key:path}", file, methods=["GET", "HEAD"])
    app.mount("/page", StaticFiles(directory=PAGE, check_dir=False), name="page")
    app.add_api_route("/", index, include_in_schema=False)
    return app


def index() -> FileResponse:
    return FileResponse(PAGE / "index.html")


def file(key: str) -> FileResponse:
    """Kept audio and results of this machine, with ranges."""
    if not key.startswith(("audio/", "transcriptions/")):
        raise MissingFile(name=key)
    path = here().file(key)
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    if key.startswith("transcriptions/"):
        headers["Content-Disposition"] = f'inline; filename="{path.name}"'
    return FileResponse(path, media_type=content_type(key), headers=headers)


def health() -> JSONResponse:
    stored = not Liveness.stopping and database.alive()  # nothing may delay the stop
    engine = not Liveness.stopping and runs.alive()
    status = "shutting_down" if Liveness.stopping else "ok" if stored and engine else "degraded"
    answer = {
        "status": status,
        "timestamp": datetime.now(UTC).isoformat(),
        "uptime": round(time.time() - STARTED, 3),
        "database": _link(stored),
        "engine": _link(engine),
        **(_youtube() if stored else {}),
    }
    # Without Prefect jobs are accepted all the same: a load balancer must not turn its callers away.
    return JSONResponse(answer, status_code=200 if stored else 503)


def _youtube() -> dict[str, Any]:
    """Whom YouTube limits at the moment, and whether its cookies still serve."""
    try:
        closed = breakers.all_closed()
    except DatabaseAway:
        return {}
    limited = [
        {"egress": way.name, "until": way.until.isoformat(), "reason": way.reason}
        for way in closed
        if not way.name.startswith(breakers.STALE)
    ]
    return {"youtube": {"limited": limited, "cookies": _cookies(closed)}}


def _cookies(closed: Sequence[Closed]) -> dict[str, Any]:
    given = cookies()
    if given is None:
        return {"status": "none"}
    stale = [way.reason for way in closed if way.name.startswith(breakers.STALE) and given.digest in way.name]
    problem = stale[0] if stale else given.problem
    answer = {
        "status": "stale" if stale else "unusable" if problem else "good",
        "problem": problem,
        "expires": given.expires.isoformat() if given.expires else None,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _link(connected: bool) -> dict[str, Any]:
    return {"status": "connected" if connected else "disconnected", "connected": connected}


def metrics(request: Request) -> Response:
    """Runtime metrics: JSON, or Prometheus' text where a scraper asks for it."""
    process = psutil.Process()
    counted: dict[str, int] = table.count()
    answer: dict[str, Any] = {
        "uptime": round(time.time() - STARTED, 3),
        "memory": {"rss": process.memory_info().rss},
        "cpuSeconds": round(sum(process.cpu_times()[:2]), 3),
        "jobs": counted,
    }
    if "text/plain" not in request.headers.get("accept", ""):
        return JSONResponse(answer)
    lines = [
        f"yt_lyrics_uptime_seconds {answer['uptime']}",
        f"yt_lyrics_memory_bytes {answer['memory']['rss']}",
        f"yt_lyrics_cpu_seconds_total {answer['cpuSeconds']}",
        *(f'yt_lyrics_jobs{{status="{status}"}} {number}' for status, number in sorted(counted.items())),
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


async def _say_what_may_be_loaded(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await proceed(request)
    if request.url.path == "/" or request.url.path.startswith("/page/"):
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Cache-Control"] = "no-cache"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


# --- every error is {"error": one sentence} -----------------------------------------------------


def _error(sentence: str, code: int) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=code)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), None)
    return _error(str(error), code or (503 if isinstance(error, Passing) else 400))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _error(f"{first['loc'][-1]}: {first['msg']}.", 400)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(str(error.detail), error.status_code)


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _error(UNEXPECTED, 500)
