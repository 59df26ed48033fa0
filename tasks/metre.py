"""How often lines come round: the seconds from one line's begin to the next one's, where a song has such a habit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

STEP = 0.05  # seconds between two periods that are tried
BLUR = 6  # steps by which a line may come early or late
SHORTEST, USUAL, LONGEST = 1.5, 4.0, 9.0  # seconds
SPREAD = 0.6  # e-folds around the usual
DOUBTFUL = 0.15  # likelihood of a begin that is not looked at

AS_OFTEN = 0.8  # of the begins that find another one, for half a period to be a whole one

CLEAR = 1.3  # times what chance gives: as much as songs without a habit reach
CERTAIN = 0.8  # more than that, and the habit is beyond doubt
FEW = 0.1  # pairs of begins that chance always gives
ENOUGH = 2.0  # pairs of certain begins, less of which is no habit yet

NEAR = 0.08  # lines that a begin may be off for nothing
FAR = 0.1  # more than that, and it is as good as anywhere


@dataclass(frozen=True, slots=True)
class Metre:
    period: float  # seconds
    trust: float  # 0-1

    def off(self, seconds: float) -> float:
        """How far a line is from one period, or from several where lines lie between that nobody heard (0-1)."""
        lines = seconds / self.period
        return self.trust * min(max(abs(lines - max(round(lines), 1)) - NEAR, 0.0) / FAR, 1.0)


def metre(begins: Sequence[tuple[float, float]]) -> Metre:
    """The metre of lines that may begin at these times, each with its likelihood.

    Its period is the time after which likely begins find likely begins again, once and twice.
    """
    met = _met([begin for begin in begins if begin[1] > DOUBTFUL])
    tried = range(round(SHORTEST / STEP), round(LONGEST / STEP))

    def worth(at: int) -> float:
        return (met[at] + met[2 * at] / 2) * math.exp(-0.5 * (math.log(at * STEP / USUAL) / SPREAD) ** 2)

    best = max(tried, key=worth)
    if best // 2 in tried and met[best // 2] > AS_OFTEN * met[best]:
        best //= 2
    chance = statistics.mean(met[at] for at in tried) + FEW
    clear = max(0.0, min((met[best] / chance - CLEAR) / CERTAIN, 1.0))
    return Metre(best * STEP, clear * min(met[best] / ENOUGH, 1.0))


def _met(begins: Sequence[tuple[float, float]]) -> list[float]:
    """For each step, how many pairs of begins are so far apart."""
    met = [0.0] * (2 * round(LONGEST / STEP) + BLUR + 1)
    for i, (before, one) in enumerate(begins):
        for after, other in begins[i + 1 :]:
            apart = round((after - before) / STEP)
            if apart + BLUR >= len(met):
                break
            for near in range(max(apart - BLUR, 0), apart + BLUR + 1):
                met[near] += one * other * (1 - abs(near - apart) / (BLUR + 1))
    return met
