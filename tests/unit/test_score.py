"""The scorer, on a perfect copy of the demo song's truth and on copies with known faults."""

from __future__ import annotations

import random
from dataclasses import replace

import jiwer
import pytest

from benchmarks.score import Lyrics, Score, Sung, from_document, plain, score
from tests.score import TRUTH

SONG = from_document(TRUTH)
COUNT = len(SONG.words)  # none of them is two


def shifted(word: Sung, by: float) -> Sung:
    assert word.start is not None
    assert word.end is not None
    return replace(word, start=word.start + by, end=word.end + by)


def with_words(*words: Sung) -> Lyrics:
    return replace(SONG, words=words)


def test_a_perfect_copy_has_no_fault() -> None:
    perfect = score(SONG, SONG)
    assert perfect.figures() == {
        "words": COUNT,
        "wer": 0,
        "invented": 0,
        "onset_mean": 0,
        "onset_median": 0,
        "in_time": 1,
        "line_f1": 1,
        "senseless": 0,
    }


@pytest.mark.parametrize(("late", "in_time"), [(0.2, 1.0), (0.5, 0.0)])
def test_words_that_come_late_are_right_and_late(late: float, in_time: float) -> None:
    found = score(with_words(*(shifted(word, late) for word in SONG.words)), SONG)
    assert (found.error_rate, found.in_time) == (0, in_time)
    assert found.onset_mean == pytest.approx(late)


def test_each_word_left_out_is_one_fault() -> None:
    kept = [word for nth, word in enumerate(SONG.words) if nth % 10]
    assert score(with_words(*kept), SONG).wrong == COUNT - len(kept)


def test_each_word_exchanged_is_one_fault() -> None:
    exchanged = [replace(word, text="zzz") if nth % 7 == 0 else word for nth, word in enumerate(SONG.words)]
    found = score(with_words(*exchanged), SONG)
    assert found.wrong == COUNT - len(found.onsets) == len(SONG.words[::7])


def test_words_where_nobody_sings_are_invented() -> None:
    start, end = SONG.instrumental[0]
    middle = (start + end) / 2
    thanks = [Sung(text, middle, middle + 0.1) for text in ("Thanks", "for", "watching")]
    found = score(with_words(*thanks, *SONG.words), SONG)
    assert (found.wrong, found.invented) == (3, 3)


def test_a_word_at_the_edge_of_the_singing_is_not_invented() -> None:
    start, end = SONG.instrumental[1]
    near = [Sung("oh", start, start + 0.8), Sung("oh", end - 0.8, end)]
    assert score(with_words(*near), SONG).invented == 0


def test_all_lines_in_one_are_hardly_any() -> None:
    whole = Sung(" ".join(line.text for line in SONG.lines), SONG.lines[0].start, SONG.lines[-1].end)
    assert score(replace(SONG, lines=(whole,)), SONG).line_f1 == pytest.approx(2 / (len(SONG.lines) + 1))


def test_a_line_counts_once() -> None:
    twice = tuple(line for line in SONG.lines for _ in range(2))
    assert score(replace(SONG, lines=twice), SONG).line_f1 == pytest.approx(2 / 3)


def test_case_and_punctuation_are_no_fault() -> None:
    bare = [replace(word, text=" ".join(plain(word.text))) for word in SONG.words]
    assert score(with_words(*bare), SONG).wrong == 0


def test_no_words_at_all_are_all_wrong() -> None:
    found = score(Lyrics(()), SONG)
    assert (found.error_rate, found.onset_mean, found.line_f1, found.in_time) == (1, None, 0, 0)


def test_words_without_times_are_right_and_senseless() -> None:
    found = score(with_words(*(replace(word, start=None, end=None) for word in SONG.words)), SONG)
    assert (found.error_rate, found.in_time, found.senseless) == (0, 0, COUNT)


@pytest.mark.parametrize(
    "broken",
    [
        {"end": 0.0},  # before its start
        {"end": SONG.words[4].start},
        {"end": SONG.duration + 1},
        {"start": 0.0},  # before the word before it
    ],
)
def test_a_time_that_cannot_be_is_seen(broken: dict[str, float]) -> None:
    words = [replace(word, **broken) if nth == 4 else word for nth, word in enumerate(SONG.words)]
    assert score(with_words(*words), SONG).senseless == 1


def test_a_hyphened_word_is_as_many_as_are_sung() -> None:
    apart = Lyrics((Sung("cold", 1.0, 1.5), Sung("hearted", 1.5, 2.0)), duration=3.0)
    together = Lyrics((Sung("Cold-hearted,", 1.0, 2.0),), duration=3.0)
    assert score(together, apart) == replace(score(apart, apart), lines=0)
    assert score(together, apart).onsets == (0, 0)


def test_of_equal_ways_the_nearer_word_is_taken() -> None:
    truth = Lyrics((Sung("la", 1.0, 1.5), Sung("la", 2.0, 2.5), Sung("la", 3.0, 3.5)), duration=4.0)
    heard = Lyrics((Sung("la", 2.9, 3.4),), duration=4.0)
    assert score(heard, truth).onsets == pytest.approx([0.1])


def test_an_instrumental_has_no_words() -> None:
    nothing = Lyrics((), duration=10.0, instrumental=((0.0, 10.0),))
    assert score(Lyrics(()), nothing).error_rate == 0
    assert score(Lyrics((Sung("you", 1.0, 2.0),)), nothing).invented == 1


def test_the_error_rate_is_what_jiwer_says() -> None:
    chance = random.Random(1)
    kept = [word for word in SONG.words if chance.random() > 0.15]
    heard = [replace(word, text="foo") if chance.random() < 0.2 else word for word in kept]
    true, said = (" ".join(part for word in words for part in plain(word.text)) for words in (SONG.words, heard))
    assert score(with_words(*heard), SONG).error_rate == pytest.approx(jiwer.wer(true, said))


def test_many_songs_are_scored_as_one() -> None:
    both = score(SONG, SONG) + score(Lyrics(()), SONG)
    assert (both.words, both.error_rate, both.in_time) == (2 * COUNT, 0.5, 0.5)
    assert both + Score() == both
