"""From singing to words. An engine is one file here and one line in `ENGINES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, cast

from infra.jobs.request import Request
from tasks.audio import Samples
from tasks.models import Report
from tasks.song import Word
from tasks.voice import Span

Device = Literal["best", "cpu"]  # a GPU where there is one; or not even then

ENGINES = {
    "faster-whisper": "tasks.transcribe.whisper",
}


@dataclass(frozen=True, slots=True)
class Heard:
    words: tuple[Word, ...]  # in the order of the song; times as near as the engine gets them
    language: str | None  # ISO 639-1; None where nothing is sung


class Engine(Protocol):
    @property
    def name(self) -> str:
        """Engine and model, as users read it: "faster-whisper base"."""
        ...

    def warm(self) -> None:
        """Load what listening needs."""
        ...

    def listen(
        self,
        samples: Samples,
        windows: Sequence[Span],
        *,
        language: str | None,
        prompt: str | None = None,
        report: Report,
    ) -> Heard:
        """The words sung in the windows. The language is heard where it is not given; the prompt hints at spellings."""
        ...


class EngineModule(Protocol):
    def ready(self, request: Request, report: Report, device: Device) -> Engine:
        """The engine with all that it needs on this machine."""
        ...


def engine(request: Request, report: Report, device: Device = "best") -> Engine:
    """The engine for a request; imported only now, for each brings its own heavy company."""
    module = cast(EngineModule, import_module(ENGINES["faster-whisper"]))
    return module.ready(request, report, device)
