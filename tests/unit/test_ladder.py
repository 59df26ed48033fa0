"""Which route is taken after which failure: over any routes, any failures, and any of them closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import (
    AddressLimited,
    BotCheck,
    DatabaseAway,
    DiskFull,
    DownloadFailed,
    GeoBlocked,
    LiveStream,
    NeedsLogin,
    ProviderAway,
    ProviderNotReady,
    RateLimited,
    SoundRefused,
    StillPreparing,
    TakenOver,
    TooLong,
    UnknownFailure,
    UserError,
    VideoUnavailable,
)
from infra.settings import Settings
from tasks.download import ladder as module
from tasks.download.ladder import Decision, NoBreakers, again, climb, decide
from tasks.download.routes import AS_ANYBODY, DIRECTLY, Route, ladder, tokens_problem

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
COOKIES = "".join(f".youtube.com\tTRUE\t/\tTRUE\t0\t{name}\tvalue\n" for name in ("LOGIN_INFO", "SAPISID"))

ANYBODY = Route("as anybody", "here")
OTHERS = Route("other clients", "here", ("web_embedded",))
LOGIN = Route("cookies", "here, signed in 1a2b3c4d", signed_in=True)
MODAL = Route("Modal", "Modal", means="modal")
POOL = Route("download pool", "download", means="pool")
ALL = (ANYBODY, OTHERS, LOGIN, MODAL)

ERRORS: list[UserError] = [
    VideoUnavailable(reason="Gone."),
    GeoBlocked(reason="Not there."),
    NeedsLogin(reason="Your age?"),
    BotCheck(reason="Are you?"),
    RateLimited(reason="Too many."),
    SoundRefused(reason="403."),
    StillPreparing(),
    DownloadFailed(reason="Broke off."),
    UnknownFailure(reason="Hm."),
    LiveStream(when="now"),
    TooLong(length="7:00", limit="1:00"),
    DiskFull(what="the download"),
    ProviderAway(provider="Modal", reason="no answer"),
    ProviderNotReady(provider="Modal", reason="no token"),
    TakenOver(),
    DatabaseAway(),
]


@dataclass(frozen=True)
class Closed:
    name: str
    until: datetime
    reason: str = "closed by the test"


@dataclass
class Breakers:
    """As the database's, for one job: what is closed stays closed."""

    shut: frozenset[str] = frozenset()
    asked: list[tuple[str, ...]] = field(default_factory=list)
    tripped: list[tuple[str, str, float]] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def closed(self, names: Sequence[str]) -> Closed | None:
        self.asked.append(tuple(names))
        return next((Closed(name, NOON + timedelta(minutes=5)) for name in names if name in self.shut), None)

    def trip(self, name: str, reason: str, seconds: float) -> datetime:
        self.tripped.append((name, reason, seconds))
        return NOON + timedelta(seconds=seconds)

    def passed(self, names: Sequence[str]) -> None:
        self.opened += names


@dataclass
class Climbed:
    """One climb: each route gives its failure, or leads to the sound where it has none."""

    routes: Sequence[Route]
    outcomes: dict[str, UserError | None]
    breakers: Breakers = field(default_factory=Breakers)
    taken: list[Route] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    found: str | None = None
    error: UserError | None = None

    def __post_init__(self) -> None:
        try:
            self.found = climb(self.routes, self._take, self.breakers, self.said.append)
        except UserError as error:
            self.error = error

    def _take(self, route: Route) -> str:
        self.taken.append(route)
        if error := self.outcomes.get(route.name):
            raise error
        return route.name

    def shut(self, route: Route) -> bool:
        return not self.breakers.shut.isdisjoint(route.breakers)

    def helpful(self) -> list[Route]:
        """The routes up to the success that may help after the failures of those before them."""
        end = self.routes.index(self.taken[-1]) + 1 if self.found else None
        return [
            route
            for place, route in enumerate(self.routes[:end])
            if all(could_help(route, *failure) for failure in self.failures(self.routes[:place]))
        ]

    def failures(self, of: Sequence[Route]) -> list[tuple[Route, UserError]]:
        return [(route, error) for route in self.taken if route in of and (error := self.outcomes[route.name])]


