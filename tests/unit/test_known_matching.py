"""The words heard beside the words given: misheard ones are known, missing ones are gaps, other songs do not fit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import OtherLyrics
from tasks.known import fit
from tasks.known.matching import BLOCK, match
from tasks.known.sounds import sounds
from tasks.known.text import Given
from tasks.song import Word

CHORUS = ["So", "carry", "me", "over", "the", "water,", "carry", "me", "back", "to", "the", "shore."]


def heard(text: str, begin: float = 0.0) -> list[Word]:
    """The words, one a second."""
    return [Word(word, begin + nth, begin + nth + 0.9, 0.8) for nth, word in enumerate(text.split())]


def starts(given_words: list[str], words: list[Word], language: str = "en") -> list[float | None]:
    found = match(given_words, words, language)
    return [round(each.start, 1) if fit.is_heard(each) and each else None for each in found]


def test_what_was_heard_as_given_is_where_it_was_heard() -> None:
    assert starts(CHORUS, heard(" ".join(CHORUS))) == [float(nth) for nth in range(len(CHORUS))]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["over", "water", "me", "back", "to", "Ärger", "vingt", "7", "夜空"]), max_size=12))
def test_a_text_matches_itself(words: list[str]) -> None:
    assert starts(words, heard(" ".join(words)), "de") == [float(nth) for nth in range(len(words))]


@settings(deadline=None)
@given(st.lists(st.text(max_size=6), max_size=8), st.lists(st.text(max_size=6), max_size=8))
def test_no_two_texts_break_it(ours: list[str], theirs: list[str]) -> None:
    found = match(ours, [Word(text, nth, nth + 1.0) for nth, text in enumerate(theirs)], None)
    assert len(found) == len(ours)
    known = [each for each in found if each]
    assert all(0 <= each.start <= each.end <= len(theirs) and 0 < each.share <= 1 for each in known)


@pytest.mark.parametrize(
    ("language", "ours", "theirs"),
    [
        ("en", "I'm going away 'cause of you", "I am going a way because of you"),
        ("en", "twenty four hours", "24 hours"),
        ("en", "the fisherman's knight", "the fishermans night"),
        ("es", "vivo por ella", "bibo por eya"),
        ("de", "über die Straße ohne dich", "uber die Strasse one dich"),
        ("fr", "où est le cœur d'été", "ou est le coeur d'ete"),
        ("it", "perché ho chiuso", "perche o chiuso"),
        ("pt", "não há coração", "nao a corassao"),
        ("ja", "サクラの花", "さくらの花"),
    ],
)
def test_spellings_that_sound_alike_are_alike(language: str, ours: str, theirs: str) -> None:
    assert None not in starts(ours.split(), heard(theirs), language)


def test_other_words_are_not() -> None:
    assert starts(["harbor", "light"], heard("money tonight"))[0] is None


def test_what_was_not_heard_is_a_gap_and_draws_nothing_from_afar() -> None:
    verse = ["the", "tide", "is", "high", "and", "all", "the", "boats", "are", "leaving"]
    words = [*heard("So carry me over the water"), *heard("carry me back to the shore", 60.0)]
    found = starts([*CHORUS[:6], *verse, *CHORUS[6:]], words)
    assert found[:6] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert found[6:-6] == [None] * len(verse)
    assert found[-6:] == [60.0, 61.0, 62.0, 63.0, 64.0, 65.0]


def test_a_long_text_is_matched_over_the_blocks_of_the_way() -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices("aeioubdklmnrst", k=5)) for _ in range(BLOCK // 2)]
    kept = [nth for nth in range(len(words)) if nth % 5]
    found = match(words, heard(" ".join(words[nth] for nth in kept)), "en")
    right = [each is not None and each.start == at for at, each in enumerate(found[nth] for nth in kept)]
    assert sum(right) >= 0.95 * len(kept)


def test_sounds_have_letters_only() -> None:
    assert [sounds(word, "en") for word in ("Philosophy,", "shore's", "24", "—")] == [
        "filosofy",
        "cores",
        "twentyfour",
        "",
    ]


# --- do they fit? -------------------------------------------------------------------------------


def test_another_song_is_refused_with_its_score() -> None:
    heard, clear, weights = [True, *[False] * 19], [False, True, *[False] * 18], [5] * 20
    with pytest.raises(OtherLyrics) as refused:
        fit.check(heard, clear, weights)
    assert str(refused.value) == "These lyrics do not fit the song: 10% of their words were heard."
    fit.check([True, True, *heard[2:]], clear, weights)
    fit.check(heard, [True] * 6 + [False] * 14, weights)


def test_long_words_count_for_more() -> None:
    assert fit.share([True, False], [9, 1]) == 0.9


def test_lines_that_are_left_out_are_named() -> None:
    lines = [Given(number, "La") for number in (5, 6, 6, 9)]
    assert fit.unheard(lines) == ("Lines 5–6, 9 of the lyrics were not heard and left out.",)
    assert fit.unheard(lines[:1]) == ("Line 5 of the lyrics was not heard and left out.",)
    assert fit.unheard([]) == ()


def test_what_is_sung_beside_the_lyrics_is_told_with_its_place() -> None:
    lines = [(Given(4, "La"), 10.0, 12.0), (Given(5, "La"), 30.0, 32.0)]
    more = heard("this is not in the text", 15.0)
    assert fit.additions(more, lines) == ("Between lines 4 and 5 more is sung: “this is not in the text”",)
    assert fit.additions(heard("only a few", 15.0), lines) == ()
    assert fit.additions(heard("this is not in the text", 40.0), lines)[0].startswith("After line 5")
