"""The contract's calls on jobs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from infra import links, runs
from infra.api import answers
from infra.database import Connection
from infra.errors import BadRequest, EngineAway, Passing, TooLarge, UnknownModel, disk_writes
from infra.jobs import admission, table
from infra.jobs.admission import Fate, Key, Wanted, admit_within, once
from infra.jobs.job import Job
from infra.jobs.request import Provider, Queue, Request
from infra.jobs.states import Status
from infra.settings import settings
from infra.storage import here, storage
from infra.storage import link as link_to
from tasks.cache import keep_upload, source_of

CHUNK = 1 << 20  # bytes
LONGEST_KEY = 200  # characters of an Idempotency-Key
ASKED = tuple(name for name in Request.model_fields if name != "link")  # what a caller may say beside the link

router = APIRouter()
log = logging.getLogger("api")


def base_url(http: HttpRequest) -> str:
    return settings().public_url or str(http.base_url)


def found(id: str) -> Job:
    """The job as its caller sees it."""
    job = table.get(id)
    if job is None:
        raise NoSuchJob
    return table.seen([job])[0]


class NoSuchJob(BadRequest):
    """Job not found"""


@router.post("/api/jobs", status_code=201)
async def create(http: HttpRequest) -> JSONResponse:
    """A new job from a link (JSON) or a file (multipart field `file`)."""
    if http.headers.get("content-type", "").startswith("multipart/form-data"):
        check_size(http)
        async with http.form(max_files=1, max_fields=20) as form:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            file = form.get("file")
            if isinstance(file, UploadFile):
                kept = await run_in_threadpool(receive, file)
                return await run_in_threadpool(submit, http, {**fields, "youtubeUrl": f"upload:{kept}"}, file.filename)
            return await run_in_threadpool(submit, http, fields)
    try:
        asked = await http.json()
    except ValueError:
        raise BadRequest(what="The body of this request is neither JSON nor a form.") from None
    if not isinstance(asked, dict):
        raise BadRequest(what='The body must be a JSON object such as {"youtubeUrl": "https://youtu.be/…"}.')
    return await run_in_threadpool(submit, http, asked)  # pyright: ignore[reportUnknownArgumentType]


def check_size(http: HttpRequest) -> None:
    """Before a form is read: reading it writes all of it to the disk."""
    limit = settings().max_megabytes
    length = http.headers.get("content-length", "")
    if not length.isdigit():
        raise BadRequest(what="An upload must say its size in Content-Length.")
    if int(length) > limit * 10**6 + CHUNK:
        raise TooLarge(limit_mb=limit)


def receive(file: UploadFile) -> str:
    """Keep an uploaded file; the name under which it is kept."""
    limit = settings().max_megabytes
    with disk_writes("the upload"), here().incoming() as place:
        copy = place / "upload"
        size = 0
        with copy.open("wb") as target:
            while chunk := file.file.read(CHUNK):
                size += len(chunk)
                if size > limit * 10**6:
                    raise TooLarge(limit_mb=limit)
                target.write(chunk)
        return keep_upload(storage(), copy, file.filename or "upload")


def submit(http: HttpRequest, asked: Mapping[str, Any], name: str | None = None) -> JSONResponse:
    link = asked.get("youtubeUrl")
    if not isinstance(link, str) or not link.strip():
        raise BadRequest(what="Paste a link to a YouTube video, or choose a file.")
    target = links.parse(link.strip(), settings().allowed_hosts)
    wanted = Wanted(
        asked_for(target.canonical, asked),
        source_of(target),
        title=Path(name).stem if name else None,
        video_id=target.id or None,
    )

    def row(conn: Connection) -> dict[str, Any]:
        fates.update(admit_within(conn, [wanted]))
        return {"jobId": wanted.id}

    fates: dict[str, Fate] = {}
    answer, replayed = once(key_of(http, {**asked, "name": name}), row)
    # The row is the promise; whatever keeps this from starting its run, the mirror starts it.
    begins = fates.get(wanted.id) is Fate.BEGINS
    task = BackgroundTask(start, wanted.id, 1) if begins else None
    return JSONResponse(answer, 201, headers={"Idempotency-Replayed": "true"} if replayed else None, background=task)


def key_of(http: HttpRequest, asked: Mapping[str, Any]) -> Key | None:
    """The caller's key for this request, if there is one: the same call again gets the same answer."""
    name = http.headers.get("idempotency-key")
    if name is None:
        return None
    if not 0 < len(name) <= LONGEST_KEY or not name.isprintable():
        raise BadRequest(what=f"An Idempotency-Key has 1 to {LONGEST_KEY} characters that can be printed.")
    return Key.of(f"{http.url.path} {name}", asked)


