"""The YouTube login: read, judged, copied for one run, and told to nobody."""

from __future__ import annotations

import base64
import gc
import io
import logging
import tempfile
import time
from collections.abc import Generator
from contextlib import redirect_stderr, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from yt_dlp.cookies import YoutubeDLCookieJar

from infra import links
from infra.errors import BotCheck, ProviderNotReady, UserError
from infra.jobs.stages import silent
from infra.settings import Settings, settings
from tasks.download import download
from tasks.download.cookies import STALE_COOKIES, Cookies, cookies
from tasks.download.routes import Route, ladder
from tests.fakes.media import MediaServer

# yt-dlp leaves the connections of failed requests to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SECRET = "s3cr3t-session-value"
LATER = int(time.time()) + 10**6  # seconds since 1970


def line(name: str, *, expires: int | str = LATER, domain: str = ".youtube.com", flag: str = "TRUE") -> str:
    return f"{domain}\t{flag}\t/\tTRUE\t{expires}\t{name}\t{SECRET}\n"


LOGIN = line("LOGIN_INFO") + line("SAPISID") + line("SID", domain="#HttpOnly_.youtube.com")
# Nothing of it may be printed, whether yt-dlp could read it or not.
MALFORMED = (
    f".youtube.com\tTRUE\t/\tTRUE\tnever\tSID\t{SECRET}\n"
    f".youtube.com TRUE / TRUE 0 SID {SECRET}\n"
    f".youtube.com\tTRUE\t/\tTRUE\t0\tSID\n{SECRET}\n"
    f'{{"name": "{SECRET}"}}\n'
    + line("WIDE", domain="youtube.com")  # says what its domain does not
    + line("NARROW", flag="FALSE")
    + line("FAR", expires="9" * 400)
)


def given_as(text: str) -> Cookies:
    found = cookies(Settings(youtube_cookies_content=text))  # pyright: ignore
    assert found is not None
    return found


# --- read and judged --------------------------------------------------------------------------


def test_without_cookies_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("YOUTUBE_COOKIES_CONTENT", "YOUTUBE_COOKIES_B64"):
        monkeypatch.delenv(name, raising=False)
    assert cookies(Settings()) is None


def test_base64_gives_the_same_cookies_as_the_text() -> None:
    encoded = base64.encodebytes(LOGIN.encode()).decode()
    found = cookies(Settings(youtube_cookies_b64=encoded))  # pyright: ignore
    assert found is not None
    assert (found.content, found.problem) == (LOGIN, None)
    assert given_as(LOGIN).content == LOGIN


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LOGIN, None),
        (LOGIN.replace("\n", "\r\n"), None),
        ("# Netscape HTTP Cookie File\n\n" + LOGIN, None),
        (LOGIN.replace(str(LATER), "0"), None),
        (f'[{{"name": "{SECRET}"}}]', "The YouTube cookies are not in Netscape's format."),
        (LOGIN.replace("LOGIN_INFO", "OTHER"), "The YouTube cookies hold no login: YouTube would see a stranger."),
        (LOGIN.replace("SAPISID", "OTHER"), "The YouTube cookies hold no login: YouTube would see a stranger."),
        (LOGIN.replace("youtube", "example"), "The YouTube cookies hold no login: YouTube would see a stranger."),
        (LOGIN.replace(str(LATER), "1700000000"), "The YouTube cookies expired on 14 November 2023."),
    ],
)
def test_what_is_wrong_with_them_is_one_sentence(text: str, problem: str | None) -> None:
    assert given_as(text).problem == problem


def test_what_is_not_base64_is_said_to_be_so() -> None:
    found = cookies(Settings(youtube_cookies_b64="not base64!"))  # pyright: ignore
    assert found is not None
    assert (found.content, found.problem) == ("", "YOUTUBE_COOKIES_B64 is not base64 of a text.")


def test_they_expire_with_the_first_cookie_of_the_login() -> None:
    text = line("LOGIN_INFO", expires=LATER) + line("SAPISID", expires=LATER - 60) + line("PREF", expires=1)
    assert given_as(text).expires == datetime.fromtimestamp(LATER - 60, UTC)
    assert given_as(LOGIN.replace(str(LATER), "0")).expires is None
    assert given_as(LOGIN.replace(str(LATER), f"{LATER}000")).expires is not None  # milliseconds, of some browsers


def test_other_cookies_have_another_digest() -> None:
    assert given_as(LOGIN).digest == given_as(LOGIN).digest
    assert given_as(LOGIN).digest != given_as(LOGIN + " ").digest
    assert len(given_as(LOGIN).digest) == 8


def test_they_are_shown_without_what_they_hold() -> None:
    assert SECRET not in repr(given_as(LOGIN)) + str(given_as(LOGIN))


