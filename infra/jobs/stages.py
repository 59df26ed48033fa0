"""The stages of a job's life and the share of the progress bar that each fills."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Stage(StrEnum):
    INITIALISING = "initialising"
    CACHE = "cache"
    DOWNLOAD = "download"
    HANDOVER = "handover"
    DECODE = "decode"
    SEPARATE = "separate"
    TRANSCRIBE = "transcribe"
    ALIGN = "align"
    LINES = "lines"
    PUBLISH = "publish"
    DONE = "done"


SHARES: dict[Stage, tuple[int, int]] = {  # percent at the stage's begin and end
    Stage.INITIALISING: (0, 5),
    Stage.CACHE: (5, 10),
    Stage.DOWNLOAD: (10, 20),
    Stage.HANDOVER: (20, 30),
    Stage.DECODE: (30, 35),
    Stage.SEPARATE: (35, 60),
    Stage.TRANSCRIBE: (60, 90),
    Stage.ALIGN: (90, 93),
    Stage.LINES: (93, 95),
    Stage.PUBLISH: (95, 99),
    Stage.DONE: (100, 100),
}


class Progress(Protocol):
    def __call__(self, stage: Stage, share: float, message: str, *, step: bool = False) -> None:
        """The share of the stage that is done (0–1), and a message for the user; as a step, it stays in the job's log.

        What it raises (a cancel) ends the work.
        """
        ...


def percent(stage: Stage, share: float) -> int:
    begin, end = SHARES[stage]  # a share that is NaN counts as none
    return begin + round((end - begin) * min(1.0, max(0.0, share)))


def silent(stage: Stage, share: float, message: str, *, step: bool = False) -> None:
    """Progress that nobody watches."""
