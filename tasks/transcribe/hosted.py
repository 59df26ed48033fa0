"""What all hosted engines have in common: what is sent to them, how often, when not at all, and what is believed.

Each has a file of its own with its offer, its limits, and one function that makes the call through its SDK.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, Protocol, Self, cast

import numpy as np

from infra import quota
from infra.errors import TranscriberAway, TranscriberRefused
from infra.quota import Quota
from infra.settings import settings
from tasks import models, voice
from tasks.audio import Samples, clock
from tasks.models import Report
from tasks.transcribe import Heard, Segment, languages
from tasks.transcribe.answer import Answer, Nonsense
from tasks.transcribe.belief import believed, spoken, voiced
from tasks.transcribe.order import Offer
from tasks.transcribe.reel import Reel, flac, halves, reels
from tasks.voice import Span

CONNECT = 5.0  # seconds to connect
PATIENCE = 30.0  # seconds for any answer, the way of the file included
PER_SECOND = 0.5  # seconds more for each second of sound: the slowest hears at twice its pace, or it hangs
PAUSES = (2.0, 8.0)  # seconds between one try and the next
LONGEST_WAIT = 20.0  # seconds that a job waits where it is told when to come again
UNTOLD_WAIT = 5.0  # seconds where it is not told
NO_CREDIT = 3600.0  # seconds until an account without credit is looked at again
LONGEST_BLOCK = 24 * 3600.0  # seconds, whatever an engine says
TICK = 1.0  # seconds between two pieces of news, and so until a cancel is heard
EXCERPT = 30.0  # seconds in which a language is clear
SHORTEST = 30.0  # seconds; a reel that is too large and shorter is not cut again

TOO_MANY = 429
PASSING = frozenset({408, 409, 498, 499})  # beside 5xx: statuses that say nothing of what was sent


@dataclass(frozen=True, slots=True)
class Limits:
    megabytes: float  # in a file
    seconds: float  # of sound in a file
    quota: Quota
    prompt: int  # characters
    least: float = 0.0  # seconds that the shortest file counts for


@dataclass(frozen=True, slots=True)
class Call:
    """One file to be heard."""

    model: str
    sound: bytes
    seconds: float
    language: str | None
    prompt: str | None

    @property
    def deadline(self) -> float:
        return PATIENCE + PER_SECOND * self.seconds


class Response(Protocol):
    """What the SDKs' responses have in common: each rests on an httpx of its own."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def json(self) -> Any: ...


