"""The command line's side of the HTTP API."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from infra.errors import BadRequest, MissingFile, Passing

FAILED = ("error", "cancelled")
PATIENCE = 60.0  # seconds that a service may be silent while a job is followed
PAUSE = 0.3  # seconds between two looks at a job
PAGE = 100  # songs of a batch that are asked for at a time
SHOWN = 80  # characters of a name that are repeated in a message


class Away(Passing):
    """{what}"""

    advice = ""  # the sentence holds it


class Api:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._http = httpx.Client(base_url=self.url, timeout=httpx.Timeout(30, write=300))
        except httpx.InvalidURL:
            raise BadRequest(what=f"{self.url} is no address of a service, such as http://127.0.0.1:8000.") from None

    def submit(self, link_or_file: str, name: str | None = None, **options: str | int | None) -> str:
        """Send a link, or upload the file of that name; the job's id."""
        asked = {name: value for name, value in options.items() if value is not None}
        if is_link(link_or_file):
            answer = self._call("POST", "/api/jobs", json={"youtubeUrl": link_or_file, **asked})
        else:
            path = file_named(link_or_file)
            with path.open("rb") as file:
                answer = self._call("POST", "/api/jobs", data=_form(asked), files={"file": (name or path.name, file)})
        return answer["jobId"]

    def jobs(self, **query: Any) -> list[dict[str, Any]]:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", "/api/jobs", params=asked)["jobs"]

    def job(self, id: str) -> dict[str, Any]:
        return self._of_job(id, "/progress")

    def steps(self, id: str) -> list[dict[str, Any]]:
        return self._of_job(id, "/steps")["steps"]

    def retry(self, id: str) -> None:
        self._of_job(id, "/retry", method="POST")

    def cancel(self, id: str) -> None:
        self._of_job(id, method="DELETE")

    def result(self, job: dict[str, Any]) -> str:
        return self._answer("GET", job["resultUrl"]).text

    def submit_batch(self, songs: dict[str, Any], **options: str | int | None) -> dict[str, Any]:
        """Send `links` or a `playlist`; the answer names the batch."""
        asked = {name: value for name, value in options.items() if value is not None}
        return self._call("POST", "/api/batches", json=songs | asked)

    def batch(self, id: str, **query: Any) -> dict[str, Any]:
        return self._of_batch(id, params=query)

    def songs(self, id: str) -> list[dict[str, Any]]:
        """All jobs of a batch."""
        page = self.batch(id, limit=PAGE)
        found: list[dict[str, Any]] = page["jobs"]
        while page["next"]:
            page = self.batch(id, limit=PAGE, after=page["next"])
            found += page["jobs"]
        return found

    def retry_batch(self, id: str) -> None:
        self._of_batch(id, "/retry", method="POST")

    def cancel_batch(self, id: str) -> None:
        self._of_batch(id, method="DELETE")

    def follow(self, id: str, show: Callable[[int, str], None]) -> dict[str, Any]:
        """Watch a job to its end through services that come and go; one that does not complete is an error."""
        job = self._watched(lambda: self.job(id), show)
        if job["status"] in FAILED:
            raise _failure(job)
        return job

    def follow_batch(self, id: str, show: Callable[[int, str], None]) -> dict[str, Any]:
        """Watch a batch until each of its songs has ended, whichever way."""
        return self._watched(lambda: self.batch(id, limit=1), show)

    def _watched(self, look: Callable[[], dict[str, Any]], show: Callable[[int, str], None]) -> dict[str, Any]:
        silent_since: float | None = None
        percentage = 0
        while True:
            try:
                found = look()
            except Away:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE:
                    raise
                show(percentage, "The service does not answer; waiting for it")
            else:
                if found["status"] in FAILED:
                    return found
                silent_since, percentage = None, found["pct"]
                show(percentage, found.get("statusMessage") or found.get("message", ""))
                if found["status"] == "completed":
                    return found
            time.sleep(PAUSE)

    def _of_job(self, id: str, rest: str = "", *, method: str = "GET") -> dict[str, Any]:
        # Without an id the path would be that of all jobs.
        return self._call(method, f"/api/jobs/{quote(id, safe='') or '-'}{rest}", missing=f'There is no job "{id}".')

    def _of_batch(self, id: str, rest: str = "", *, method: str = "GET", **request: Any) -> dict[str, Any]:
        path = f"/api/batches/{quote(id, safe='') or '-'}{rest}"
        return self._call(method, path, missing=f'There is no batch "{id}".', **request)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            return dict(self._answer(method, path, **request).json())
        except (TypeError, ValueError):
            raise BadRequest(what=self._stranger) from None

    def _answer(self, method: str, path: str, *, missing: str = "", **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise Away(what=f"No service answers at {self.url}; start one with `yt-lyrics up`.") from error
        if answer.is_success:
            return answer
        if missing and answer.status_code == httpx.codes.NOT_FOUND.value:
            raise BadRequest(what=missing)
        raise (Away if answer.is_server_error else BadRequest)(what=_reason(answer) or self._stranger)

    @property
    def _stranger(self) -> str:
        return f"What answers at {self.url} is no yt-lyrics."


def _form(asked: dict[str, str | int]) -> dict[str, str | int]:
    """Values as a form carries them: httpx writes True, JSON true."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in asked.items()}


def is_link(text: str) -> bool:
    """Whether a link is meant; everything else is a file's name."""
    return "://" in text or (text.lower().startswith(("www.", "youtu", "m.youtu", "music.youtu")) and not _exists(text))


def file_named(name: str) -> Path:
    if not _exists(name):
        shown = name if len(name) <= SHOWN else f"{name[: SHOWN - 1]}…"
        raise MissingFile(name=shown or "without a name")
    path = Path(name).expanduser()
    if path.is_dir():
        raise BadRequest(what=f"{name} is a folder: name the files in it.")
    return path


def _exists(name: str) -> bool:
    try:
        return name != "" and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, of a user who is not there
        return False


def _reason(answer: httpx.Response) -> str | None:
    """What our API says in each of its errors."""
    try:
        return answer.json().get("error")
    except (AttributeError, ValueError):
        return None


def _failure(job: dict[str, Any]) -> BadRequest:
    failure = BadRequest(what=job.get("error") or f"The job was {job['status']}.")
    failure.advice = job.get("advice", "")
    return failure
