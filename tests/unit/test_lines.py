from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.lines import SHORTEST_WORD, UNSPACED, begun, break_lines, in_order
from tasks.metre import metre
from tasks.song import Word
from tasks.verse import rhyme

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
    assert all(" " in line for line in broken("we sail away. Home. over the water"))
    assert broken("we sail across the sea | | home | | over the water") == [
        "we sail across the sea", "home", "over the water"
    ]  # fmt: skip


@pytest.mark.parametrize("language", sorted(UNSPACED))
def test_scripts_without_spaces_are_joined_without(language: str) -> None:
    assert broken("君 の 名 は", language) == ["君の名は"]


def test_english_words_in_a_japanese_song_keep_their_spaces() -> None:
    assert broken("I love you", "ja") == ["I love you"]
    assert broken("君 が love", "ja") == ["君がlove"]


VERSES = {
    "en": "the harbor light is burning low | i count the ships that come and go | a letter folded in my coat | "
    "the words i never said or wrote",
    "es": "la noche cae despacio sobre el mar | tu nombre se me queda sin hablar | camino por la arena junto a ti | "
    "no quiero que amanezca sin reír",
    "de": "der Mond steht über unsrer Stadt | die keinen Platz mehr für uns hat | ich hör den Regen auf dem Dach | "
    "und liege bis zum Morgen wach",
    "fr": "dans la petite rue sous la pluie | je cherche ton visage dans la nuit | les lumières dansent sur la mer | "
    "et moi je continue à marcher",
    "it": "la luna dorme sopra il mare | e non mi lascia più parlare | ti cerco dentro una canzone | "
    "che suona piano alla stazione",
    "pt": "a lua cheia brilha no mar | e eu só queria te encontrar | a rua vazia me faz lembrar | "
    "do tempo em que a gente ia dançar",
}


@pytest.mark.parametrize("language", VERSES)
def test_a_verse_breaks_at_its_breaths_in_every_language(language: str) -> None:
    verse = VERSES[language]
    breath = [Word(w.text, w.start, w.end - 0.04) for w in _sung(verse, breath=0.3)]
    assert [line.text for line in break_lines(breath, language)] == verse.split(" | ")


@pytest.mark.parametrize("language", VERSES)
def test_a_verse_breaks_where_music_hides_its_breaths(language: str) -> None:
    """Over music whisper hears no pause: the word after one is long instead."""
    verse = VERSES[language]
    words = _sung(verse, breath=0.5, hidden=True)
    lines = break_lines(words, language)
    assert [line.text for line in lines] == verse.split(" | ")
    known = [word.start for word in _sung(verse, breath=0.5) if word.text in {line.words[0].text for line in lines}]
    for line in begun(lines):
        assert min(abs(line.start - start) for start in known) < 0.2


def _sung(verse: str, breath: float, *, hidden: bool = False) -> list[Word]:
    """Words as long as their letters, the last one of each line held; a breath at each "|", told or hidden."""
    words: list[Word] = []
    at = begin = 1.0
    parts = verse.split()
    for part, following in zip(parts, [*parts[1:], "|"], strict=True):
        if part == "|":
            at += breath
            begin = begin if hidden else at
            continue
        at += 0.1 + 0.06 * len(part) + 0.2 * (following == "|")
        words.append(Word(part, round(begin, 3), round(at, 3)))
        begin = at
    return words


def test_a_language_without_spaces_breaks_at_its_pauses() -> None:
    verse = "港 の 灯 り が 消 え て ゆ く | | 船 は 帰 ら な い | | あ な た を 待 つ"
    assert broken(verse, "ja", step=0.2, held=0.2) == ["港の灯りが消えてゆく", "船は帰らない", "あなたを待つ"]


def test_a_chorus_breaks_alike_though_a_breath_is_heard_only_once() -> None:
    first = "so carry me over the silver water | carry me back to the shore"
    second = first.replace("| ", "")
    lines = broken(f"{first} | | now the night is gone and the day is here | | {second}")
    assert lines[-2:] == lines[:2] == first.split(" | ")


