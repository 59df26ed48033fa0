"""How runs are asked for, where no Prefect server is needed to see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import httpx
import pytest

from infra import engine, runs
from infra.errors import EngineAway, NotDeployed, Passing
from infra.jobs.request import Provider, Queue

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[Answer], list[httpx.Request]]]:
    """A Prefect that answers as it is told; what it was asked."""

    def answering(answer: Answer) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return answer(request)

        client = httpx.Client(base_url="http://prefect/api", transport=httpx.MockTransport(handle))
        monkeypatch.setattr(engine, "client", lambda: client)
        monkeypatch.setattr(runs, "client", lambda: client)
        return asked

    runs._deployment.cache_clear()
    yield answering
    runs._deployment.cache_clear()


def deployed(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"id": "an-id"})


def body(request: httpx.Request) -> dict[str, Any]:
    return json.loads(request.content)


def test_a_run_is_asked_for_once_per_job_attempt_and_provider_in_its_queue(prefect: Any) -> None:
    asked = prefect(deployed)
    runs.transcribe("j", 2, Provider.MODAL, Queue.NIGHTLY)
    assert asked[0].url.path == "/api/deployments/name/transcribe/modal"
    wanted = body(asked[1])
    assert wanted["idempotency_key"] == "transcribe-j-2-modal"
    assert wanted["work_queue_name"] == "nightly"
    assert wanted["parameters"] == {"job": "j", "attempt": 2}


def test_the_cpu_keeps_its_own_queue_which_lets_one_run_at_a_time(prefect: Any) -> None:
    asked = prefect(deployed)
    runs.transcribe("j", 1, Provider.CPU)
    assert body(asked[1])["work_queue_name"] is None


def test_a_deployment_that_prefect_does_not_know_is_named_with_what_to_do(prefect: Any) -> None:
    prefect(lambda request: httpx.Response(404, json={"detail": "not found"}))
    with pytest.raises(NotDeployed) as error:
        runs.transcribe("j", 1, Provider.RUNPOD)
    assert "transcribe/runpod" in str(error.value)
    assert "prefect deploy --all" in error.value.advice
    assert isinstance(error.value, Passing)


def test_a_deployment_that_was_made_anew_is_found_by_its_name_again(prefect: Any) -> None:
    ids = iter(["old", "new"])

    def answer(request: httpx.Request) -> httpx.Response:
        if "/name/" in request.url.path:
            return httpx.Response(200, json={"id": next(ids)})
        return httpx.Response(200, json={"id": "run"}) if "/new/" in request.url.path else httpx.Response(404)

    prefect(answer)
    assert runs.fetch("j", 1) == "run"


@pytest.mark.parametrize("answer", [httpx.Response(500), httpx.Response(200, text="no json")])
def test_a_server_that_makes_no_sense_counts_as_away(prefect: Any, answer: httpx.Response) -> None:
    prefect(lambda request: answer)
    with pytest.raises(EngineAway):
        runs.fetch("j", 1)


def test_a_thousand_runs_are_looked_up_in_pages_that_prefect_takes(prefect: Any) -> None:
    asked = prefect(lambda request: httpx.Response(200, json=[]))
    assert runs.look_up(str(number) for number in range(1000)) == {}
    pages = [body(request)["flow_runs"]["id"]["any_"] for request in asked]
    assert [len(page) for page in pages] == [200] * 5
    assert {id for page in pages for id in page} == {str(number) for number in range(1000)}


def test_prefect_is_alive_when_it_answers_well_and_not_otherwise(prefect: Any) -> None:
    prefect(lambda request: httpx.Response(200, json=True))
    assert runs.alive()
    prefect(lambda request: httpx.Response(503))
    assert not runs.alive()

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    prefect(refuse)
    assert not runs.alive()
