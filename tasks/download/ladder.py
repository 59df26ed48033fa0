"""How a song climbs the routes: what each failure means for the next try, and who may not be asked at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from infra.errors import (
    AddressLimited,
    BotCheck,
    DownloadFailed,
    GeoBlocked,
    LiveStream,
    NeedsLogin,
    NotDeployed,
    Permanent,
    ProviderAway,
    ProviderFailed,
    ProviderNotReady,
    RateLimited,
    SoundRefused,
    StillPreparing,
    TooLarge,
    TooLargeToSend,
    TooLong,
    UnknownFailure,
    UserError,
    VideoUnavailable,
)
from tasks.download.routes import Route

T = TypeVar("T")

BOT_CHECK = 30 * 60.0  # seconds that a route rests after one
RATE_LIMIT = 60 * 60.0  # seconds that an egress rests after one: YouTube says "up to an hour"
MOST_TRIES = 4  # by one route
TRIES_OF_UNKNOWN = 2  # of a failure that nobody knows

# What says nothing of the video or the address, only of the means by which this route was to be taken.
_OF_THE_MEANS = (ProviderAway, ProviderFailed, ProviderNotReady, NotDeployed, TooLargeToSend)

# What YouTube says only to those whom it does not limit.
_ANSWERS = (VideoUnavailable, LiveStream, TooLong, TooLarge, StillPreparing)


class Decision(StrEnum):
    """What a failure leaves to be tried."""

    GIVE_UP = "give up"
    RETRY = "retry"  # the same route; when that did not help, another place
    OTHER_ROUTE = "other route"
    OTHER_EGRESS = "other egress"  # whom YouTube takes for somebody else, cookies included
    OTHER_PLACE = "other place"  # whom YouTube sees at another address
    SIGN_IN = "sign in"


def decide(error: UserError) -> Decision:
    match error:
        case NeedsLogin():
            return Decision.SIGN_IN
        case GeoBlocked():
            return Decision.OTHER_PLACE
        case RateLimited():
            return Decision.OTHER_EGRESS
        case BotCheck() | SoundRefused():
            return Decision.OTHER_ROUTE
        case _ if isinstance(error, _OF_THE_MEANS):
            return Decision.OTHER_ROUTE
        case Permanent() | StillPreparing() | AddressLimited():
            return Decision.GIVE_UP
        case _:
            return Decision.RETRY


def again(error: UserError, tries: int) -> bool:
    """Whether the same route is worth another try after so many."""
    return decide(error) is Decision.RETRY and tries < (
        TRIES_OF_UNKNOWN if isinstance(error, UnknownFailure) else MOST_TRIES
    )


class Closed(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def until(self) -> datetime: ...
    @property
    def reason(self) -> str: ...


class Breakers(Protocol):
    """Who may not be asked at the moment, known to all workers. None of its failures may cost a song."""

    def closed(self, names: Sequence[str]) -> Closed | None:
        """What forbids a try by these; None lets this one through."""
        ...

    def trip(self, name: str, reason: str, seconds: float) -> datetime:
        """Forbid it from now on; until when."""
        ...

    def passed(self, names: Sequence[str]) -> None:
        """YouTube answered: nothing forbids these any more."""
        ...


class NoBreakers:
    """Of one song on its own: nobody is there to share them with."""

    def closed(self, names: Sequence[str]) -> Closed | None:
        return None

    def trip(self, name: str, reason: str, seconds: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)

    def passed(self, names: Sequence[str]) -> None:
        pass


@dataclass(slots=True)
class _Climb:
    """What is known of the ladder by now."""

    breakers: Breakers
    failed: list[tuple[Route, UserError]] = field(default_factory=list[tuple[Route, UserError]])
    closed: list[tuple[Route, Closed]] = field(default_factory=list[tuple[Route, Closed]])
    why: str = ""  # the last route was no way, for the job's steps

    def may_help(self, route: Route) -> bool:
        return all(_may_help(error, failed, route) for failed, error in self.failed)

    def is_closed(self, route: Route) -> bool:
        closed = self.breakers.closed(route.breakers) if route.breakers else None
        if closed is not None:
            self.closed.append((route, closed))
            self.why = f"YouTube limits {_whom(route)} until {_shown(closed.until)}"
        return closed is not None

    def learn(self, route: Route, error: UserError) -> None:
        self.failed.append((route, error))
        self.why = _why(error)
        if isinstance(error, BotCheck | RateLimited) and route.breakers:
            egress, own = route.breakers
            name, seconds = (own, BOT_CHECK) if isinstance(error, BotCheck) else (egress, RATE_LIMIT)
            until = self.breakers.trip(name, error.fields["reason"], seconds)
            if isinstance(error, RateLimited):
                self.why = f"YouTube limits {_whom(route)} until {_shown(until)}"
        elif isinstance(error, _ANSWERS) and route.breakers:
            self.breakers.passed(route.breakers)

    def ended(self) -> UserError:
        """The failure that the user reads: of those that a route's means had, only if there is no other."""
        errors = [error for _, error in self.failed]
        last = ([error for error in errors if not isinstance(error, _OF_THE_MEANS)] or errors)[-1:]
        untried = [closed.until for route, closed in self.closed if self.may_help(route)]
        if untried and (not last or last[0].kind == "permanent"):
            return AddressLimited(until=_shown(min(untried)))
        return last[0]


def climb(routes: Sequence[Route], take: Callable[[Route], T], breakers: Breakers, say: Callable[[str], None]) -> T:
    """Take the routes in their order, each once, none that could not help, until one leads to the sound.

    `say` hears, for the job's steps, why another route is taken than the one before.
    """
    known = _Climb(breakers)
    for route in routes:
        if not known.may_help(route) or known.is_closed(route):
            continue
        if known.why:
            say(f"{known.why}; using {route.name}")
        try:
            found = take(route)
        except UserError as error:
            known.learn(route, error)
        else:
            if route.breakers and route.means != "pool":  # what a worker elsewhere meets, it tells itself
                breakers.passed(route.breakers)
            return found
    raise known.ended()


def _may_help(error: UserError, failed: Route, other: Route) -> bool:
    match decide(error):
        case Decision.GIVE_UP:
            return False
        case Decision.OTHER_ROUTE:
            return True
        case Decision.OTHER_EGRESS:
            return other.egress != failed.egress
        case Decision.OTHER_PLACE:
            return other.place != failed.place
        case Decision.SIGN_IN:
            return other.signed_in and not failed.signed_in
        case Decision.RETRY:  # in vain
            known = not isinstance(error, UnknownFailure)
            return isinstance(error, DownloadFailed) and not (known and other.place == failed.place)


def _why(error: UserError) -> str:
    match error:
        case BotCheck():
            return "YouTube wants to see that this is not a bot"
        case NeedsLogin():
            return "YouTube asks for a login"
        case GeoBlocked():
            return "YouTube does not give out this video here"
        case SoundRefused():
            return "YouTube refuses the sound"
        case _:
            return str(error).rstrip(".")


def _whom(route: Route) -> str:
    if route.signed_in:
        return "these cookies"
    return "this address" if route.means == "ytdlp" else route.name


def _shown(until: datetime) -> str:
    return f"{until.astimezone(UTC):%H:%M} UTC"
