"""What the API says, where no stack is needed to say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from infra import database
from infra.api import answers
from infra.api.app import Liveness, create_app
from infra.jobs.job import Job
from infra.jobs.states import Status
from infra.settings import Settings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job(*log: dict[str, Any], **fields: Any) -> Job:
    base = {"id": "1", "youtube_url": "x", "status": Status.PROCESSING, "created_at": NOW, "updated_at": NOW}
    return Job.model_validate({**base, "progress_log": log, **fields})


def entry(second: float, status: str, stage: str | None = None, **more: Any) -> dict[str, Any]:
    at = (NOW + timedelta(seconds=second)).isoformat()
    return {"status": status, "percentage": 0, "message": stage or "", "timestamp": at, "stage": stage, **more}


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(Settings(_env_file=None)), raise_server_exceptions=False)  # pyright: ignore[reportCallIssue]


def test_a_step_is_over_when_the_next_begins_and_says_how_long_it_took() -> None:
    shown = answers.steps(job(entry(0, "in_progress", "download"), entry(2.5, "in_progress", "decode")))["steps"]
    assert [(step["status"], step.get("duration")) for step in shown] == [("completed", 2.5), ("in_progress", None)]


def test_a_step_that_was_broken_off_is_an_error() -> None:
    log = (entry(0, "in_progress", "transcribe"), entry(1, "pending"), entry(2, "in_progress", "download"))
    shown = answers.steps(job(*log))["steps"]
    assert [step["status"] for step in shown] == ["error", "pending", "in_progress"]


def test_the_step_at_work_shows_what_the_job_says_now() -> None:
    working = job(entry(0, "in_progress", "transcribe"), status_message="Listening: 0:40 of 3:12", pct=66)
    step = answers.steps(working)["steps"][-1]
    assert (step["message"], step["percentage"]) == ("Listening: 0:40 of 3:12", 66)


def test_steps_of_the_old_system_are_shown_as_they_are() -> None:
    old = {"status": "completed", "percentage": 10, "message": "Downloaded", "timestamp": "2025-01-01T00:00:00Z"}
    assert answers.steps(job(old, status=Status.COMPLETED))["steps"] == [old]


def test_our_own_links_carry_the_address_that_was_asked() -> None:
    assert answers.absolute("/files/x.json", "http://h:1/") == "http://h:1/files/x.json"
    assert answers.absolute("https://elsewhere/x.json", "http://h:1/") == "https://elsewhere/x.json"
    assert answers.absolute(None, "http://h:1/") is None


def test_health_says_when_the_database_is_away(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "alive", lambda: False)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "degraded"
    assert answer.json()["database"] == {"status": "disconnected", "connected": False}


def test_health_says_when_the_service_stops(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liveness, "stopping", True)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "shutting_down"


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x", "content-length": str(10**12)}
    answer = client.post("/api/jobs", content=b"--x--", headers=headers)
    assert answer.status_code == 413
    assert "larger than the limit of 500 MB" in answer.json()["error"]


@pytest.mark.parametrize("model", ["/etc", "../x", "a/b", "~"])
def test_a_caller_cannot_name_folders_of_this_machine(client: TestClient, model: str) -> None:
    answer = client.post("/api/jobs", json={"youtubeUrl": "https://youtu.be/harborlight", "model": model})
    assert answer.status_code == 400
    assert "No whisper model" in answer.json()["error"]


def test_a_bug_is_told_without_its_details(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bool:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(database, "alive", broken)
    answer = client.get("/health")
    assert answer.status_code == 500
    assert answer.json() == {"error": "Something went wrong on our side; the log holds the details."}


def test_pages_of_other_origins_may_call_only_if_they_are_named() -> None:
    settings = Settings(_env_file=None, frontend_origin="https://app.example,https://b.example")  # pyright: ignore
    client = TestClient(create_app(settings))
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    named = client.options("/api/jobs", headers=asked)
    assert named.headers["access-control-allow-origin"] == "https://app.example"
    assert named.headers["access-control-allow-credentials"] == "true"
    stranger = client.options("/api/jobs", headers={**asked, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]
    assert client.get("/page/app.js").status_code == 200
