"""Lyrics as people write them down: what of them is sung, how often, and how it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import BadRequest
from tasks.known.language import language_of
from tasks.known.text import MOST_LINES, Given, sung_lines


def sung(text: str) -> list[str]:
    return [line.text for line in sung_lines(text)]


WORDS = st.text("abcdefghij éñ'你ß", min_size=1, max_size=20).filter(lambda text: any(map(str.isalnum, text)))
SONGS = st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=4)


# --- lines ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(SONGS)
def test_plain_lines_are_sung_as_they_are_given(song: list[list[str]]) -> None:
    given_lines = [" ".join(line.split()) for stanza in song for line in stanza]
    assert sung("\n\n".join("\n".join(stanza) for stanza in song)) == given_lines


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        lines = sung_lines(text)
    except BadRequest:
        return
    count = len(text.splitlines())
    assert all(1 <= line.number <= count and any(map(str.isalnum, line.text)) for line in lines)


@settings(deadline=None)
@given(WORDS, st.sampled_from(["en", "ja", "zh", "ar", None]))
def test_a_lines_parts_put_together_are_the_line(text: str, language: str | None) -> None:
    line = Given(1, " ".join(text.split()))
    joiner = "" if language in ("ja", "zh") else " "
    assert joiner.join(part.text for part in line.parts(language)) == line.text


def test_headers_and_signs_are_not_sung() -> None:
    text = "[Verse 1: Ann]\nThe harbor light\n\n---\nRefrain:\nSo carry me [softly] over\n♪♪\n【副歌】\nBack"
    assert sung(text) == ["The harbor light", "So carry me over", "Back"]


def test_a_text_without_words_is_refused() -> None:
    for text in ("", "[Instrumental]\n\n♪", "...", "x2"):
        with pytest.raises(BadRequest, match="no line"):
            sung_lines(text)


def test_lines_are_numbered_as_editors_do() -> None:
    lines = sung_lines("[Verse]\nOne\n\nTwo (x2)\n")
    assert [(line.number, line.text) for line in lines] == [(2, "One"), (4, "Two"), (4, "Two")]


# --- what is sung again -----------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["(chorus)", "[Chorus]", "Chorus:", "(Repeat Chorus)", "[Chorus: Ann & Bob]"])
def test_a_section_named_again_is_sung_again(mark: str) -> None:
    text = f"[Chorus]\nSo carry me\nback home\n\nThe tide\n\n{mark}\n\nThe end"
    assert sung(text) == ["So carry me", "back home", "The tide", "So carry me", "back home", "The end"]


def test_a_section_that_is_written_out_again_is_not_doubled() -> None:
    assert sung("[Chorus]\nLa\n\n[Chorus]\nLa") == ["La", "La"]


@pytest.mark.parametrize("mark", ["x2", "(x2)", "×2", "2x", "[x2]", "(2 x)", "(bis)"])
def test_a_line_marked_so_is_sung_twice(mark: str) -> None:
    assert sung(f"So carry me {mark}\nback") == ["So carry me", "So carry me", "back"]


def test_a_mark_alone_repeats_the_stanza_above() -> None:
    assert sung("Before\n\nOne\nTwo\nx3\n\nAfter") == ["Before", *["One", "Two"] * 3, "After"]
    assert sung("[Chorus x2]\nOne\nTwo\n\nEnd") == ["One", "Two", "One", "Two", "End"]
    assert sung("[Chorus]\nOne\n\nMore\n\n(chorus x2)") == ["One", "More", "One", "One"]


def test_numbers_within_a_line_are_words() -> None:
    assert sung("2 x 4 is eight\nMax2\nroute 66") == ["2 x 4 is eight", "Max2", "route 66"]


def test_repeats_of_repeats_have_an_end() -> None:
    with pytest.raises(BadRequest, match=f"more than {MOST_LINES} lines"):
        sung_lines("La\n" + "x9\n" * 200)


# --- backing vocals -----------------------------------------------------------------------------


def test_round_brackets_are_sung_behind_the_line() -> None:
    [line] = sung_lines("my (ooh, la la) friend :)")
    assert [part.text for part in line.parts("en") if part.backing] == ["(ooh,", "la", "la)"]
    [line] = sung_lines("my (ooh")
    assert not any(part.backing for part in line.parts("en"))
    assert sung("(ooh, la la)") == ["(ooh, la la)"]


# --- files with times ---------------------------------------------------------------------------


def test_of_files_with_times_the_words_are_taken() -> None:
    assert sung("[ar:Ann]\n[00:12.00][01:15.00]Again\n[00:20.00]<00:20.00>Once <00:21.00>more\n[00:30]") == [
        "Again",
        "Once more",
        "Again",
    ]
    assert sung("1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i> you\n\n2\n00:00:03,000 --> 00:00:04,000\nthere") == [
        "Hello you",
        "there",
    ]
    assert sung("WEBVTT\n\n00:01.000 --> 00:02.000\n<00:01.000><c>Hello</c>") == ["Hello"]


# --- languages ----------------------------------------------------------------------------------


def test_scripts_without_spaces_are_sung_by_characters() -> None:
    [line] = sung_lines("夜空に咲いたI love you花、（ああ）")
    assert [part.text for part in line.parts("ja")] == [*"夜空に咲いた", "I love you", "花、", "（あ", "あ）"]


def test_a_text_tells_its_language() -> None:
    assert language_of("The harbor light is burning low, I count the ships that come and go") == "en"
    assert language_of("La ventana está abierta y no te veo, pero yo te quiero más que el sol") == "es"
    assert language_of("夜空に咲いた花") == "ja"
    assert language_of("月亮代表我的心") == "zh"
    assert language_of("привет, мой друг") is None  # Russian, or Ukrainian, or Bulgarian
    assert language_of("la la la") is None
