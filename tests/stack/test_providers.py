"""One song by each provider: who is chosen, what is kept on the way, and what Prefect's page shows of it."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from flows import artifacts
from flows.artifacts import Bar
from flows.fetch import hand_over, ranked
from flows.transcribe import CallInRow, is_race, on_record, removed_if_beaten, sing, sung
from infra import runs
from infra.errors import NotAudio, NotDeployed, SiteLimitsUs, TakenOver
from infra.jobs import table
from infra.jobs.job import Job
from infra.jobs.request import PIPELINE_VERSION, Provider, Queue, Request
from infra.jobs.run import Run
from infra.jobs.stages import Stage, silent
from infra.jobs.states import Status
from infra.settings import settings
from infra.storage import storage
from tasks import cache, models
from tasks.publish import Published
from tasks.song import Line, Song, Word
from tasks.transcribe import whisper
from tests.fakes.runpod import RunPodServer
from tests.stack.deployed import House, a_house, forget_prefect, uploaded
from tests.workers import PrefectServer

SONG = Song((Line((Word("Harbor", 1.0, 1.5, 0.9), Word("light", 1.5, 2.0, 0.8))),), "en", 3.0, engine="another")


@pytest.fixture
def house(prefect: PrefectServer, database: str, tmp_path: Path) -> Generator[House]:
    with a_house(prefect, database, tmp_path) as made:
        yield made


@pytest.fixture
def house_of_two(prefect: PrefectServer, database: str, tmp_path: Path) -> Generator[House]:
    with a_house(prefect, database, tmp_path, PROVIDERS="cuda,modal", PRICES="modal=3.6") as made:
        yield made


def submitted(request: Request | None = None, **more: Any) -> str:
    id = table.new_id()  # the server, which the tests share, gives the same run for the same job
    table.insert(request or uploaded(), id=id, title="Harbor Light", **more)
    return id


def fetching(request: Request | None = None, **more: Any) -> Run:
    """A run that is about to hand its job over."""
    return Run.claim(submitted(request, **more), 1, "the fetch run")


def row(of: Run | str) -> Job:
    job = table.get(of.job.id if isinstance(of, Run) else of)
    assert job is not None
    return job


def steps(of: Run | str) -> str:
    return "\n".join(step["message"] for step in row(of).progress_log)


def history(house: House) -> list[tuple[Any, ...]]:
    return house.sql("SELECT provider, outcome, cost > 0 FROM runs ORDER BY began_at")


# --- the whole way ------------------------------------------------------------------------------


def test_a_song_goes_from_fetch_to_its_provider_and_prefect_shows_it(house: House) -> None:
    job = submitted()
    fetch = runs.fetch(job, 1)
    house.execute(fetch)
    assert row(job).status is Status.PROCESSING
    assert "Waiting for cuda. cuda: about" in steps(job)
    assert house.artifacts(fetch) == {}  # it was over at once
    transcription = row(job).run_id
    assert transcription is not None

    house.execute(transcription)
    done = row(job)
    assert (done.status, done.provider, done.pipeline) == (Status.COMPLETED, Provider.CUDA, PIPELINE_VERSION)
    assert done.quality is not None
    assert 0.5 < done.quality <= 1
    assert history(house) == [("cuda", "published", False)]
    assert storage().unused("stages", -1) == []

    shown = house.artifacts(transcription)
    assert set(shown) == {f"progress-{job}", f"lines-{job}", f"results-{job}"}
    assert shown[f"progress-{job}"]["data"] == 100
    lines = json.loads(shown[f"lines-{job}"]["data"])
    assert "harbor" in " ".join(line["line"] for line in lines).lower()
    assert lines[0]["time"].startswith("0:")
    assert f"quality {done.quality:.0%}" in shown[f"lines-{job}"]["description"]
    assert f"http://127.0.0.1:8000{done.results_url}" in shown[f"results-{job}"]["data"]


def test_runpod_sings_and_its_time_is_paid_for(prefect: PrefectServer, database: str, tmp_path: Path) -> None:
    with RunPodServer() as runpod, a_house(prefect, database, tmp_path, **runpod.environment()) as house:
        run = fetching(uploaded(provider="runpod"))
        run.learn(audio_key=audio_key(run.job), fingerprint="abc", duration=56)
        hand_over(run, ranked(run.job, 1.0), 56.0)
        assert "runpod, as it was asked for" in steps(run)
        transcription = row(run).run_id or ""
        house.execute(transcription)
        done = row(run)
        assert (done.status, done.provider) == (Status.COMPLETED, Provider.RUNPOD)
        assert done.calls == {}
        assert history(house) == [("runpod", "published", True)]
        assert len(runpod.calls) == 1


def audio_key(job: Job) -> str:
    return f"audio/{job.youtube_url.removeprefix('upload:')}/audio.opus"


def test_a_song_that_cannot_be_published_ends_with_its_sentence_and_is_not_sung_again(house: House) -> None:
    run = fetching()
    run.learn(audio_key=audio_key(run.job), fingerprint="abc")
    hand_over(run, ranked(run.job, 1.0), 56.0)
    cache.keep_song(storage(), "abc", SONG)
    house.execute(row(run).run_id or "")
    assert "nothing is sung again" in steps(run)
    assert row(run).processing_method == "another"
    document = httpx.Response(200, content=storage().path(storage().key(row(run).results_url or "") or "").read_bytes())
    assert document.json()["plain"] == "Harbor light"


def test_audio_that_is_gone_is_told(house: House) -> None:
    run = fetching()
    run.learn(audio_key="audio/gone/audio.opus", fingerprint="abc")
    hand_over(run, ranked(run.job, 1.0), 56.0)
    house.execute(row(run).run_id or "", ends="FAILED")
    assert row(run).error_message == "There is no file Harbor Light."
    assert history(house) == [("cuda", "cancelled", False)]  # another provider would not have found it either


# --- routing at the hand-over -------------------------------------------------------------------


def test_the_provider_that_a_caller_names_comes_first(house_of_two: House) -> None:
    picks = ranked(fetching(uploaded(provider="cpu")).job, 3.0)
    assert [pick.provider for pick in picks] == [Provider.CPU, Provider.CUDA, Provider.MODAL]
    assert picks[0].reason == "cpu, as it was asked for"


def test_a_provider_that_is_not_deployed_gives_way_to_the_next_one(house_of_two: House, prefect: PrefectServer) -> None:
    run = fetching(uploaded(provider="modal"))
    with without(prefect, "transcribe/modal"):
        hand_over(run, ranked(run.job, 3.0), 180.0)
    assert started(house_of_two, row(run).run_id or "") == ("transcribe/cuda", "people")
    assert "transcribe/modal" in steps(run)
    assert "Waiting for cuda" in steps(run)


def test_without_any_provider_the_hand_over_fails_and_may_be_tried_again(house: House, prefect: PrefectServer) -> None:
    run = fetching()
    with without(prefect, "transcribe/cuda"), pytest.raises(NotDeployed):
        hand_over(run, ranked(run.job, 3.0), 180.0)
    hand_over(run, ranked(run.job, 3.0), 180.0)
    assert row(run).run_id != "the fetch run"


def test_a_hand_over_that_is_asked_twice_starts_one_run(house: House) -> None:
    run = fetching()
    picks = ranked(run.job, 3.0)
    hand_over(run, picks, 180.0)
    first = row(run).run_id
    hand_over(run, picks, 180.0)
    assert row(run).run_id == first
    assert len(history(house)) == 1


def test_what_the_night_chose_stays_behind_people(house: House) -> None:
    run = fetching(queue=Queue.NIGHTLY)
    hand_over(run, ranked(run.job, 3.0), 180.0)
    assert started(house, row(run).run_id or "") == ("transcribe/cuda", "nightly")


def test_the_cpu_has_a_queue_of_its_own(house: House) -> None:
    run = fetching(uploaded(provider="cpu"))
    hand_over(run, ranked(run.job, 3.0), 180.0)
    assert started(house, row(run).run_id or "") == ("transcribe/cpu", "cpu")


def test_two_race_where_a_race_was_asked_for(house_of_two: House) -> None:
    run = fetching(uploaded(race=2))
    hand_over(run, ranked(run.job, 3.0), 180.0)
    racers = row(run).racers
    assert {started(house_of_two, racer)[0] for racer in racers} == {"transcribe/cuda", "transcribe/modal"}
    assert len(racers) == 2
    assert is_race(row(run))
    assert [provider for provider, _, _ in history(house_of_two)] == ["cuda", "modal"]


def test_a_race_with_one_provider_is_a_run(house: House) -> None:
    run = fetching(uploaded(race=2))
    hand_over(run, ranked(run.job, 3.0), 180.0)
    assert row(run).racers == ()


# --- what is kept on the way --------------------------------------------------------------------


def test_a_song_is_kept_once_it_is_sung(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fetching()
    run.learn(fingerprint="abc")
    run = Run.claim(run.job.id, 1, "the next run")
    sings: list[str] = []

    def singing(run: Run, provider: Provider, report: object) -> Song:
        sings.append(provider)
        return SONG

    monkeypatch.setattr("flows.transcribe.sing", singing)
    assert sung(run, Provider.CUDA, silent) == SONG
    assert sung(run, Provider.CUDA, silent) == SONG
    assert sings == ["cuda"]


def test_a_remote_call_is_remembered_in_the_row(house: House) -> None:
    run = fetching()
    CallInRow(run, Provider.MODAL).remember("fc-1")
    assert CallInRow(run, Provider.MODAL).recall() == "fc-1"
    table.lost(row(run), "it crashed")
    again = CallInRow(Run.claim(run.job.id, 2, "the next run"), Provider.MODAL)
    assert again.recall() == "fc-1"
    assert again.wanted()
    again.remember(None)
    assert row(run).calls == {}
    table.cancel(run.job.id)
    assert not again.wanted()


class StoppedByWorker(BaseException):
    """As Prefect's TerminationSignal, no Exception."""


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "published"),
        (SiteLimitsUs(reason="x"), "failed"),
        (RuntimeError("a bug"), "failed"),
        (NotAudio(name="x"), "cancelled"),  # says nothing of who did it
        (TakenOver(), "cancelled"),
        (StoppedByWorker(), "cancelled"),
    ],
)
def test_how_a_provider_did_is_kept(house: House, error: BaseException | None, outcome: str) -> None:
    run = fetching()
    raised: BaseException | None = None
    try:
        with on_record(run, Provider.CUDA):
            if error:
                raise error
    except BaseException as seen:
        raised = seen
    assert raised is error
    assert history(house) == [("cuda", outcome, False)]


