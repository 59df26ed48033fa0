"""Where a signal sings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import voice
from tasks.audio import RATE, Samples, decode
from tasks.song import Word
from tasks.voice import Span

LONG = Samples(np.zeros(300 * RATE, np.float32))
DEMO = Path(__file__).parents[2] / "flows" / "demo"


def tones(seconds: float, *phrases: tuple[float, float], floor: float = 0.0) -> Samples:
    """A voice that sings in the phrases, over a noise floor."""
    at = np.arange(round(seconds * RATE)) / RATE
    sound: NDArray[np.float64] = np.random.default_rng(1).normal(size=len(at)) * floor
    for start, end in phrases:
        sound += 0.3 * np.sin(2 * np.pi * 220 * at) * ((at >= start) & (at < end))
    return Samples(sound.astype(np.float32))


def near(spans: Sequence[Span], expected: Sequence[tuple[float, float]]) -> bool:
    times = [time for span in spans for time in (span.start, span.end)]
    return times == pytest.approx([time for pair in expected for time in pair], abs=voice.MARGIN + 0.05)


@pytest.mark.parametrize("floor", [0.0, 0.0005, 0.005])
def test_phrases_are_found_over_any_noise_floor(floor: float) -> None:
    phrases = [(2.0, 5.0), (6.0, 8.0), (15.0, 18.0)]
    assert near(voice.sung(tones(20, *phrases, floor=floor)), phrases)


@pytest.mark.parametrize("gain", [0.01, 0.1, 3.0])
def test_the_gate_does_not_depend_on_how_loud_the_file_is(gain: float) -> None:
    samples = tones(10, (2.0, 5.0), floor=0.0005)
    assert near(voice.sung(Samples(samples.values * np.float32(gain))), [(2.0, 5.0)])


def test_a_single_phrase_in_a_long_song_is_found() -> None:
    assert near(voice.sung(tones(120, (100.0, 104.0), floor=0.002)), [(100.0, 104.0)])


def test_silence_has_no_phrases() -> None:
    assert voice.sung(tones(5)) == ()
    assert voice.sung(Samples(np.zeros(0, np.float32))) == ()
    assert voice.sung(tones(5, floor=0.0005)) == ()


def test_steady_music_is_one_span() -> None:
    assert near(voice.sung(tones(20, floor=0.1)), [(0.0, 20.0)])


def test_windows_join_phrases_over_short_pauses_only() -> None:
    samples = tones(30, (2, 5), (5.8, 8), (15, 18))
    assert near(voice.windows(samples, voice.sung(samples)), [(2, 8), (15, 18)])


def test_a_long_span_is_cut_where_it_is_quietest() -> None:
    samples = tones(60, (0, 20), (20.5, 60))
    first = voice.windows(samples, [Span(0.0, 60.0)])[0]
    assert first.end == pytest.approx(20.25, abs=0.2)


def test_a_long_span_without_a_quiet_place_is_left_whole() -> None:
    whole = [Span(0.0, 60.0)]
    assert voice.windows(tones(60, (0, 60)), whole) == tuple(whole)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0.1, 90)), max_size=8).map(
        lambda pairs: [Span(start, start + length) for start, length in pairs]
    )
)
def test_windows_cover_the_spans_in_order(spans: list[Span]) -> None:
    ordered: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        if not ordered or span.start > ordered[-1].end:
            ordered.append(span)
    found = voice.windows(LONG, ordered)
    assert all(window.length > 0 for window in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
    for span in ordered:
        covered = sum(max(0.0, min(w.end, span.end) - max(w.start, span.start)) for w in found)
        assert covered == pytest.approx(span.length, abs=0.001)


def test_words_outside_the_singing_are_dropped_and_the_others_cut_to_it() -> None:
    words = [Word("thanks", 0.0, 1.0), Word("So", 1.5, 2.5), Word("carry", 2.5, 3.0), Word("me", 4.8, 7.0)]
    assert voice.inside(words, [Span(2.0, 5.0)]) == (
        Word("So", 2.0, 2.5),
        Word("carry", 2.5, 3.0),
        Word("me", 4.8, 5.0),
    )


def test_a_word_drawn_over_a_pause_is_sung_on_the_side_that_holds_most_of_it() -> None:
    phrases = [Span(2.0, 5.0), Span(7.0, 9.0)]
    assert voice.inside([Word("Carry", 4.8, 8.0), Word("held", 3.0, 7.1)], phrases) == (
        Word("Carry", 7.0, 8.0),
        Word("held", 3.0, 5.0),
    )


def test_words_that_touch_no_sound_are_left_where_they_are() -> None:
    words = [Word("soft", 0.5, 1.0), Word("loud", 1.5, 2.5)]
    assert voice.tightened(words, [Span(2.0, 5.0)]) == (words[0], Word("loud", 2.0, 2.5))


def test_a_breath_within_a_phrase_does_not_sound() -> None:
    samples = tones(10, (2.0, 3.0), (3.25, 5.0), floor=0.0005)
    assert near(voice.sung(samples), [(2.0, 5.0)])
    assert near(voice.sounding(samples), [(2.0, 3.0), (3.25, 5.0)])
    assert voice.sounding(tones(5)) == ()


def test_the_demo_sings_where_its_truth_says() -> None:
    truth = json.loads((DEMO / "harbor-light.json").read_text())
    spans = voice.sung(decode(DEMO / "harbor-light.vocals.opus", max_seconds=900))
    for word in truth["words"]:
        assert any(s.start <= (word["start"] + word["end"]) / 2 <= s.end for s in spans), word
    for part in truth["instrumental"]:
        middle = (part["start"] + part["end"]) / 2
        assert not any(s.start < middle < s.end for s in spans)


def test_silero_hears_the_singer_and_not_the_band() -> None:
    singer = voice.speech(decode(DEMO / "harbor-light.vocals.opus", max_seconds=900))
    band = voice.speech(decode(DEMO / "harbor-light.backing.opus", max_seconds=900))
    assert (singer > 0.3).mean() > 0.2
    assert (band > 0.3).mean() < 0.005


def test_silero_hears_in_the_windows_what_it_hears_in_the_whole_song() -> None:
    singer = decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)
    whole, part = voice.speech(singer), voice.speech(singer, [Span(20.0, 34.0)])
    first, last = round(20 * RATE / voice.SPEECH_FRAME), round(34 * RATE / voice.SPEECH_FRAME)
    assert len(part) == len(whole)
    assert np.mean(np.abs(part[first:last] - whole[first:last])) < 0.02
    assert not part[: first - 1].any()
    assert not part[last + 1 :].any()


def test_a_long_song_is_given_to_silero_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    singer = decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)
    whole = voice.speech(singer)
    monkeypatch.setattr(voice, "SPEECH_STRETCH", 300)
    told: list[int] = []
    parts = voice.speech(singer, say=lambda: told.append(1))
    assert len(told) == 6
    assert np.mean((parts > 0.3) == (whole > 0.3)) > 0.95
