"""How a step tells of itself."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    def __call__(self, share: float, message: str, *, step: bool = False) -> None:
        """Progress within a stage: the share done (0–1), a message for the user; a step stays in the job's log."""
        ...


def nobody(share: float, message: str, *, step: bool = False) -> None:
    """A report that nobody reads."""