class Refusal(Exception):
    """The engine answers with an error's status."""

    def __init__(self, status: int, message: str, code: str | None, retry_after: float | None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after

    @classmethod
    def of(cls, response: Response) -> Self:
        try:
            body = response.json()
        except ValueError:
            body = None
        error = cast("dict[str, Any]", body).get("error") if isinstance(body, Mapping) else None
        told = cast("dict[str, Any]", error) if isinstance(error, Mapping) else {}
        message = " ".join(str(told.get("message") or f"it answers {response.status_code}").split())
        return cls(response.status_code, message[:200].rstrip(" ."), told.get("code"), _retry_after(response.headers))

    @property
    def wait(self) -> float:
        """Seconds after which to ask again."""
        return UNTOLD_WAIT if self.retry_after is None else min(self.retry_after, LONGEST_BLOCK)


class NoAnswer(Exception):
    """None came; `sent` tells whether the engine may have heard, and billed, the sound all the same."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent


class TooLarge(Exception):
    """The file is larger than the engine takes."""


Send = Callable[[Call], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Hosted:
    """A model of a hosted engine."""

    offer: Offer
    model: str
    sdk: str
    limits: Limits
    send: Send  # raises Refusal, NoAnswer, or a ValueError for what is no JSON
    ear: Hosted | None = None  # who tells the language, where this one tells neither that nor when things are sung

    @property
    def name(self) -> str:
        return f"{self.offer.label} {self.model}"

    def warm(self) -> None:
        import_module(self.sdk)
        voice.speech(Samples(np.zeros(voice.SPEECH_FRAME, np.float32)))

    def listen(
        self,
        samples: Samples,
        windows: Sequence[Span],
        *,
        language: str | None,
        prompt: str | None = None,
        report: Report,
    ) -> Heard:
        code = self._known(language)
        report(0.0, "Listening for singing")
        speech = voice.speech(samples)
        waiting = deque(reels(samples, windows, self.limits.seconds))
        if code is None and self.ear and waiting:
            code = self.ear.language(samples, [span for reel in waiting for span in reel.spans], report)
        total, done = sum(reel.seconds for reel in waiting), 0.0
        found: list[Segment] = []
        while waiting:
            reel = waiting.popleft()
            say = _saying(report, done / total)
            try:
                answer = self._asked(self._call(samples, reel, code, prompt), say)
            except TooLarge:
                waiting.extendleft(reversed(self._smaller(samples, reel)))
                continue
            segments = answer.segments_of(reel, models.offset(self.model))
            if not segments and spoken(speech, reel.spans):
                raise self._away("it heard nothing where somebody sings")
            found += [
                segment for segment in segments if believed(segment, voiced(speech, Span(segment.start, segment.end)))
            ]
            code = code or languages.code(answer.language)
            done += reel.seconds
        return Heard(tuple(found), (language or code) if found else None)

    def language(self, samples: Samples, windows: Sequence[Span], report: Report) -> str | None:
        """The language of the longest window, or of half a minute of it. None if this cannot tell."""
        longest = max(windows, key=lambda window: window.length)
        reel = reels(samples, [longest], EXCERPT)[0]
        with suppress(TranscriberRefused, TooLarge):
            answer = self._asked(self._call(samples, reel, None, None), _saying(report, 0.0))
            return languages.code(answer.language)
        return None

    def _known(self, language: str | None) -> str | None:
        """The language as the engine calls it; None where none is asked for."""
        code = languages.known(language) if language else None
        if language and code is None:
            raise self._refused(f'it does not know the language "{language}"')
        return code

    def _call(self, samples: Samples, reel: Reel, code: str | None, prompt: str | None) -> Call:
        """What is sent; checked here, for not every engine says what was wrong with it."""
        sound = flac(reel.sound(samples))
        if len(sound) > self.limits.megabytes * 1_000_000:
            raise TooLarge
        return Call(self.model, sound, reel.seconds, code, _cut(prompt, self.limits.prompt) if prompt else None)

    def _smaller(self, samples: Samples, reel: Reel) -> tuple[Reel, ...]:
        if reel.seconds <= SHORTEST:
            raise self._refused(f"it takes no file as large as {reel.seconds:.0f} s of sound")
        return halves(samples, reel)

    # --- one file -----------------------------------------------------------------------------

    def _asked(self, call: Call, say: Callable[[str], None]) -> Answer:
        """The answer, asked for again where that may help."""
        pauses, patience = iter(PAUSES), LONGEST_WAIT
        while True:
            pause = next(pauses, None)
            try:
                return Answer.read(self._heard(call, say), timed=self.ear is None)
            except Nonsense:
                raise self._away("its answer makes no sense") from None
            except NoAnswer:
                reason, after = "it does not answer", pause
            except Refusal as refusal:
                reason, after = self._passing(refusal, patience), pause
                if refusal.status == TOO_MANY and pause is not None:
                    patience, after = 0.0, refusal.wait  # a second time, it is not only that we are quick
            if after is None:
                raise self._away(reason)
            self._pause(after, f"{self.offer.label}: {reason}", say)

    def _passing(self, refusal: Refusal, patience: float) -> str:
        """Why it refused, if another try may help; raised otherwise."""
        match refusal.status:
            case 413:
                raise TooLarge
            case 401 | 403:
                raise self._refused(f"it does not accept the key in {self.offer.key.upper()}")
            case 429 if refusal.code == "insufficient_quota":
                quota.block(self.offer.label, NO_CREDIT)
                raise self._away("its account has no credit left")
            case 429 if refusal.wait > patience:  # so that no other job finds out for itself
                raise self._blocked(quota.block(self.offer.label, refusal.wait))
            case 429:
                return "it limits us"
            case status if status >= 500 or status in PASSING:
                return f"it answers {status}"
            case _:
                raise self._refused(refusal.message)

    def _pause(self, seconds: float, why: str, say: Callable[[str], None]) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            say(f"{why}; trying again in {math.ceil(left)} s")
            time.sleep(min(left, TICK))

    def _heard(self, call: Call, say: Callable[[str], None]) -> object:
        """What the engine answers. What it cannot have billed is given back to its quota."""
        if until := quota.blocked(self.offer.label):
            raise self._blocked(until)
        ticket = quota.reserve(self.offer.label, max(call.seconds, self.limits.least), self.limits.quota)
        if ticket is None:
            raise self._away("the seconds of sound that it takes are used up for now")
        try:
            listening = f"{self.name} is listening to {clock(call.seconds)} of singing"
            return _watched(self.send, call, lambda: say(listening))
        except Refusal:
            quota.give_back(ticket)
            raise
        except NoAnswer as error:
            if not error.sent:
                quota.give_back(ticket)
            # Else it is sent again all the same, and perhaps paid for twice: no hosted engine knows a call it had.
            raise

    def _away(self, reason: str) -> TranscriberAway:
        return TranscriberAway(engine=self.name, reason=reason)

    def _blocked(self, until: datetime) -> TranscriberAway:
        return self._away(f"it limits us until {until.astimezone(UTC):%H:%M} UTC")

    def _refused(self, reason: str) -> TranscriberRefused:
        return TranscriberRefused(engine=self.name, reason=reason)


def _watched(send: Send, call: Call, say: Callable[[], None]) -> object:
    """What the call answers by its deadline. Whatever `say` raises meanwhile (a cancel) breaks the connection off."""
    from anyio import fail_after
    from anyio.from_thread import start_blocking_portal

    async def answered() -> object:
        try:
            with fail_after(call.deadline):  # the SDKs' own timeout begins anew with every byte
                return await send(call)
        except TimeoutError:
            raise NoAnswer(sent=True) from None
        except ValueError:  # no JSON
            raise Nonsense from None

    # In a thread with a loop of its own: the caller's may have one already (a RunPod worker's does).
    with start_blocking_portal() as portal:
        answer = portal.start_task_soon(answered)
        say()
        while not wait([answer], timeout=TICK).done:
            say()
        return answer.result()


def given(offer: Offer) -> str:
    """The key of an engine; empty where there is none."""
    secret = getattr(settings(), offer.key)
    return secret.get_secret_value() if secret else ""


def was_sent(error: Exception) -> bool:
    """Whether the call that an SDK saw fail had reached the engine."""
    return type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")


def _saying(report: Report, share: float) -> Callable[[str], None]:
    return lambda message: report(share, message)


def _cut(prompt: str, most: int) -> str:
    """The prompt's beginning that the engine takes, whole words if there are any."""
    if len(prompt) <= most:
        return prompt
    words, space, _ = prompt[: most + 1].rpartition(" ")
    return words if space else prompt[:most]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until one may ask again, where a header tells them: as a number or as a date."""
    told = headers.get("retry-after", "").strip()
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