def test_a_breath_within_a_line_breaks_nothing_where_lines_come_round() -> None:
    line = ["we", "take", "the", "long", "way", "home", "tonight"]
    words: list[Word] = []
    for at in range(0, 48, 4):
        rest = 0.45 if at == 20 else 0.0  # in the middle of one line
        words += [
            Word(text, at + i * 0.4 + rest * (i > 3), at + i * 0.4 + 0.38 + rest * (i > 3))
            for i, text in enumerate(line)
        ]
    assert [line.start for line in break_lines(words, "en")] == [float(at) for at in range(0, 48, 4)]


def test_of_places_alike_those_that_rhyme_end_lines() -> None:
    even = said("i saw you standing in the light and i was running through the night")
    assert [line.text for line in break_lines(even, "en")] == [
        "i saw you standing in the light", "and i was running through the night"
    ]  # fmt: skip


@given(words=words_of_any_kind.map(lambda words: in_order(words * 4, 200.0)))
@settings(max_examples=50, deadline=None)
def test_no_line_has_twenty_words(words: tuple[Word, ...]) -> None:
    assert all(len(line.words) < 20 for line in break_lines(words, "en"))


@given(words=words_of_any_kind.map(lambda words: in_order(words, 20.0)))
@settings(max_examples=100, deadline=None)
def test_a_line_begins_no_earlier_than_told_and_ends_before_the_next(words: tuple[Word, ...]) -> None:
    told = break_lines(words, "en")
    lines = begun(told)
    assert [line.text for line in lines] == [line.text for line in told]
    for line, before in zip(lines, told, strict=True):
        assert before.start <= line.start < line.words[0].end == before.words[0].end
        assert line.words[1:] == before.words[1:]
    assert all(a.end <= b.start for a, b in pairwise(lines))


def test_a_pause_that_was_heard_is_no_part_of_any_word() -> None:
    lines = break_lines(
        said("the harbor light is low | i count the ships that come | so carry me over", held=0.38), "en"
    )
    assert begun(lines) == lines


# --- metre --------------------------------------------------------------------------------------


@given(
    period=st.floats(2.5, 8.0), late=st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=30), first=st.floats(0, 60)
)
def test_lines_that_come_round_have_their_metre(period: float, late: list[float], first: float) -> None:
    found = metre([(first + i * period + by, 0.9) for i, by in enumerate(late)])
    assert found.period == pytest.approx(period, abs=0.1)
    assert found.trust > 0.9
    assert found.off(period) == found.off(3 * period) == 0
    assert found.off(period * 1.4) > 0.9


def test_lines_that_come_as_they_please_have_none() -> None:
    at, begins = 0.0, []
    for step in (2.1, 5.3, 3.2, 1.4, 6.1, 2.7, 4.4, 1.9, 7.2, 3.7, 2.4, 5.9):
        at += step
        begins.append((at, 0.9))
    assert metre(begins).trust < 0.5


@pytest.mark.parametrize("begins", [[], [(1.0, 0.9)], [(1.0, 0.9), (5.0, 0.9)]], ids=len)
def test_a_line_or_two_have_no_metre(begins: list[tuple[float, float]]) -> None:
    assert metre(begins).trust < 0.5


# --- verse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "pairs"),
    [
        ("en", "night/light coat/wrote low/go away/day"),
        ("es", "hablar/mar aquí/ti corazón/canción luna/cuna camino/destino"),
        ("de", "Nacht/Macht Liebe/Triebe gehen/stehen Licht/Gesicht"),
        ("fr", "amour/toujours pluie/nuit maison/chanson belle/appelle"),
        ("it", "amore/fiore mare/volare perché/te"),
        ("pt", "coração/canção saudade/cidade mar/encontrar"),
    ],
)
def test_words_that_rhyme(language: str, pairs: str) -> None:
    for one, other in (pair.split("/") for pair in pairs.split()):
        assert rhyme(one, language) == rhyme(f"{other},", language) != ""


def test_words_that_do_not() -> None:
    assert rhyme("night", "en") != rhyme("day", "en")
    assert rhyme("luna", "es") != rhyme("mar", "es")
    assert rhyme("港", "ja") == ""
