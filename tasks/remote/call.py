"""One call of the far side, from our side: begun or taken up, waited for, given up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from infra.errors import DatabaseAway, ProviderAway, ProviderFailed, UserError
from infra.jobs.stages import Progress, Stage
from infra.links import Link
from tasks.download import DOWNLOAD_DEADLINE
from tasks.remote import Memory, sound, wire
from tasks.song import Audio, Song

log = logging.getLogger(__name__)

T = TypeVar("T")

POLL = 1.0  # seconds
ANSWERING = 120.0  # seconds that a provider may be away before a call is begun there
QUEUED = 600.0  # seconds that a call may wait for a machine
WORKING = 180.0  # seconds that any work may take, a cold start included …
WORKING_PER_SECOND = 2.0  # … and for each second of sound
FETCHING = DOWNLOAD_DEADLINE + 60.0  # seconds that a video's sound may take, a cold start included
GRACE = 15.0  # seconds after which we stop waiting for the provider to end what is over its time


@dataclass(frozen=True, slots=True)
class Waiting:
    """For a machine."""


@dataclass(frozen=True, slots=True)
class Working:
    told: Any  # the latest news, as the provider passes it on


@dataclass(frozen=True, slots=True)
class Answered:
    answer: Any


@dataclass(frozen=True, slots=True)
class Broken:
    """Over without an answer, or no longer known there."""

    reason: str  # a clause that a user may read


State = Waiting | Working | Answered | Broken


class Unreached(Exception):
    """The provider did not answer this time."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class FarSide(Protocol):
    """A provider. Each of these may raise Unreached, and a UserError that ends the attempt."""

    @property
    def name(self) -> str: ...

    def start(self) -> str: ...

    def look(self, call: str) -> State: ...

    def cancel(self, call: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Errand:
    """What a call is for."""

    sends: str  # what the user reads while it begins
    stages: Sequence[Stage]  # of which the far side tells, in their order
    limit: float  # seconds that the far side may work


class NoMemory:
    """Of a call that nobody takes up again: what interrupts the waiting ends the call."""

    def recall(self) -> str | None:
        return None

    def remember(self, call: str | None) -> None:
        pass

    def wanted(self) -> bool:
        return False


def working_time(audio: Audio) -> float:
    """Seconds that the far side may work on this audio."""
    return WORKING + WORKING_PER_SECOND * audio.duration


def sing(far: FarSide, audio: Audio, report: Progress, memory: Memory) -> Song:
    """The song as the far side hears it."""
    errand = Errand(f"Sending the sound to {far.name}", wire.STAGES, working_time(audio))
    return wire.song(_answer(far, errand, report, memory), audio, far.name)


def fetch(far: FarSide, link: Link, folder: Path, report: Progress) -> Audio:
    """The sound of the video as YouTube gives it to the far side, in a file of the folder."""
    errand = Errand(f"Asking {far.name} for the sound", [Stage.DOWNLOAD], FETCHING)
    return sound.audio(_answer(far, errand, report, NoMemory()), link, folder, far.name)


@contextmanager
def asked_once(name: str) -> Generator[None]:
    """A provider that does not answer what is asked inside is away."""
    try:
        yield
    except Unreached as away:
        raise ProviderAway(provider=name, reason=str(away)) from away


def _answer(far: FarSide, errand: Errand, report: Progress, memory: Memory) -> Any:
    """The far side's answer to the call that is remembered, or else to a new one."""
    known = memory.recall()
    if known:
        report(errand.stages[0], 0.0, f"Taking up the work on {far.name}")
        ended = _ended(far, known, errand, report, memory)
        if isinstance(ended, Answered):
            return ended.answer
        log.info("%s: call %s cannot be taken up: %s", far.name, known, ended.reason)
    call = _begun(far, errand, report, memory)
    ended = _ended(far, call, errand, report, memory)
    if isinstance(ended, Answered):
        return ended.answer
    raise ProviderFailed(provider=far.name, reason=ended.reason)


def _begun(far: FarSide, errand: Errand, report: Progress, memory: Memory) -> str:
    say = partial(report, errand.stages[0], 0.0)
    say(errand.sends)
    call = _patiently(far, far.start, say, time.monotonic() + ANSWERING)
    try:
        memory.remember(call)
    except BaseException:
        _cancel(far, call)  # nobody would ever look for it
        raise
    return call


def _ended(far: FarSide, call: str, errand: Errand, report: Progress, memory: Memory) -> Answered | Broken:
    """How the call ended; from then on it is not remembered."""
    with _given_up_if_unwanted(far, call, memory):
        ended = _awaited(far, call, errand, report)
    if ended is None:
        _cancel(far, call)
        ended = Broken("it did not finish in time")
    memory.remember(None)
    return ended


@contextmanager
def _given_up_if_unwanted(far: FarSide, call: str, memory: Memory) -> Generator[None]:
    """What interrupts the waiting leaves the call to the next run, or ends it with the job."""
    try:
        yield
    except BaseException:
        with suppress(DatabaseAway):  # then the next run decides
            if not memory.wanted():
                _cancel(far, call)
                memory.remember(None)
        raise


def _awaited(far: FarSide, call: str, errand: Errand, report: Progress) -> Answered | Broken | None:
    """How the call ended; None when its time is over. A provider's own word on that may never come."""
    limit = errand.limit + GRACE
    deadline = time.monotonic() + QUEUED + limit
    began = False
    stage, share, message = errand.stages[0], 0.0, f"Waiting for a machine on {far.name}"
    while True:
        match _patiently(far, lambda: far.look(call), partial(report, stage, share), deadline):
            case Working(told):
                if not began:
                    began, deadline = True, min(deadline, time.monotonic() + limit)
                    message = f"Working on {far.name}"
                stage, share, message = wire.news(told, errand.stages) or (stage, share, message)
            case Waiting():
                pass
            case Answered() | Broken() as ended:
                return ended
        report(stage, share, message)
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL)


def _patiently(far: FarSide, ask: Callable[[], T], say: Callable[[str], None], deadline: float) -> T:
    """The provider's answer, asked for again and again while it gives none."""
    pause = POLL
    while True:
        try:
            return ask()
        except Unreached as away:
            wait = max(pause, away.retry_after)
            if time.monotonic() + wait > deadline:
                raise ProviderAway(provider=far.name, reason=str(away)) from away
            log.warning("%s does not answer: %s", far.name, away)
            say(f"{far.name} does not answer at the moment; trying again")
            time.sleep(wait)
            pause = min(2 * pause, 30.0)


def _cancel(far: FarSide, call: str) -> None:
    try:
        far.cancel(call)
    except (Unreached, UserError) as error:
        log.warning("call %s on %s could not be cancelled: %s", call, far.name, error)
