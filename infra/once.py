"""What a process opens once.

`functools.cache` alone would open one for each of the threads that ask first, and leave all but the last to be found
by the garbage collector, with their connections open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """A function without arguments, as a decorator: called by the first who asks, while the others wait."""

    def __init__(self, make: Callable[[], T]) -> None:
        self.__doc__ = make.__doc__
        self._made = cache(make)
        self._making = threading.Lock()
        self.cache_info = self._made.cache_info
        self.cache_clear = self._made.cache_clear

    def __call__(self) -> T:
        with self._making:
            return self._made()
