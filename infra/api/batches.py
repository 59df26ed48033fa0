"""Calls on batches: many links, or a playlist, as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from infra import links, runs
from infra.api import answers
from infra.api.jobs import asked_for, base_url, key_of
from infra.database import Connection
from infra.errors import BadRequest, EngineAway, NotAPlaylist, NotOneSong, TooManyLinks, UserError
from infra.jobs import batches, listing, table
from infra.jobs.admission import Fate, once
from infra.jobs.batches import MOST, Batch, Listing
from infra.jobs.states import Status
from infra.settings import settings
from tasks import wanted

EITHER = 'Give "links", a list of links, or "playlist", the link of a playlist or a channel.'

router = APIRouter()
log = logging.getLogger("api")


class NoSuchBatch(BadRequest):
    """Batch not found"""


def found(id: str) -> Batch:
    batch = batches.get(id)
    if batch is None:
        raise NoSuchBatch
    return batch


@router.post("/api/batches", status_code=201)
async def create(http: HttpRequest) -> JSONResponse:
    """A job for each of many links, or for each song of a playlist."""
    try:
        asked = await http.json()
    except ValueError:
        raise BadRequest(what="The body of this request is not JSON.") from None
    if not isinstance(asked, dict):
        raise BadRequest(what='The body must be a JSON object such as {"links": ["https://youtu.be/…"]}.')
    return await run_in_threadpool(submit, http, cast("dict[str, Any]", asked))


def submit(http: HttpRequest, asked: Mapping[str, Any]) -> JSONResponse:
    if asked.get("lyrics"):
        raise BadRequest(what="lyrics: they are one song's; a batch takes none.")
    texts, playlist = texts_of(asked)
    if playlist is None:
        return submit_links(http, texts, asked)
    collection = links.collection(playlist)
    if collection is None:
        links.parse(playlist, settings().allowed_hosts)  # what is no link at all is told as such
        raise NotAPlaylist
    return submit_playlist(http, collection.url, asked)


def texts_of(asked: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """The links, or the playlist; that may stand among the links where it is alone."""
    texts, playlist = asked.get("links"), asked.get("playlist")
    if isinstance(playlist, str) and playlist.strip() and texts is None:
        return [], playlist
    if playlist is not None or not isinstance(texts, list):
        raise BadRequest(what=EITHER)
    given = cast("list[Any]", texts)
    if not given or not all(isinstance(text, str) for text in given):
        raise BadRequest(what=EITHER)
    if len(given) > MOST:
        raise TooManyLinks(count=len(given), limit=MOST)
    return given, given[0] if len(given) == 1 and leads_to_many(given[0]) else None


def leads_to_many(text: str) -> bool:
    """A list, and not a song that was opened in one."""
    try:
        links.parse(text, settings().allowed_hosts)
    except NotOneSong:
        return True
    except UserError:
        return False
    return False


def submit_links(http: HttpRequest, texts: list[str], asked: Mapping[str, Any]) -> JSONResponse:
    id, request = table.new_id(), asked_for("-", asked)
    songs = wanted.of_texts(texts, lambda link: request.but(link=link), id)
    fates: dict[str, Fate] = {}

    def rows(conn: Connection) -> dict[str, Any]:
        fates.update(batches.of_links(conn, id, request, songs.wanted))
        lines = [
            {"jobId": song.id, "youtubeUrl": song.request.link} | ({"error": str(song.refused)} if song.refused else {})
            for song in songs.wanted
        ]
        return {"batchId": id, "total": len(lines), "twice": songs.twice, "jobs": lines}

    answer, replayed = once(key_of(http, asked), rows)
    begin = [(song.id, 1) for song in songs.wanted if fates.get(song.id) is Fate.BEGINS]
    return said(answer, replayed, BackgroundTask(batches.start, begin))


def submit_playlist(http: HttpRequest, url: str, asked: Mapping[str, Any]) -> JSONResponse:
    id, request = table.new_id(), asked_for(url, asked)

    def row(conn: Connection) -> dict[str, Any]:
        batches.of_playlist(conn, id, request)
        return {"batchId": id}

    answer, replayed = once(key_of(http, asked), row)
    return said(answer, replayed, BackgroundTask(listing.start, id, 1))


def said(answer: dict[str, Any], replayed: bool, task: BackgroundTask) -> JSONResponse:
    """The rows are the promise; whatever keeps the task from starting their runs, the mirror starts them."""
    if replayed:
        return JSONResponse(answer, 201, headers={"Idempotency-Replayed": "true"})
    return JSONResponse(answer, 201, background=task)


@router.get("/api/batches")
def newest(limit: int = Query(20, ge=1, le=100), after: str | None = None) -> dict[str, Any]:
    known = batches.recent(limit=limit + 1, after=after)
    page = known[:limit]
    return {"batches": [told(batch) for batch in page], "next": page[-1].id if len(known) > limit else None}


@router.get("/api/batches/{id}")
def one(id: str, http: HttpRequest, limit: int = Query(100, ge=1, le=MOST), after: str | None = None) -> dict[str, Any]:
    batch = found(id)
    known = batches.songs(id, limit=limit + 1, after=after)
    page = known[:limit]
    songs = [answers.listed(job, base_url(http)) for job in page]
    return told(batch) | {"jobs": songs, "next": page[-1].id if len(known) > limit else None}


@router.delete("/api/batches/{id}")
def cancel(id: str) -> JSONResponse:
    """Its open rows end at once, all of them or none; their runs are ended by Prefect, or by the mirror.

    Others who wait for one of its songs keep waiting: the mirror lets the first of them go on with it.
    """
    found(id)
    left = batches.cancel(id)
    if left is None:
        return JSONResponse({"error": f"This batch has ended already: {status(found(id))}"}, status_code=409)
    return JSONResponse({"status": Status.CANCELLED}, background=BackgroundTask(end, left))


def end(left: list[str]) -> None:
    try:
        for run in left:
            runs.cancel(run)
    except EngineAway:
        log.warning("Prefect is away: the mirror cancels the runs of a cancelled batch")


@router.post("/api/batches/{id}/retry", status_code=201)
def retry(id: str) -> JSONResponse:
    """The songs that failed, or were cancelled with the batch, once more; or the list, if it could not be listed."""
    batch = found(id)
    again = listing.again(id)
    if again is not None:
        return JSONResponse({"batchId": id}, 201, background=BackgroundTask(listing.start, id, again.attempt))
    tried = batches.retry(id)
    if not tried:
        return JSONResponse({"error": f"There is nothing to try again: the batch is {status(batch)}"}, status_code=409)
    begin = [(job.id, job.attempt) for job in tried if not job.follows]
    answer = {"batchId": id, "jobs": [{"jobId": job.id, "youtubeUrl": job.youtube_url} for job in tried]}
    return JSONResponse(answer, 201, background=BackgroundTask(batches.start, begin))


# --- what is said of a batch --------------------------------------------------------------------


def told(batch: Batch) -> dict[str, Any]:
    counts = {
        "queued": batch.queued,
        "processing": batch.processing,
        "completed": batch.completed,
        "error": batch.failed,
        "cancelled": batch.cancelled,
    }
    answer = {
        "batchId": batch.id,
        "title": batch.title,
        "playlist": batch.link,
        "status": status(batch),
        "message": message(batch),
        "total": batch.total,
        "counts": counts,
        "pct": batch.pct,
        "createdAt": batch.created_at.isoformat(),
    }
    return {name: value for name, value in answer.items() if value is not None}


def status(batch: Batch) -> str:
    if batch.status is not Listing.LISTED:
        return batch.status
    return Status.PROCESSING if batch.queued + batch.processing else Status.COMPLETED


def message(batch: Batch) -> str:
    """How many songs are done, and what else there is to know."""
    if batch.status in (Listing.LISTING, Listing.ERROR):
        return batch.message or ""
    if batch.status is Listing.CANCELLED and not batch.total:
        return "Cancelled before its songs were listed"
    done = f"{batch.completed} of {batch.total} {'songs are' if batch.total != 1 else 'song is'} done"
    failed = f", {batch.failed} failed" if batch.failed else ""
    cancelled = f", {batch.cancelled} cancelled" if batch.cancelled else ""
    said = ". ".join(filter(None, (f"{done}{failed}{cancelled}", batch.message, batch.waits)))
    return said.replace(".. ", ". ")