@pytest.mark.parametrize("error", [TakenOver(), StoppedByWorker()])
def test_who_lost_a_race_was_beaten(house: House, error: BaseException) -> None:
    job = submitted()
    first, second = (Run.claim(job, 1, name, racing=True) for name in ("first", "second"))
    first.complete(results_url="/x", files={}, message="Done")
    with pytest.raises(type(error)), on_record(second, Provider.CUDA):
        raise error
    assert history(house) == [("cuda", "beaten", False)]


@pytest.mark.parametrize("racing", [True, False])
def test_only_who_lost_a_race_takes_its_files_along(house: House, racing: bool) -> None:
    storage().put("transcriptions/job/modal/results.json", b"{}")
    with pytest.raises(TakenOver), removed_if_beaten("transcriptions/job/modal", racing=racing):
        raise TakenOver
    assert storage().exists("transcriptions/job/modal/results.json") is not racing


# --- what Prefect's page shows ------------------------------------------------------------------


def test_a_bar_moves_once_a_second_at_most(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fetching()
    monkeypatch.setattr(artifacts, "flow_run", SimpleNamespace(id=runs.fetch(run.job.id, 1)))
    bar = Bar(run, "Fetching")

    def shown() -> list[float]:
        return [artifact["data"] for artifact in house.artifacts(artifacts.flow_run.id).values()]

    for share in range(50):
        bar.report(Stage.DOWNLOAD, share / 50, "Downloading")
    assert shown() == []  # not for what is over within a second
    for share, percentage in ((0.5, 15), (1.0, 20)):
        bar._next_move = 0.0
        bar.report(Stage.DOWNLOAD, share, "Downloaded")
        assert shown() == [percentage]
    bar.done()
    assert shown() == [100]
    assert (row(run).pct, row(run).status_message) == (20, "Downloaded")


def test_a_prefect_that_is_away_costs_the_song_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fetching()
    monkeypatch.setattr(artifacts, "flow_run", SimpleNamespace(id=runs.fetch(run.job.id, 1)))
    there, late = Bar(run, "Fetching"), time.monotonic() + 1
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    forget_prefect()
    there._next_move = 0.0
    there.report(Stage.DOWNLOAD, 1.0, "Downloaded")
    assert there._next_move > late  # it is not asked again soon
    Bar(run, "Fetching").report(Stage.HANDOVER, 0.0, "Waiting")
    there.done()
    artifacts.show_song(run.job.id, SONG, Published("/x", {}))
    assert row(run).status_message == "Waiting"


# --- the CPU beside a GPU -----------------------------------------------------------------------


def test_the_cpu_is_used_though_there_is_a_gpu(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fetching()
    run.learn(audio_key=audio_key(run.job))
    monkeypatch.setattr(models, "device", lambda wanted="best": "cuda" if wanted == "best" else "cpu")
    models.release()
    song = sing(Run.claim(run.job.id, 1, "the next run"), Provider.CPU, silent)
    assert len(song.words) > 30
    models.hold(("whisper", models.locate("tiny.en"), "cpu"), lambda: pytest.fail("it is not there yet"))


def test_without_a_gpu_the_cpu_has_one_model_for_both(house: House) -> None:
    folder = models.locate("tiny.en")
    assert models.device() == "cpu"
    best, cpu = (whisper.FasterWhisper("tiny.en", folder, device) for device in ("best", "cpu"))
    assert best._loaded() is cpu._loaded()


# --- what the tests share -----------------------------------------------------------------------


@contextmanager
def without(prefect: PrefectServer, name: str) -> Generator[None]:
    """The deployment is gone meanwhile."""
    known = prefect.call("GET", f"/deployments/name/{name}")
    prefect.call("DELETE", f"/deployments/{known['id']}")
    runs._deployment.cache_clear()
    try:
        yield
    finally:
        same = (
            "name",
            "description",
            "parameter_openapi_schema",
            "enforce_parameter_schema",
            "flow_id",
            "entrypoint",
            "work_pool_name",
            "work_queue_name",
            "parameters",
            "tags",
            "pull_steps",
        )
        prefect.call("POST", "/deployments/", {key: known[key] for key in same})
        runs._deployment.cache_clear()


def started(house: House, run: str) -> tuple[str, str]:
    """The deployment and the work queue of a run."""
    found = house.prefect.call("GET", f"/flow_runs/{run}")
    deployment = house.prefect.call("GET", f"/deployments/{found['deployment_id']}")
    flow = house.prefect.call("GET", f"/flows/{found['flow_id']}")
    return f"{flow['name']}/{deployment['name']}", found["work_queue_name"]


def test_the_prices_come_from_the_settings(house_of_two: House) -> None:
    assert settings().prices[Provider.MODAL] == 3.6
