"""One figure for how well a song came out, and one for each line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import fitted, judge, spearman
from tasks.quality import judged
from tasks.song import Line, Song, Word
from tasks.voice import Span

VERSE = ["the", "harbor", "light", "is", "burning", "low"]


def line(start: float, sure: float, texts: list[str] | None = None, length: float = 0.4) -> Line:
    return Line(
        tuple(Word(text, start + i * 0.4, start + i * 0.4 + length, sure) for i, text in enumerate(texts or VERSE))
    )


def quality(*lines: Line, sung: tuple[Span, ...] = (), duration: float = 60.0) -> float:
    found = judged(Song(lines, duration=duration), sung).quality
    assert found is not None
    return found


def test_a_song_without_words_has_no_quality() -> None:
    assert judged(Song(())).quality is None
    assert judged(Song((), duration=60.0), (Span(1.0, 9.0),)).quality is None


def test_a_sure_song_is_nearly_right_and_an_unsure_one_nearly_wrong() -> None:
    assert quality(line(1.0, 0.95), line(5.0, 0.95)) > 0.85
    assert 0.2 < quality(line(1.0, 0.65), line(5.0, 0.65)) < 0.8
    assert quality(line(1.0, 0.3), line(5.0, 0.3)) < 0.15


def test_a_doubtful_line_is_found_among_sure_ones() -> None:
    made = judged(Song((line(1.0, 0.9), line(5.0, 0.4), line(9.0, 0.9)), duration=60.0))
    first, doubtful, last = (each.quality for each in made.lines)
    assert first == last
    assert first is not None
    assert doubtful is not None
    assert doubtful < first - 0.3
    assert made.quality is not None
    assert doubtful < made.quality < first


def test_words_crammed_into_no_time_are_not_believed() -> None:
    assert quality(line(1.0, 0.9), line(5.0, 0.9, length=0.02)) < quality(line(1.0, 0.9), line(5.0, 0.9)) - 0.4


def test_a_loop_is_not_believed_and_a_chorus_is() -> None:
    loop = ["no", "no", "no", "no", "no", "no"]
    assert quality(line(1.0, 0.9), line(5.0, 0.9, loop)) < quality(line(1.0, 0.9), line(5.0, 0.9)) - 0.05
    chorus = (line(1.0, 0.9), line(5.0, 0.9, ["so", "carry", "me", "over", "the", "water"]))
    assert quality(*chorus, *chorus) == pytest.approx(quality(*chorus))


def test_singing_without_words_and_words_without_singing_count() -> None:
    lines = (line(1.0, 0.9), line(11.0, 0.9))
    whole = quality(*lines, sung=(Span(0.9, 3.5), Span(10.9, 13.5)))
    assert whole == pytest.approx(quality(*lines))
    unheard = quality(*lines, sung=(Span(0.9, 3.5), Span(10.9, 13.5), Span(20.0, 25.2)))
    assert unheard == pytest.approx(whole / 2, rel=0.05)
    made = judged(Song(lines, duration=60.0), (Span(0.9, 3.5),))
    assert made.lines[0].quality
    assert made.lines[1].quality == 0


def test_a_line_that_is_only_hummed_through_costs_as_much_as_it_lasts() -> None:
    phrase = (Span(1.0, 11.0),)
    assert quality(line(1.0, 0.9), sung=phrase) == pytest.approx(quality(line(1.0, 0.9)) * 0.29, rel=0.02)


def test_phrases_that_fill_the_whole_song_tell_nothing() -> None:
    lines = (line(1.0, 0.9), line(51.0, 0.9))
    assert quality(*lines, sung=(Span(0.0, 60.0),)) == quality(*lines)


words = st.builds(
    Word, st.sampled_from(["la", "lo", "sea"]), st.floats(0, 50), st.floats(0, 60), st.floats(0, 1)
)  # in no order


@given(
    lines=st.lists(st.lists(words, min_size=1, max_size=4).map(lambda some: Line(tuple(some))), min_size=1, max_size=4),
    sung=st.lists(st.tuples(st.floats(0, 30), st.floats(30, 60)), max_size=2),
)
def test_every_quality_is_a_share(lines: list[Line], sung: list[tuple[float, float]]) -> None:
    made = judged(Song(tuple(lines), duration=60.0), [Span(*span) for span in sung])
    for value in (made.quality, *(each.quality for each in made.lines)):
        assert value is not None
        assert 0 <= value <= 1


@given(sure=st.lists(st.floats(0, 0.9), min_size=2, max_size=6))
def test_a_word_heard_more_surely_never_lowers_it(sure: list[float]) -> None:
    lines = [line(4.0 * i, each) for i, each in enumerate(sure)]
    surer = replace(lines[0], words=tuple(replace(w, confidence=w.confidence + 0.1) for w in lines[0].words))
    assert quality(surer, *lines[1:]) >= quality(*lines) - 1e-9


# --- the measuring itself -------------------------------------------------------------------------


TRUTH = {"words": [{"word": text, "start": 1.0 + i * 0.4} for i, text in enumerate(VERSE)]}


def test_a_word_is_right_when_it_is_the_one_and_in_time() -> None:
    assert judge("vocals", Song((line(1.0, 0.9),)), TRUTH).missed == 0
    late = judge("vocals", Song((line(1.35, 0.9),)), TRUTH)
    assert (late.missed, late.errors) == (1, 0)
    misheard = judge("vocals", Song((line(1.0, 0.9, ["the", "harper", "light", "is", "low"]),)), TRUTH)
    assert misheard.right == (True, False, True, True, False)  # "low" came too early
    assert misheard.errors == pytest.approx(2 / 6)


def test_ranks_that_agree_and_ranks_that_do_not() -> None:
    assert spearman([1.0, 2.0, 2.0, 9.0], [10.0, 20.0, 20.0, 21.0]) == 1
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1


def test_the_fit_finds_that_sure_words_are_right() -> None:
    songs = [
        judge("vocals", Song((line(1.0, sure, texts),)), TRUTH)
        for sure, texts in ((0.95, VERSE), (0.3, ["so", "carry", "me", "over", "the", "water"]), (0.9, VERSE))
    ]
    weights = fitted(songs)
    assert weights["OF_WORD"] > 0
    assert weights["BIAS"] > 0
