"""Times as formats write them."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """How a format writes a time: in ticks, its smallest step, so that roundings never add up."""

    per_second: int
    shape: str

    def ticks(self, seconds: float) -> int:
        return max(0, round(seconds * self.per_second))

    def show(self, ticks: int) -> str:
        seconds, fraction = divmod(ticks, self.per_second)
        minutes, s = divmod(seconds, 60)
        h, m = divmod(minutes, 60)
        return self.shape.format(h=h, m=m, s=s, fraction=fraction, minutes=minutes)

    def span(self, start: float, end: float) -> tuple[str, str]:
        """From and until, at least a tick later: players leave out what has no length."""
        first = self.ticks(start)
        return self.show(first), self.show(max(self.ticks(end), first + 1))


TIME = r"(?:\d+:)?\d+:\d+(?:[.,:]\d+)?"  # any clock of ours, and what other programs make of them


def seconds(time: str) -> float:
    match = re.fullmatch(r"(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?", time.strip())
    if match is None:
        raise ValueError(f"{time!r} is not a time")
    hours, minutes, whole, fraction = (part or "0" for part in match.groups())
    since = int(hours) * 3600 + int(minutes) * 60 + int(whole)
    return round(since + int(fraction) / 10 ** len(fraction), 3)