def could_help(route: Route, failed: Route, error: UserError) -> bool:
    """The rules once more, as the issue has them."""
    match decide(error):
        case Decision.GIVE_UP:
            return False
        case Decision.OTHER_ROUTE:
            return True
        case Decision.OTHER_EGRESS:
            return route.egress != failed.egress
        case Decision.OTHER_PLACE:
            return route.egress.split(",")[0] != failed.egress.split(",")[0]
        case Decision.SIGN_IN:
            return route.signed_in and not failed.signed_in
        case Decision.RETRY:
            elsewhere = route.egress.split(",")[0] != failed.egress.split(",")[0]
            return isinstance(error, UnknownFailure) or (isinstance(error, DownloadFailed) and elsewhere)


egresses = st.sampled_from(["here", "here, signed in 1a2b3c4d", "Modal", "download"])
routes = st.lists(egresses, min_size=1, max_size=6).map(
    lambda egresses: [Route(f"route {n}", egress, signed_in="signed" in egress) for n, egress in enumerate(egresses)]
)


@st.composite
def climbs(draw: st.DrawFn) -> Climbed:
    ladder = draw(routes)
    outcomes = {route.name: draw(st.sampled_from([*ERRORS, None])) for route in ladder}
    names = [name for route in ladder for name in route.breakers]
    return Climbed(ladder, outcomes, Breakers(frozenset(draw(st.sets(st.sampled_from(names), max_size=3)))))


@given(climbs())
def test_routes_are_taken_in_their_order_and_each_once(climbed: Climbed) -> None:
    places = [climbed.routes.index(route) for route in climbed.taken]
    assert places == sorted(set(places))


@given(climbs())
def test_a_route_is_taken_if_it_may_help_and_nobody_closed_it(climbed: Climbed) -> None:
    assert climbed.taken == [route for route in climbed.helpful() if not climbed.shut(route)]


@given(climbs())
def test_a_breaker_is_asked_only_for_a_route_that_would_be_taken(climbed: Climbed) -> None:
    """Where a closed way may be tried again, the first to ask is the one who tries."""
    assert climbed.breakers.asked == [route.breakers for route in climbed.helpful()]


@given(climbs())
def test_a_climb_ends_with_the_first_success_or_with_a_failure_of_its_own(climbed: Climbed) -> None:
    failures = [error for _, error in climbed.failures(climbed.routes)]
    of_the_video = [error for error in failures if not isinstance(error, ProviderAway | ProviderNotReady)]
    if climbed.found:
        assert climbed.taken[-1].name == climbed.found
        assert climbed.outcomes[climbed.found] is None
    elif isinstance(climbed.error, AddressLimited):
        assert any(climbed.shut(route) for route in climbed.routes)
        assert all(error.kind == "permanent" for error in (of_the_video or failures)[-1:])
    else:
        assert climbed.error is (of_the_video or failures)[-1]


@given(climbs())
def test_a_song_is_given_up_for_good_only_if_no_closed_route_might_help(climbed: Climbed) -> None:
    if climbed.error is not None and climbed.error.kind == "permanent":
        for route in filter(climbed.shut, climbed.routes):
            assert not all(could_help(route, *failure) for failure in climbed.failures(climbed.routes))


@given(climbs())
def test_only_bot_checks_and_rate_limits_trip_a_breaker(climbed: Climbed) -> None:
    expected: list[tuple[str, str, float]] = []
    for route in climbed.taken:
        match climbed.outcomes[route.name]:
            case BotCheck():
                expected.append((f"{route.egress}: {route.name}", "Are you?", 30 * 60.0))
            case RateLimited():
                expected.append((route.egress, "Too many.", 60 * 60.0))
            case _:
                pass
    assert climbed.breakers.tripped == expected


@given(climbs())
def test_each_other_route_is_told_with_its_reason(climbed: Climbed) -> None:
    other = [route for route in climbed.taken if route is not climbed.routes[0]]
    assert [text.rpartition("; using ")[2] for text in climbed.said] == [route.name for route in other]
    assert not any(text.startswith(";") or ".;" in text for text in climbed.said)