def loaded(found: Cookies, folder: Path) -> YoutubeDLCookieJar:
    jar = YoutubeDLCookieJar(str(found.copy(folder)))
    jar.load()
    return jar


words = st.sampled_from(["#", "#HttpOnly_", ".youtube.com", "TRUE", "0", "1e9", "$", '"', "{", "\x85", "\ud800", ""])
cells = words | st.text(max_size=4)
tables = st.lists(st.lists(cells, min_size=5, max_size=8).map("\t".join), min_size=1, max_size=5).map("\n".join)


@given(tables.filter(bool))
@example(MALFORMED)
def test_whatever_is_given_yt_dlp_reads_without_a_word(text: str) -> None:
    found = cookies(Settings.model_construct(youtube_cookies_content=SecretStr(text)))
    assert found is not None
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()) as said:
        YoutubeDLCookieJar(str(found.copy(Path(folder)))).load()
    assert said.getvalue() == ""


# --- in a run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def youtube() -> Generator[MediaServer]:
    with MediaServer() as media, media.as_youtube():
        yield media
    gc.collect()  # while the filter above still holds


@pytest.fixture
def signed_in(youtube: MediaServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Route]:
    """The ladder's route with cookies, where most of the lines that are given are none."""
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", MALFORMED + LOGIN)
    monkeypatch.delenv("YOUTUBE_COOKIES_B64", raising=False)
    settings.cache_clear()
    youtube.asked.clear()
    yield ladder(settings())[-1]
    youtube.limits.clear()
    settings.cache_clear()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int, str]]:
    """The cookie files that yt-dlp is given: where, with which mode, and what they hold."""
    seen: list[tuple[Path, int, str]] = []
    copy = Cookies.copy

    def watched(self: Cookies, folder: Path) -> Path:
        path = copy(self, folder)
        seen.append((path, path.stat().st_mode & 0o777, path.read_text()))
        return path

    monkeypatch.setattr(Cookies, "copy", watched)
    return seen


def whole(error: BaseException | None) -> str:
    """All that an error and those behind it could tell."""
    told = ""
    while error is not None:
        told += f"{error!r} {vars(error)} "
        error = error.__cause__ or error.__context__
    return told


@pytest.mark.parametrize("id", ["membersonly", "botcheck000", "sound500000", "rotatedjar0"])
def test_cookies_are_a_private_copy_that_nobody_reads_and_that_goes_after_the_run(
    signed_in: Route,
    copies: list[tuple[Path, int, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    id: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    told = ""
    try:
        download(links.parse(f"https://youtu.be/{id}", ()), tmp_path, silent, signed_in)
    except UserError as error:
        told = whole(error)
    assert SECRET not in caplog.text + "".join(capfd.readouterr()) + told
    [(path, mode, content)] = copies
    assert mode == 0o600
    assert path.is_relative_to(tmp_path)
    assert content.count(SECRET) == len((LOGIN + line("WIDE") + line("NARROW")).splitlines())
    assert not path.parent.exists()


def test_whoever_has_a_login_is_seen_as_somebody(signed_in: Route, youtube: MediaServer, tmp_path: Path) -> None:
    audio = download(links.parse("https://youtu.be/membersonly", ()), tmp_path, silent, signed_in)
    assert audio.path.read_bytes() == youtube.song


def test_a_stranger_shows_no_cookies(signed_in: Route, youtube: MediaServer, tmp_path: Path) -> None:
    download(links.parse("https://youtu.be/harborlight", ()), tmp_path, silent)
    assert not any(SECRET in str(headers) for _, headers in youtube.asked)


def test_cookies_that_went_stale_are_noticed(signed_in: Route, tmp_path: Path) -> None:
    noticed: list[str] = []
    for id in ("membersonly", "rotatedjar0"):
        link = links.parse(f"https://youtu.be/{id}", ())
        with suppress(BotCheck):
            download(link, tmp_path, silent, signed_in, noticed=noticed.append)
        assert set(noticed) == ({STALE_COOKIES} if id == "rotatedjar0" else set())


def test_a_limit_on_the_account_is_not_one_on_the_address(
    signed_in: Route, youtube: MediaServer, tmp_path: Path
) -> None:
    youtube.limit("here, signed in", "botcheck")
    link = links.parse("https://youtu.be/harborlight", ())
    with pytest.raises(BotCheck):
        download(link, tmp_path, silent, signed_in)
    assert download(link, tmp_path, silent).title == "Harbor Light"


def test_a_route_with_a_login_needs_one(signed_in: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", "none")
    settings.cache_clear()
    with pytest.raises(ProviderNotReady, match="no valid cookies"):
        download(links.parse("https://youtu.be/harborlight", ()), tmp_path, silent, signed_in)
