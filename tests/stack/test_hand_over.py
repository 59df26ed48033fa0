"""A song goes from run to run, and its user's word holds at every stage: cancel it, retry it, run it in Prefect."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.errors import DownloadFailed, TakenOver
from infra.jobs import queries, table
from infra.jobs.job import Job
from infra.jobs.run import Run
from infra.jobs.stages import SHARES, Stage
from infra.jobs.states import Status
from tests.chaos.killing import short_song
from tests.fakes.media import Answer, MediaServer, Video
from tests.running import DEMO, ROOT, RunningStack, eventually
from tests.stack.rows import pointed_at
from tests.workers import PrefectServer

SONG = (DEMO / "harbor-light.mix.opus").read_bytes()
QUICK = {"preset": "low", "language": "en"}
EFFECTIVE = 10.0  # seconds in which a cancel ends everything
BUSY = 10  # per cent of a core
CUT_SHORT = {"CANCELLED", "FAILED"}  # by its worker; by itself, where it heard first that its row is not its own


@dataclass(frozen=True)
class House:
    """The stack, its Prefect as Prefect's own page calls it, and the far end."""

    stack: RunningStack
    engine: PrefectServer
    media: MediaServer
    folder: Path

    def upload(self, sound: bytes, **asked: str) -> str:
        """A song of its own: the same sound with other bytes behind it."""
        song = self.folder / f"song {time.monotonic_ns()}"
        song.write_bytes(sound + song.name.encode())
        return self.stack.upload(song, **asked)

    def downloads(self, path: str) -> int:
        return [asked for asked, _ in self.media.asked].count(path)

    @contextmanager
    def paused(self, pool: str) -> Generator[None]:
        """Nothing of this pool begins meanwhile."""
        self.engine.call("PATCH", f"/work_pools/{pool}", {"is_paused": True})
        try:
            yield
        finally:
            self.engine.call("PATCH", f"/work_pools/{pool}", {"is_paused": False})

    def has_handed_over(self, id: str) -> None:
        """Its audio is there, and the run that owns it waits."""

        def waits() -> bool:
            job = job_of(id)
            return job.current_stage == Stage.HANDOVER and self.engine.state(run_of(id))["type"] == "SCHEDULED"

        eventually(waits, within=60, what=f"the hand-over of job {id}")

    def start(self, deployment: str, **wanted: Any) -> str:
        id = self.engine.call("GET", f"/deployments/name/{deployment}")["id"]
        order = {"state": {"type": "SCHEDULED"}, **wanted}
        return self.engine.call("POST", f"/deployments/{id}/create_flow_run", order)["id"]

    def transcriptions(self, id: str) -> list[str]:
        """The newest runs that were to transcribe the job."""
        asked = {"flows": {"name": {"any_": ["transcribe"]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 200}
        found = self.engine.call("POST", "/flow_runs/filter", asked)
        return [run["id"] for run in found if run["parameters"]["job"] == id]

    def child_of(self, run: str) -> psutil.Process:
        """The warm child that works on the run."""
        pid = eventually(lambda: self.engine.call("GET", f"/flow_runs/{run}")["infrastructure_pid"], what="a child")
        return psutil.Process(int(pid))

    def processes(self) -> set[int]:
        """Without those of PostgreSQL, which has one for each connection."""
        found: set[int] = set()
        for process in psutil.Process(self.stack.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.name() != "postgres":
                    found.add(process.pid)
        return found

    def steps(self, id: str) -> str:
        steps = httpx.get(f"{self.stack.url}/api/jobs/{id}/steps", timeout=30).json()["steps"]
        return "\n".join(step["message"] for step in steps)


@pytest.fixture(scope="module")
def engine(stack: RunningStack) -> PrefectServer:
    return PrefectServer(stack.addresses.prefect_api, stack.data, {})


@pytest.fixture
def house(stack: RunningStack, engine: PrefectServer, media: MediaServer, tmp_path: Path) -> House:
    return House(stack, engine, media, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _same_table(stack: RunningStack) -> Generator[None]:
    """infra.jobs works here on the stack's database."""
    with pointed_at(stack.database_url):
        yield


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return short_song(tmp_path_factory.mktemp("short")).read_bytes()


# --- jobs at a stage -----------------------------------------------------------------------------


def job_of(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def raw(id: str) -> dict[str, Any]:
    (row,) = table.rows(queries.GET, {"id": id})
    return row


def run_of(id: str) -> str:
    run = job_of(id).run_id
    assert run is not None
    return run


def listens(id: str) -> None:
    """The model is at it, and has heard something."""
    loaded = SHARES[Stage.TRANSCRIBE][0]
    eventually(lambda: job_of(id).pct > loaded, within=90, what=f"the first words of job {id}")


@contextmanager
def waiting(house: House) -> Generator[str]:
    with house.paused("cuda"):
        id = house.upload(SONG)
        house.has_handed_over(id)
        yield id


@contextmanager
def downloading(house: House) -> Generator[str]:
    path = f"/trickle{time.monotonic_ns()}"
    house.media.answer(path, Answer(SONG, rate=20_000))
    id = house.stack.submit(youtubeUrl=house.media.video("tricklesong", Video(audio=path)))
    eventually(lambda: house.downloads(path), what="the download")
    yield id


@contextmanager
def transcribing(house: House) -> Generator[str]:
    id = house.upload(SONG, preset="high", language="en")
    listens(id)
    yield id


# --- cancel --------------------------------------------------------------------------------------


def the_api(house: House, id: str) -> None:
    assert httpx.delete(f"{house.stack.url}/api/jobs/{id}", timeout=30).json() == {"status": "cancelled"}


def the_command_line(house: House, id: str) -> None:
    words = ["-m", "flows.cli", "jobs", id, "--cancel", "--url", house.stack.url]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def prefects_page(house: House, id: str) -> None:
    """What its button Cancel posts."""
    state = {"type": "CANCELLING", "name": "Cancelling"}
    house.engine.call("POST", f"/flow_runs/{run_of(id)}/set_state", {"state": state, "force": True})


def works(child: psutil.Process, media: MediaServer) -> bool:
    """Whether it fetches or computes; else it is gone, or waits for its next run."""
    try:
        fetches = any(line.raddr and line.raddr.port == media.port for line in child.net_connections())
        return fetches or child.cpu_percent(0.2) > BUSY
    except psutil.NoSuchProcess:
        return False


def late_writes(run: Run) -> list[Callable[[], object]]:
    return [
        lambda: run.report(Stage.PUBLISH, 1.0, "Too late"),
        lambda: run.learn(title="Too late"),
        lambda: run.complete(results_url="/files/late.json", files={}, message="Too late"),
        lambda: run.fail(DownloadFailed(reason="too late")),
        lambda: Run.claim(run.job.id, run.job.attempt, run.id),
    ]


@pytest.fixture(scope="module")
def cancelled(engine: PrefectServer) -> Generator[list[dict[str, Any]]]:
    """Rows that were cancelled: when this module ends, they are as they were then, and their runs did not go on."""
    rows: list[dict[str, Any]] = []
    yield rows
    assert [raw(row["id"]) for row in rows] == rows
    assert {engine.state(row["run_id"])["type"] for row in rows} <= CUT_SHORT


@pytest.mark.parametrize(
    ("stage", "by"),
    [
        (waiting, the_api),
        (waiting, prefects_page),
        (downloading, the_command_line),
        (downloading, prefects_page),
        (transcribing, the_api),
        (transcribing, prefects_page),
    ],
    ids=lambda part: part.__name__.replace("_", " "),
)
def test_a_cancel_is_effective_within_10_s_and_final(
    house: House,
    cancelled: list[dict[str, Any]],
    stage: Callable[[House], AbstractContextManager[str]],
    by: Callable[[House, str], None],
) -> None:
    with stage(house) as id:
        run = Run(job_of(id), run_of(id))
        child = None if stage is waiting else house.child_of(run.id)
        if child is not None:
            eventually(lambda: works(child, house.media), what="a child that works")

        by(house, id)
        asked = time.monotonic()
        eventually(lambda: job_of(id).status is Status.CANCELLED, within=EFFECTIVE, what="the row's end")
        row = raw(id)
        assert house.engine.ended(run.id, within=EFFECTIVE)["type"] in CUT_SHORT
        if child is not None:
            eventually(lambda: not works(child, house.media), within=EFFECTIVE, what="the end of the work")
        assert time.monotonic() - asked < EFFECTIVE

        for write in late_writes(run):
            with pytest.raises(TakenOver):
                write()
        assert raw(id) == row
        cancelled.append(row)


# --- hand-over -----------------------------------------------------------------------------------


def test_a_song_that_is_handed_over_twice_is_transcribed_by_one_run(house: House, short: bytes) -> None:
    house.media.answer("/twice.wav", Answer(short, rate=200_000))
    with house.paused("cuda"):
        id = house.stack.submit(youtubeUrl=house.media.video("handedtwice", Video(audio="/twice.wav")), **QUICK)
        eventually(lambda: house.downloads("/twice.wav"), what="the download")
        order = {"parameters": {"job": id, "attempt": 1}, "idempotency_key": f"transcribe-{id}-1-cuda"}
        run = house.start("transcribe/cuda", **order)  # as a fetch would that died before the row knew
        assert run_of(id) != run
        house.has_handed_over(id)
        assert run_of(id) == run
        assert house.start("transcribe/cuda", **order) == run
    assert house.stack.ended(id)["status"] == "completed"
    assert run_of(id) == run
    assert house.transcriptions(id) == [run]


def test_a_queued_song_costs_a_row_and_no_process(house: House, short: bytes) -> None:
    before = house.processes()
    with house.paused("cuda"):
        ids = [house.upload(short, **QUICK) for _ in range(5)]
        for id in ids:
            house.has_handed_over(id)
        eventually(lambda: len(house.processes()) <= len(before), what="no more processes than before")
        assert not any(job_of(id).ended for id in ids)
    assert [house.stack.ended(id)["status"] for id in ids] == ["completed"] * 5
    assert {job_of(id).attempt for id in ids} == {1}


# --- retry ---------------------------------------------------------------------------------------


def test_a_retry_is_the_next_attempt_with_the_audio_that_is_kept(house: House) -> None:
    house.media.answer("/retaken.opus", Answer(SONG))
    id = house.stack.submit(youtubeUrl=house.media.video("retakensong", Video(audio="/retaken.opus")), language="en")
    listens(id)
    the_api(house, id)
    downloads = house.downloads("/retaken.opus")
    assert downloads
    assert "The audio is here already" not in house.steps(id)

    assert httpx.post(f"{house.stack.url}/api/jobs/{id}/retry", timeout=30).status_code == 201
    job = house.stack.ended(id)
    assert (job["status"], job["attempt"]) == ("completed", 2), job
    assert "The audio is here already" in house.steps(id)
    assert house.downloads("/retaken.opus") == downloads


# --- in Prefect itself ---------------------------------------------------------------------------


def test_a_run_that_is_started_in_prefect_is_a_job_like_any_other(house: House) -> None:
    link = house.media.video("startedsong", Video(title="Started in Prefect"))
    id = house.start("fetch/default", parameters={"link": link, **QUICK})
    eventually(lambda: table.get(id), what="the job of the run")
    job = house.stack.ended(id)
    assert (job["status"], job["attempt"], job["title"]) == ("completed", 1, "Started in Prefect"), job
    assert httpx.get(job["resultUrl"], timeout=30).json()["words"]
    assert house.transcriptions(id) == [run_of(id)]


def retried_in_prefect(engine: PrefectServer, run: str) -> None:
    """What the button Retry of its page posts."""
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    engine.call("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": False})


def test_a_run_that_is_retried_in_prefect_is_the_next_attempt_of_its_job(house: House) -> None:
    private = Video(status="LOGIN_REQUIRED", reason="Private video. Sign in if you've been granted access to it")
    id = house.stack.submit(youtubeUrl=house.media.video("privatesong", private), **QUICK)
    assert house.stack.ended(id)["status"] == "error"
    run = run_of(id)
    assert house.engine.ended(run)["type"] == "FAILED"

    retried_in_prefect(house.engine, run)
    eventually(lambda: job_of(id).attempt == 2 and job_of(id).ended, what="the end of the second attempt")
    assert (job_of(id).status, run_of(id)) == (Status.ERROR, run)
    assert "Tried again in Prefect" in house.steps(id)
    assert house.engine.ended(run)["type"] == "FAILED"

    house.media.video("privatesong", Video(title="Public now"))
    retried_in_prefect(house.engine, run)
    eventually(lambda: job_of(id).attempt == 3, what="the third attempt")
    job = house.stack.ended(id)
    assert (job["status"], job["attempt"], job["title"]) == ("completed", 3, "Public now"), job
    assert house.engine.state(run)["type"] == "COMPLETED"