@given(st.sampled_from(ERRORS), st.integers(1, 10))
def test_nothing_is_tried_again_for_ever(error: UserError, tries: int) -> None:
    assert not again(error, 4)
    assert again(error, tries) <= (decide(error) is Decision.RETRY)
    assert again(error, tries) >= again(error, tries + 1)


def test_a_broken_line_is_tried_again_three_times_and_what_nobody_knows_once() -> None:
    assert [again(DownloadFailed(reason="x"), tries) for tries in (1, 2, 3, 4)] == [True, True, True, False]
    assert [again(UnknownFailure(reason="x"), tries) for tries in (1, 2)] == [True, False]


# --- by example -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "taken"),
    [
        (VideoUnavailable(reason="x"), [ANYBODY]),
        (StillPreparing(), [ANYBODY]),
        (GeoBlocked(reason="x"), [ANYBODY, MODAL]),
        (NeedsLogin(reason="x"), [ANYBODY, LOGIN]),
        (BotCheck(reason="x"), [ANYBODY, OTHERS, LOGIN, MODAL]),
        (SoundRefused(reason="x"), [ANYBODY, OTHERS, LOGIN, MODAL]),
        (UnknownFailure(reason="x"), [ANYBODY, OTHERS, LOGIN, MODAL]),
        (RateLimited(reason="x"), [ANYBODY, LOGIN, MODAL]),
        (DownloadFailed(reason="x"), [ANYBODY, MODAL]),
        (DiskFull(what="x"), [ANYBODY]),
        (DatabaseAway(), [ANYBODY]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, UserError) else "",
)
def test_each_failure_leads_to_the_routes_that_may_help(error: UserError, taken: list[Route]) -> None:
    climbed = Climbed(ALL, dict.fromkeys((route.name for route in ALL), error))
    assert climbed.taken == taken
    assert climbed.error is error


def test_the_steps_say_why_another_route_is_taken() -> None:
    closed = Climbed((ANYBODY, MODAL), {}, Breakers(frozenset({"here"})))
    assert closed.said == ["YouTube limits this address until 12:05 UTC; using Modal"]
    login = Climbed(ALL, {"as anybody": NeedsLogin(reason="Your age.")})
    assert login.said == ["YouTube asks for a login; using cookies"]
    limited = Climbed(ALL, {"as anybody": RateLimited(reason="x"), "cookies": RateLimited(reason="x")})
    assert limited.said == [
        "YouTube limits this address until 13:00 UTC; using cookies",
        "YouTube limits these cookies until 13:00 UTC; using Modal",
    ]


def test_if_all_is_closed_the_user_reads_until_when() -> None:
    climbed = Climbed(ALL[:2], {}, Breakers(frozenset({"here"})))
    assert str(climbed.error) == "YouTube limits this address until 12:05 UTC."
    assert (climbed.taken, climbed.said) == ([], [])


def test_a_video_that_needs_a_login_waits_for_cookies_that_are_limited() -> None:
    shut = Breakers(frozenset({LOGIN.egress}))
    assert isinstance(Climbed(ALL, {"as anybody": NeedsLogin(reason="x")}, shut).error, AddressLimited)
    assert isinstance(Climbed(ALL, {"as anybody": VideoUnavailable(reason="x")}, shut).error, VideoUnavailable)


def test_what_youtube_says_of_the_video_opens_the_way_again() -> None:
    assert Climbed(ALL, {"as anybody": VideoUnavailable(reason="x")}).breakers.opened == [*ANYBODY.breakers]
    assert Climbed(ALL, {}).breakers.opened == [*ANYBODY.breakers]
    assert Climbed((ANYBODY,), {"as anybody": DownloadFailed(reason="x")}).breakers.opened == []


def test_what_a_worker_elsewhere_will_meet_is_not_known_when_it_is_asked() -> None:
    assert Climbed((POOL,), {}).breakers.opened == []


def test_a_route_without_an_egress_has_no_breaker() -> None:
    climbed = Climbed(DIRECTLY, {})
    assert (climbed.breakers.asked, climbed.breakers.opened) == ([], [])


