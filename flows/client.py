"""The command line's side of the HTTP API."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from infra.errors import BadRequest, MissingFile

ENDED = ("completed", "error", "cancelled")
PATIENCE = 60.0  # seconds that a service may be silent while a job is followed
PAUSE = 0.3  # seconds between two looks at a job


class Api:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=httpx.Timeout(30, write=300))

    def submit(self, link_or_file: str, **options: str | None) -> str:
        """Send a link, or upload the file of that name; the job's id."""
        asked = {name: value for name, value in options.items() if value is not None}
        path = Path(link_or_file).expanduser()
        if _is_file(path):
            with path.open("rb") as file:
                answer = self._call("POST", "/api/jobs", data=asked, files={"file": (path.name, file)})
        elif "/" in link_or_file and "://" not in link_or_file and link_or_file.startswith(("/", ".", "~")):
            raise MissingFile(name=link_or_file)
        else:
            answer = self._call("POST", "/api/jobs", json={"youtubeUrl": link_or_file, **asked})
        return answer["jobId"]

    def jobs(self, **query: Any) -> list[dict[str, Any]]:
        asked = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", "/api/jobs", params=asked)["jobs"]

    def job(self, id: str) -> dict[str, Any]:
        return self._call("GET", f"/api/jobs/{id}/progress")

    def steps(self, id: str) -> list[dict[str, Any]]:
        return self._call("GET", f"/api/jobs/{id}/steps")["steps"]

    def cancel(self, id: str) -> None:
        self._call("DELETE", f"/api/jobs/{id}")

    def result(self, job: dict[str, Any]) -> str:
        answer = self._http.get(job["resultUrl"])
        answer.raise_for_status()
        return answer.text

    def follow(self, id: str, show: Callable[[int, str], None]) -> dict[str, Any]:
        """Watch a job to its end through services that come and go."""
        silent_since: float | None = None
        while True:
            try:
                job = self.job(id)
            except BadRequest:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE:
                    raise
            else:
                silent_since = None
                show(job["pct"], job.get("statusMessage", ""))
                if job["status"] in ENDED:
                    return job
            time.sleep(PAUSE)

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise BadRequest(what=f"No service answers at {self.url}; start one with `yt-lyrics up`.") from error
        try:
            content = answer.json()
        except ValueError:
            content = {}
        if answer.is_error:
            raise BadRequest(what=content.get("error") or f"{self.url} answered {answer.status_code}.")
        return content


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a link can be longer than a file name may be
        return False
