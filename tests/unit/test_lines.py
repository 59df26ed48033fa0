from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.lines import SHORTEST_WORD, UNSPACED, break_lines, in_order
from tasks.song import Word

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-5, 30)
words_of_any_kind = st.lists(
    st.builds(Word, st.sampled_from(["la", "", " ", "Oh no\n", "君"]), numbers, numbers, numbers)
)


def said(text: str, step: float = 0.4, held: float = 0.4) -> list[Word]:
    """Words at an even pace; "|" is a rest of one second."""
    words: list[Word] = []
    at = 1.0
    for part in text.split():
        if part == "|":
            at += 1.0
        else:
            words.append(Word(part, round(at, 3), round(at + held, 3)))
            at += step
    return words


def broken(text: str, language: str | None = "en", **pace: float) -> list[str]:
    return [line.text for line in break_lines(said(text, **pace), language)]


# --- order --------------------------------------------------------------------------------------


@given(words=words_of_any_kind, duration=st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 20))
@settings(max_examples=300, deadline=None)
def test_words_in_order_hold_every_guarantee(words: list[Word], duration: float) -> None:
    ordered = in_order(words, duration)
    limit = duration if math.isfinite(duration) and duration > 0 else 24 * 3600
    for word, following in zip(ordered, [*ordered[1:], None], strict=False):
        assert word.text == " ".join(word.text.split()) != ""
        assert 0 <= word.start < word.end <= limit
        assert round((word.end - word.start) * 1000) >= SHORTEST_WORD
        assert following is None or word.end <= following.start
        assert 0 <= word.confidence <= 1


@given(words=words_of_any_kind, duration=st.floats(0, 20))
@settings(max_examples=100, deadline=None)
def test_words_in_order_stay_as_they_are(words: list[Word], duration: float) -> None:
    once = in_order(words, duration)
    assert in_order(once, duration) == once


def test_good_words_are_not_touched() -> None:
    words = tuple(said("I count the ships | that come and go"))
    assert in_order(words, 60.0) == words


def test_words_are_sorted_and_an_overlap_ends_where_the_next_begins() -> None:
    ordered = in_order([Word("b", 2.0, 3.0), Word("a", 1.0, 2.5)], 10.0)
    assert [(word.text, word.start, word.end) for word in ordered] == [("a", 1.0, 2.0), ("b", 2.0, 3.0)]


def test_words_at_one_time_follow_each_other_in_the_order_told() -> None:
    ordered = in_order([Word("a", 5.0, 5.0), Word("b", 5.0, 5.0), Word("c", 5.0, 5.0)], 5.0)
    assert [(word.text, word.start, word.end) for word in ordered] == [
        ("a", 4.94, 4.96), ("b", 4.96, 4.98), ("c", 4.98, 5.0)
    ]  # fmt: skip


def test_a_word_without_a_time_follows_the_word_before() -> None:
    ordered = in_order([Word("a", 1.0, 2.0), Word("b", math.nan, math.inf), Word("c", 3.0, 4.0)], 10.0)
    assert [(word.text, word.start, word.end) for word in ordered] == [
        ("a", 1.0, 2.0), ("b", 2.0, 2.02), ("c", 3.0, 4.0)
    ]  # fmt: skip


def test_an_unknown_duration_bounds_nothing() -> None:
    assert in_order([Word("late", 5000.0, 5001.0)], 0.0) == (Word("late", 5000.0, 5001.0),)


# --- lines --------------------------------------------------------------------------------------


@given(
    words=words_of_any_kind.map(lambda words: in_order(words, 20.0)),
    language=st.sampled_from([None, "en", "ja", *sorted(UNSPACED)]),
)
@settings(max_examples=100, deadline=None)
def test_breaking_keeps_every_word_in_its_place(words: tuple[Word, ...], language: str | None) -> None:
    lines = break_lines(words, language)
    assert tuple(word for line in lines for word in line.words) == words
    assert all(line.words for line in lines)


def test_no_words_are_no_lines_and_one_word_is_one_line() -> None:
    assert break_lines([], "en") == ()
    assert broken("Oh") == ["Oh"]


@pytest.mark.parametrize("tempo", [0.5, 1.0, 2.5])
def test_a_pause_breaks_by_the_songs_own_tempo(tempo: float) -> None:
    words = said("the harbor light is low | i count the ships that come | so carry me over", held=0.38)
    slower = [Word(w.text, w.start * tempo, w.end * tempo) for w in words]
    assert [line.text for line in break_lines(slower, "en")] == [
        "the harbor light is low", "i count the ships that come", "so carry me over"
    ]  # fmt: skip


def test_a_sentence_ends_its_line_even_without_a_pause() -> None:
    assert broken("I count the ships. They come and go. Nobody knows their names") == [
        "I count the ships.", "They come and go.", "Nobody knows their names"
    ]  # fmt: skip


def test_a_comma_alone_breaks_no_short_line() -> None:
    assert broken("Luna de sal, no te vayas", "es") == ["Luna de sal, no te vayas"]


def test_a_comma_and_a_capital_break() -> None:
    assert broken("and so we sail away, Over the silver water") == ["and so we sail away,", "Over the silver water"]


def test_the_english_i_begins_no_line() -> None:
    assert broken("the words, I never said, I'm sure") == ["the words, I never said, I'm sure"]


def test_capitals_mean_nothing_where_many_words_have_them() -> None:
    assert broken("die Liebe, Der Mond, Das Meer Und Die Nacht", "de") == [
        "die Liebe, Der Mond, Das Meer Und Die Nacht"
    ]


def test_a_long_line_is_cut_into_lines_alike() -> None:
    lengths = [len(line.split()) for line in broken(" ".join(["la"] * 30), step=0.3, held=0.3)]
    assert lengths == [10, 10, 10]


def test_a_slow_line_is_cut_by_its_seconds() -> None:
    assert [len(line.split()) for line in broken(" ".join(["la"] * 8), step=1.4, held=1.4)] == [4, 4]


def test_a_held_note_ends_a_line_where_the_engine_left_no_silence() -> None:
    words = [*said("we sail across the sea and"), Word("home", 3.4, 5.6)]
    rest = [Word(w.text, w.start + 4.6, w.end + 4.6) for w in said("nobody waits for us there now")]
    assert [line.text for line in break_lines(words + rest, "en")] == [
        "we sail across the sea and home", "nobody waits for us there now"
    ]  # fmt: skip


def test_one_word_stands_alone_only_between_pauses() -> None:
    assert broken("we sail away. Home. over the water") == ["we sail away.", "Home. over the water"]
    assert broken("we sail across the sea | | home | | over the water") == [
        "we sail across the sea", "home", "over the water"
    ]  # fmt: skip


@pytest.mark.parametrize("language", sorted(UNSPACED))
def test_scripts_without_spaces_are_joined_without(language: str) -> None:
    assert broken("君 の 名 は", language) == ["君の名は"]


def test_english_words_in_a_japanese_song_keep_their_spaces() -> None:
    assert broken("I love you", "ja") == ["I love you"]
    assert broken("君 が love", "ja") == ["君がlove"]
