"""A job's row as a remote call sees it; and what stops a run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    call: str | None = None
    still_wanted: bool = True
    remembered: list[str | None] = field(default_factory=list)

    def recall(self) -> str | None:
        return self.call

    def remember(self, call: str | None) -> None:
        self.call = call
        self.remembered.append(call)

    def wanted(self) -> bool:
        return self.still_wanted


class Stopped(BaseException):
    """As Prefect stops a run."""