def start(id: str, attempt: int, queue: Queue = Queue.PEOPLE) -> None:
    try:
        table.assign(id, attempt, runs.fetch(id, attempt, queue))
    except Passing as error:
        log.warning("job %s waits for the mirror to start it: %s", id, error)


def asked_for(link: str, asked: Mapping[str, Any]) -> Request:
    options = {name: asked[name] for name in ASKED if asked.get(name) not in (None, "")}
    # The command line takes a folder, too; a caller over HTTP must not name folders of this machine.
    if not re.fullmatch(r"[\w.-]*", str(options.get("model", ""))):
        raise UnknownModel(model=options["model"])
    try:
        request = Request.model_validate({"link": link, **options})
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(str(part) for part in first['loc'])}: " if first["loc"] else ""
        raise BadRequest(what=f"{where}{first['msg'].removeprefix('Value error, ')}.") from None
    allowed = tuple(dict.fromkeys((*settings().routes, Provider.CPU)))  # the others may cost money
    if request.provider not in (None, *allowed):
        raise BadRequest(what=f"provider: songs are not made on {request.provider} here, but on {', '.join(allowed)}.")
    return request


@router.get("/api/jobs")
def jobs(
    http: HttpRequest,
    status: Status | None = None,
    limit: int = Query(20, ge=1, le=100),
    after: str | None = None,
) -> dict[str, Any]:
    found = table.recent(status=status, limit=limit + 1, after=after)
    page = table.seen(found[:limit])
    return {
        "jobs": [answers.listed(job, base_url(http)) for job in page],
        "next": page[-1].id if len(found) > limit else None,
    }


@router.get("/api/jobs/{id}")
def job(id: str, http: HttpRequest) -> dict[str, Any]:
    return answers.brief(found(id), base_url(http))


@router.get("/api/jobs/{id}/progress")
def progress(id: str, http: HttpRequest) -> dict[str, Any]:
    job = found(id)
    audio = link_to(job.audio_key) if job.audio_key else None
    more = {"provider": job.provider, "race": job.request.race if job.request.race > 1 else None}
    shown = {name: value for name, value in more.items() if value is not None}
    return answers.progress(job, base_url(http), audio) | shown


@router.get("/api/jobs/{id}/steps")
def steps(id: str) -> dict[str, Any]:
    return answers.steps(found(id))


@router.get("/api/jobs/{id}/files")
def files(id: str, http: HttpRequest) -> dict[str, Any]:
    base = base_url(http)
    return {"files": {name: answers.absolute(url, base) for name, url in found(id).files.items()}}


@router.get("/api/jobs/{id}/result")
def result(id: str, http: HttpRequest) -> RedirectResponse:
    job = found(id)
    url = answers.absolute(job.results_url, base_url(http))
    if job.status is not Status.COMPLETED or url is None:
        raise BadRequest(what="Result not ready")
    return RedirectResponse(url, status_code=302)


@router.post("/api/jobs/{id}/retry", status_code=201)
def retry(id: str) -> JSONResponse:
    """The next attempt of a job that failed or was cancelled, with what is kept of it."""
    found(id)
    job = admission.retry(id)
    if job is None:
        return JSONResponse({"error": f"There is nothing to try again: the job is {found(id).status}"}, status_code=409)
    task = None if job.follows else BackgroundTask(start, id, job.attempt)
    return JSONResponse({"jobId": id}, status_code=201, background=task)


@router.delete("/api/jobs/{id}")
def cancel(id: str) -> JSONResponse:
    """The row ends at once; the run that works on it is ended by Prefect, or by the mirror if Prefect is away.

    Others who wait for the same song keep waiting: the first of them goes on with it.
    """
    found(id)
    job = table.cancel(id)
    if job is None:
        return JSONResponse({"error": f"This job has ended already: {found(id).status}"}, status_code=409)
    if job.run_id is not None:
        try:
            runs.cancel(job.run_id)
        except EngineAway:
            log.warning("Prefect is away: the mirror cancels the run of job %s", id)
    heir = table.heir(job.fingerprint) if job.fingerprint and not job.follows else None
    task = BackgroundTask(start, heir.id, heir.attempt, heir.queue) if heir else None
    return JSONResponse({"status": Status.CANCELLED}, background=task)
