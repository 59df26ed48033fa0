"""What travels to the far side and back, and the far side's own work."""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import errors
from infra.errors import BadRequest, ProviderFailed, UserError
from infra.jobs.request import Preset, Provider, Request
from infra.jobs.stages import Progress, Stage, percent
from infra.settings import settings
from tasks import gpu
from tasks.remote import wire, work
from tasks.song import Audio, Line, Song, Word
from tests.fakes.runpod import RunPodServer
from tests.unit.test_errors import EVERY_ERROR, sample

AUDIO = Audio(Path("audio.opus"), 3.0, title="Harbor Light")
SONG = Song((Line((Word("Once", 0.0, 1.0, 0.9),)),), "en", 3.0, engine="faster-whisper base")
KEYS = st.sampled_from(["words", "lines", "word", "text", "start", "end", "metadata", "duration", "language", "notes"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda deeper: st.lists(deeper) | st.dictionaries(KEYS, deeper)
)


# --- the wire -------------------------------------------------------------------------------------


@given(st.floats(0, 100))
def test_their_hundred_percent_are_our_30_to_95(there: float) -> None:
    placed = wire.news(there)
    assert placed is not None or "e" in str(there)
    if placed:
        stage, share, _ = placed
        assert 0 <= share <= 1
        assert percent(stage, share) == pytest.approx(30 + 0.65 * there, abs=1)


@given(JSON | st.dictionaries(st.sampled_from(["stage", "share", "message", "progress"]), JSON))
def test_no_news_break_the_bar(told: Any) -> None:
    placed = wire.news(told)
    assert placed is None or 30 <= percent(placed[0], placed[1]) <= 95


@pytest.mark.parametrize("stage", [Stage.PUBLISH, Stage.DONE, Stage.DOWNLOAD, "nonsense"])
def test_the_far_side_tells_of_its_own_stages_only(stage: str) -> None:
    assert wire.news({"stage": stage, "share": 1.0, "message": "Done"}) is None


NUMBER = st.floats() | st.integers()
WORD = st.fixed_dictionaries(
    {"word": st.text() | JSON, "start": NUMBER, "end": NUMBER}, optional={"confidence": NUMBER}
)


@given(JSON | st.fixed_dictionaries({"words": st.lists(WORD, max_size=4)}, optional={"metadata": JSON}))
def test_any_answer_is_a_song_in_time_or_an_error_that_passes(answer: Any) -> None:
    with suppress(ProviderFailed):
        song = wire.song(answer, AUDIO, "Modal")
        times = [time for word in song.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(map(math.isfinite, times))


def test_a_song_is_whole_after_its_journey() -> None:
    assert wire.song(wire.answered(SONG), AUDIO, "Modal") == Song(**{**_fields(SONG), "title": "Harbor Light"})


def test_words_alone_are_broken_into_lines_and_judged_here() -> None:
    words = [{"word": "Once", "start": 0.0, "end": 0.5, "confidence": 0.9}]
    song = wire.song({"words": words, "metadata": {"duration": 3.0}}, AUDIO, "RunPod")
    assert [line.text for line in song.lines] == ["Once"]
    assert song.quality is not None
    assert song.quality == song.lines[0].quality


def _fields(song: Song) -> dict[str, Any]:
    return {name: getattr(song, name) for name in ("lines", "language", "duration", "engine", "notes")}


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.__name__)
def test_every_error_is_whole_after_its_journey(error: type[UserError]) -> None:
    before = sample(error)
    after = wire.failure(json.loads(json.dumps(wire.refused(before))), "Modal")
    assert (type(after), str(after), after.kind) == (error, str(before), before.kind)


def test_two_orders_for_the_same_work_have_the_same_token(tmp_path: Path) -> None:
    (tmp_path / "a.opus").write_bytes(b"sound")
    (tmp_path / "b.opus").write_bytes(b"sound")
    (tmp_path / "c.opus").write_bytes(b"another sound")

    def token(file: str, **wishes: Any) -> str:
        return wire.order(Audio(tmp_path / file, 3.0), Request(link="x").but(**wishes), "Modal")["token"]

    assert token("a.opus") == token("b.opus", provider=Provider.MODAL, race=2, link="y")
    assert len({token("a.opus"), token("c.opus"), token("a.opus", preset=Preset.HIGH)}) == 3


def test_lyrics_that_were_found_for_a_song_travel_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.opus").write_bytes(b"sound")
    plain = Audio(tmp_path / "a.opus", 3.0)
    without, with_them = (wire.order(a, Request(link="x"), "Modal") for a in (plain, replace(plain, lyrics="La la")))
    assert "lyrics" not in without
    assert with_them["token"] != without["token"]
    arrived: list[str | None] = []

    def sing(audio: Audio, request: Request, report: Progress) -> Song:
        arrived.append(audio.lyrics)
        return SONG

    monkeypatch.setattr(gpu, "sing", sing)
    work.work(order() | {"lyrics": with_them["lyrics"]}, [].append)
    assert arrived == ["La la"]


# --- the far side ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Path]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, str, str | None]]:
    """What the far side sang: its sound, suffix and title."""
    heard: list[tuple[bytes, str, str | None]] = []

    def sing(audio: Audio, request: Request, report: Progress) -> Song:
        heard.append((audio.path.read_bytes(), audio.path.suffix, audio.title))
        for hundredth in range(100):
            report(Stage.TRANSCRIBE, hundredth / 100, "Listening")
        report(Stage.LINES, 0.0, "Breaking the words into lines")
        return SONG

    monkeypatch.setattr(gpu, "sing", sing)
    return heard


def order(**changed: Any) -> dict[str, Any]:
    return {"token": "t1", "request": {"link": "-"}, "audio": b"sound", "suffix": ".opus", "title": "Mine"} | changed


Heard = list[tuple[bytes, str, str | None]]


@pytest.mark.parametrize("audio", [b"sound", base64.b64encode(b"sound").decode()])
def test_a_sound_arrives_as_bytes_or_in_base64(heard: Heard, audio: bytes | str) -> None:
    answer = work.work(order(audio=audio), [].append)
    assert heard == [(b"sound", ".opus", "Mine")]
    assert answer["plain"] == "Once"


def test_a_sound_that_is_named_is_fetched(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunPodServer() as host:
        monkeypatch.setenv("ALLOWED_HOSTS", host.host)
        settings.cache_clear()
        host.files["/files/a.opus"] = b"sound from afar"
        named = {name: value for name, value in order().items() if name != "audio"}
        work.work(named | {"audioUrl": f"http://{host.host}/files/a.opus"}, [].append)
        gone = work.work(named | {"token": "t2", "audioUrl": f"http://{host.host}/files/gone"}, [].append)
    assert heard[0][0] == b"sound from afar"
    assert (gone["name"], gone["kind"]) == ("LinkRefused", "permanent")


def test_news_come_once_a_second_within_a_stage(heard: Heard) -> None:
    told: list[dict[str, Any]] = []
    work.work(order(), told.append)
    assert [news["stage"] for news in told] == ["transcribe", "lines"]
    assert all(wire.news(news) for news in told)


def test_the_same_order_again_costs_no_work(heard: Heard) -> None:
    first = work.work(order(), [].append)
    assert work.work(order(), [].append) == first
    assert len(heard) == 1
    work.work(order(token="t2"), [].append)
    assert len(heard) == 2


def test_an_answer_is_kept_for_a_day(heard: Heard, data: Path) -> None:
    work.work(order(), [].append)
    (kept,) = (data / "answers").iterdir()
    long_ago = time.time() - work.KEPT - 1
    os.utime(kept, (long_ago, long_ago))
    work.work(order(token="t2"), [].append)
    assert [file.name for file in (data / "answers").iterdir()] == ["t2.json"]


def test_a_failure_is_not_kept(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def full(*_: object) -> Song:
        raise errors.DiskFull(what="the model's weights")

    monkeypatch.setattr(gpu, "sing", full)
    assert work.work(order(), [].append)["name"] == "DiskFull"
    assert not (data / "answers").exists()


@pytest.mark.parametrize("token", ["../../etc/passwd", "/etc/passwd", "", "..", None])
def test_a_token_leads_nowhere_else(heard: Heard, data: Path, token: str | None) -> None:
    work.work(order(token=token), [].append)
    assert [file.parent for file in data.rglob("*.json")] == [data / "answers"]


@pytest.mark.parametrize(
    "changed", [{"request": None}, {"request": {"link": "-", "new": 1}}, {"audio": "%%%"}, {"audio": None}]
)
def test_an_order_that_makes_no_sense_is_refused(heard: Heard, changed: dict[str, Any]) -> None:
    answer = work.work(order(**changed), [].append)
    assert wire.failure(answer, "RunPod").kind == "permanent"
    assert isinstance(wire.failure(answer, "RunPod"), BadRequest)
    assert heard == []
