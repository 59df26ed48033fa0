"""Which letter is sung when, and words placed where their letters are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import letters
from tasks.letters import FRAME, NONE, columns, network, placed

QUIET, CLEAR = -9.0, -0.1  # log-likelihoods


def heard(frames: int, *sung: tuple[str, int]) -> letters.Floats:
    """Silence, with four frames of each of these letters."""
    found = np.full((frames, 27), QUIET, np.float32)
    found[:, NONE] = CLEAR
    for letter, at in sung:
        found[at : at + 4] = QUIET
        found[at : at + 4, columns(letter)] = CLEAR
    return found


def test_letters_are_those_that_the_network_knows() -> None:
    assert columns("Água") == [1, 7, 21, 1]
    assert columns("ball") == [2, 1, 12]  # a letter twice is heard once
    assert columns("œuvre") == [15, 5, 21, 22, 18, 5]
    assert columns("夜") == columns("7") == columns("—") == []


def test_the_networks_likelihoods_are_likelihoods() -> None:
    features = np.random.default_rng(0).normal(size=(30, 512)).astype(np.float32)
    assert np.exp(network()(features)).sum(axis=1) == pytest.approx(np.ones(30), abs=1e-3)


def test_words_lie_where_their_letters_are() -> None:
    sound = heard(100, ("a", 10), ("b", 14), ("a", 60), ("b", 64))
    found = placed(sound, ["ab", "ab"], [True, True], [(0.0, 2.0), (0.0, 2.0)])
    assert found is not None
    assert [(round(place.start, 2), round(place.end, 2)) for place in found] == [(0.2, 0.36), (1.2, 1.36)]
    assert all(place.likelihood == pytest.approx(np.exp(CLEAR), abs=0.01) for place in found)


def test_a_word_stays_within_its_bounds() -> None:
    sound = heard(100, ("a", 10), ("a", 60))
    [place] = placed(sound, ["a"], [True], [(1.0, 2.0)]) or [None]
    assert place is not None
    assert round(place.start, 2) == 1.2
    [place] = placed(sound, ["a"], [True], [(0.0, 1.0)]) or [None]
    assert place is not None
    assert round(place.start, 2) == 0.2


def test_a_word_without_letters_of_ours_has_a_place_all_the_same() -> None:
    found = placed(heard(100, ("a", 10), ("a", 60)), ["a", "夜", "a"], [True] * 3, [(0.0, 2.0)] * 3)
    assert found is not None
    assert found[0].start < found[1].start < found[2].start


def test_no_words_have_no_places_and_too_many_have_no_room() -> None:
    assert placed(heard(10), [], [], []) == []
    assert placed(heard(3), ["abab"], [True], [(0.0, 1.0)]) is None


@given(st.lists(st.sampled_from(["la", "love", "night", "ø", "7"]), min_size=1, max_size=12), st.integers(0, 1000))
def test_words_keep_their_order_and_lie_in_the_sound(words: list[str], seed: int) -> None:
    frames = 200
    chances = np.random.default_rng(seed).dirichlet(np.ones(27), frames).astype(np.float32)
    found = placed(np.log(chances + 1e-6), words, [True] * len(words), [(0.0, frames * FRAME)] * len(words))
    assert found is not None
    assert len(found) == len(words)
    assert all(0 <= place.start < place.end <= frames * FRAME for place in found)
    assert all(a.end <= b.start for a, b in pairwise(found))
