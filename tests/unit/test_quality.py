"""One figure for how well a song came out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.jobs.request import Format
from tasks.render import document, read, render
from tasks.song import Line, Song, Word


def song(*words: tuple[float, float]) -> Song:
    """Of words with these lengths and confidences."""
    timed = tuple(Word("la", 10.0 * n, 10.0 * n + length, sure) for n, (length, sure) in enumerate(words))
    return Song((Line(timed),) if timed else ())


def test_a_song_without_words_has_no_quality() -> None:
    assert song().quality is None
    assert document(song())["metadata"]["quality"] is None


def test_a_long_word_counts_more_than_a_short_one() -> None:
    assert song((3.0, 1.0), (1.0, 0.0)).quality == pytest.approx(0.75)


def test_words_without_a_length_count_too() -> None:
    assert song((0.0, 0.2), (0.0, 0.6)).quality == pytest.approx(0.4)


def test_the_document_says_the_quality_and_what_is_read_back_has_it_again() -> None:
    made = song((1.0, 0.9), (2.0, 0.5))
    text = render(made, Format.JSON)
    assert json.loads(text)["metadata"]["quality"] == 0.633
    assert read(text, Format.JSON).quality == pytest.approx(made.quality)


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1)), min_size=1))
def test_the_quality_lies_between_the_worst_and_the_best_word(words: list[tuple[float, float]]) -> None:
    quality = song(*words).quality
    assert quality is not None
    sure = [confidence for _, confidence in words]
    assert min(sure) - 1e-9 <= quality <= max(sure) + 1e-9


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 0.9)), min_size=1))
def test_a_word_heard_more_surely_never_lowers_it(words: list[tuple[float, float]]) -> None:
    (length, sure), *others = words
    before, after = song((length, sure), *others).quality, song((length, sure + 0.1), *others).quality
    assert before is not None
    assert after is not None
    assert after >= before
