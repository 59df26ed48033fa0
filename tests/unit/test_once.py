"""What a process opens once, though many threads ask for it at first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.once import Once


def test_threads_that_ask_at_the_same_time_get_the_same_one() -> None:
    every, made = threading.Barrier(8), []

    @Once
    def thing() -> object:
        made.append(object())
        threading.Event().wait(0.05)  # in which the others would make theirs
        return made[-1]

    def ask(_: int) -> object:
        every.wait(5)
        return thing()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == set(made)
    assert len(made) == 1


def test_it_is_made_anew_when_it_was_forgotten_or_could_not_be_made() -> None:
    tries: list[int] = []

    @Once
    def thing() -> int:
        """A thing."""
        tries.append(len(tries))
        if not tries[-1]:
            raise ValueError("not yet")
        return tries[-1]

    with pytest.raises(ValueError, match="not yet"):
        thing()
    assert (thing(), thing(), thing.__doc__) == (1, 1, "A thing.")
    thing.cache_clear()
    assert thing.cache_info().currsize == 0
    assert thing() == 2