def test_one_song_on_its_own_needs_no_breakers() -> None:
    def take(route: Route) -> str:
        if route is ANYBODY:
            raise RateLimited(reason="x")
        return route.name

    assert climb(ALL, take, NoBreakers(), lambda text: None) == "cookies"


def test_a_bug_is_no_reason_to_take_another_route() -> None:
    def take(route: Route) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        climb(ALL, take, Breakers(), lambda text: None)


# --- the ladder of the settings -----------------------------------------------------------------


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> type[Settings]:
    for name in ("POT_PROVIDER_URL", "YOUTUBE_COOKIES_CONTENT", "YOUTUBE_COOKIES_B64", "EGRESS", "FETCH_ON_MODAL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    return Settings


def names(settings: Settings) -> list[str]:
    return [route.name for route in ladder(settings)]


def test_without_any_setting_two_routes_are_there(configured: type[Settings]) -> None:
    assert names(configured()) == ["as anybody", "other clients"]
    assert ladder(configured())[0] == AS_ANYBODY


def test_each_setting_adds_its_route_in_the_order_of_the_ladder(configured: type[Settings]) -> None:
    tokens = {"modal_token_id": "id", "modal_token_secret": "secret"}
    everything = configured(
        pot_provider_url="http://127.0.0.1:4416", youtube_cookies_content=COOKIES, fetch_on_modal=True, **tokens
    )
    assert names(everything) == ["as anybody", "other clients", "PO tokens", "cookies", "Modal"]
    assert names(configured(fetch_on_modal=True)) == ["as anybody", "other clients"]
    assert names(configured(**tokens)) == ["as anybody", "other clients"]
    assert names(configured(youtube_cookies_content="no cookies")) == ["as anybody", "other clients"]


def test_a_machine_elsewhere_has_an_egress_of_its_own(configured: type[Settings]) -> None:
    settings = configured(egress="Lisbon", youtube_cookies_content=COOKIES)
    assert {route.place for route in ladder(settings)} == {"Lisbon"}
    assert {route.place for route in ladder(settings, "Porto")} == {"Porto"}
    assert ladder(settings)[0].breakers == ("Lisbon", "Lisbon: as anybody")


def test_new_cookies_open_the_way_that_the_old_ones_closed(configured: type[Settings]) -> None:
    old, new = (
        ladder(configured(youtube_cookies_content=COOKIES.replace("value", value)))[-1] for value in ("old", "new")
    )
    assert old.egress != new.egress
    assert old.egress.startswith("here, signed in ")


def test_a_provider_without_its_plugin_is_told_and_left_out(
    configured: type[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configured(pot_provider_url="http://127.0.0.1:4416")
    assert tokens_problem(settings) is None
    monkeypatch.setattr("tasks.download.routes.find_spec", lambda name: None)
    assert "bgutil-ytdlp-pot-provider" in (tokens_problem(settings) or "")
    assert "PO tokens" not in names(settings)
    assert tokens_problem(configured()) is None


def test_every_route_of_the_ladder_has_another_name() -> None:
    assert len({route.name for route in (*ALL, POOL, *DIRECTLY)}) == len((*ALL, POOL, *DIRECTLY))


def test_the_clients_of_the_ladder_are_known_to_yt_dlp(configured: type[Settings]) -> None:
    from yt_dlp.extractor.youtube._base import INNERTUBE_CLIENTS, StreamingProtocol

    others, tokens = ladder(configured(pot_provider_url="http://127.0.0.1:4416"))[1:3]
    for client in others.clients:
        assert not INNERTUBE_CLIENTS[client]["GVS_PO_TOKEN_POLICY"][StreamingProtocol.HTTPS].required
    for client in tokens.clients:
        assert INNERTUBE_CLIENTS[client]["GVS_PO_TOKEN_POLICY"][StreamingProtocol.HTTPS].required


def test_every_decision_is_reached_by_some_failure() -> None:
    assert {decide(error) for error in ERRORS} == set(Decision)
    assert module.BOT_CHECK < module.RATE_LIMIT
