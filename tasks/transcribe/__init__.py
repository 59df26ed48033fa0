"""From singing to words. An engine is one file here, and the line in `EngineName` that the file is called by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from typing import Protocol, cast

from infra.errors import (
    BadRequest,
    DiskFull,
    NotInstalled,
    TranscriberAway,
    TranscriberRefused,
    UnknownLanguage,
    UnknownModel,
    UserError,
    WeightsAway,
)
from infra.jobs.request import EngineName, Request
from infra.settings import settings
from tasks import models
from tasks.audio import Samples
from tasks.models import Device, Report, nobody
from tasks.song import Word
from tasks.transcribe import languages
from tasks.transcribe.order import Choice, Offer, order
from tasks.voice import Span

ENGINES = {engine: f"{__name__}.{engine.name.lower()}" for engine in EngineName}

# What is wrong with the request, where no engine can do it; and what one engine cannot do, and the next one may.
OF_THE_REQUEST = (BadRequest, UnknownLanguage)
OF_THE_ENGINE = (
    *OF_THE_REQUEST,
    TranscriberRefused,
    TranscriberAway,
    WeightsAway,
    UnknownModel,
    NotInstalled,
    DiskFull,
)


@dataclass(frozen=True, slots=True)
class Segment:
    """What an engine heard in one go, with its own word on how sure it is; None where it says nothing."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()  # none where the engine gives no times for words
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    segments: tuple[Segment, ...]  # in the order of the song; times as near as the engine gets them
    language: str | None  # ISO 639-1; None where nothing is sung

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def timed(self) -> bool:
        """Whether every word has its times."""
        return all(segment.words for segment in self.segments)


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


@dataclass(frozen=True, slots=True)
class Listened:
    """What the engine that sang has heard, and what a user should know of those that did not."""

    heard: Heard
    engine: str
    notes: tuple[str, ...] = ()


def check(request: Request, device: Device = "best") -> None:
    """What no engine can do is said before any work, some of which takes minutes."""
    if request.language and languages.known(request.language) is None:
        raise UnknownLanguage(language=request.language)
    for choice in choices(request, device):
        if choice.engine is EngineName.WHISPER and choice.model and not models.exists(choice.model):
            raise UnknownModel(model=choice.model)


def listen(
    samples: Samples, windows: Sequence[Span], request: Request, report: Report, device: Device = "best"
) -> Listened:
    """The words of the windows, by the first engine that gives them."""
    asked = choices(request, device)
    failed: list[UserError] = []
    for choice, following in zip_longest(asked, asked[1:]):
        try:
            singer = engine(choice, request, report, device)
            heard = Heard((), None)
            if windows:
                heard = singer.listen(samples, windows, language=request.language, prompt=request.prompt, report=report)
            return Listened(heard, singer.name, tuple(str(error) for error in failed))
        except OF_THE_ENGINE as error:
            failed.append(error)
            if following:
                report(0.0, f"{str(error).rstrip('.')}; {following.label} goes on", step=True)
    raise _most_telling(failed)


def warm() -> None:
    """Load what the usual request needs."""
    request = Request(link="-")
    engine(choices(request, "best")[0], request, nobody).warm()


def is_elsewhere(request: Request) -> bool:
    """Whether the caller named somebody else's engine, whose key is known to this installation's own machines only."""
    return any(request.engine is engine or request.model in offer.names for engine, offer in _offers().items())


def engine(choice: Choice, request: Request, report: Report, device: Device = "best") -> Engine:
    return _module(choice.engine).ready(request.but(model=choice.model), report, device)


def choices(request: Request, device: Device) -> tuple[Choice, ...]:
    """The engines to ask for it on this machine, the first one first."""
    offers = _offers()
    keys = [engine for engine, offer in offers.items() if getattr(settings(), offer.key) is not None]
    return order(request, offers, keys, gpu=models.device(device) == "cuda")


def _offers() -> dict[EngineName, Offer]:
    return {engine: offer for engine in EngineName if (offer := getattr(_module(engine), "OFFER", None))}


def _module(engine: EngineName) -> EngineModule:
    """Imported only now, for each brings its own company."""
    return cast(EngineModule, import_module(ENGINES[engine]))


def _most_telling(failed: Sequence[UserError]) -> UserError:
    """What is wrong with the request itself; else what may be another time; else what the last one said."""
    asked = [error for error in failed if isinstance(error, OF_THE_REQUEST)]
    passing = [error for error in failed if error.kind == "passing"]
    return (asked or passing or failed)[-1]
