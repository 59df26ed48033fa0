from __future__ import annotations

import ctypes
import errno
import gc
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra import links
from infra.errors import (
    AddressLimited,
    BadLink,
    BotCheck,
    DiskFull,
    DownloadFailed,
    ForbiddenAddress,
    GeoBlocked,
    HostNotAllowed,
    LinkRefused,
    LiveStream,
    MissingFile,
    NeedsLogin,
    NotOneSong,
    Permanent,
    ProviderNotReady,
    RateLimited,
    SiteLimitsUs,
    SoundRefused,
    StillPreparing,
    TooLarge,
    TooLong,
    UnknownFailure,
    UserError,
    VideoUnavailable,
)
from infra.jobs.stages import Stage, silent
from infra.settings import settings
from tasks import download as module
from tasks.download import classify, download, meter, web, youtube
from tasks.download.deadline import within
from tasks.download.ladder import Decision, NoBreakers, climb, decide
from tasks.download.routes import Route, ladder
from tasks.song import Audio, Chapter
from tests.fakes.media import DEMO_SONG, ROOT, Answer, MediaServer, Video

# yt-dlp leaves the connections of failed requests to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

GIVE_UP, RETRY, OTHER_ROUTE, OTHER_EGRESS, OTHER_PLACE, SIGN_IN = Decision


@pytest.fixture(scope="module")
def server() -> Generator[MediaServer]:
    with MediaServer() as media, media.as_youtube():
        yield media
    gc.collect()  # while the filter above still holds


@pytest.fixture
def media(server: MediaServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[MediaServer]:
    """The server, allowed by its literal address, and settings that see what a test sets in the environment."""
    monkeypatch.setenv("ALLOWED_HOSTS", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
    for name in ("YOUTUBE_COOKIES_CONTENT", "YOUTUBE_COOKIES_B64", "POT_PROVIDER_URL", "MAX_MINUTES", "MAX_MEGABYTES"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    server.asked.clear()
    yield server
    settings.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    place = tmp_path / "incoming"
    place.mkdir()
    yield place
    assert [file.name for file in place.iterdir() if not file.name.startswith("audio.")] == []


@pytest.fixture
def fetch(media: MediaServer, folder: Path) -> Callable[[str], Audio]:
    def fetch(text: str) -> Audio:
        return download(links.parse(text, settings().allowed_hosts), folder, silent)

    return fetch


@pytest.fixture
def refused(fetch: Callable[[str], Audio], folder: Path) -> Callable[[str, type[UserError]], UserError]:
    """The sentence with which a download ends. Nothing of it remains."""

    def refused(text: str, expected: type[UserError]) -> UserError:
        with pytest.raises(expected) as caught:
            fetch(text)
        assert list(folder.iterdir()) == []
        return caught.value

    return refused


Fetch = Callable[[str], Audio]
Refused = Callable[[str, type[UserError]], UserError]


# --- YouTube ----------------------------------------------------------------------------------


def test_a_video_comes_as_youtube_has_it(fetch: Fetch, folder: Path) -> None:
    audio = fetch("https://music.youtube.com/watch?v=harborlight&list=RDAMVM")
    assert audio == Audio(
        folder / "audio.webm",
        60.0,
        "Harbor Light",
        "The Demo Singers",
        "harborlight",
        thumbnail=audio.thumbnail,
    )
    assert audio.path.read_bytes() == DEMO_SONG.read_bytes()


ROWS: list[tuple[str, type[UserError], Decision, str]] = [
    # permanent: fail at once, tell the user why
    ("privatevid0", VideoUnavailable, GIVE_UP, "Private video. Sign in if you've been granted access to this video."),
    ("removedvid0", VideoUnavailable, GIVE_UP, "This video has been removed by the uploader."),
    ("terminated0", VideoUnavailable, GIVE_UP, "YouTube account associated with this video has been terminated."),
    ("copyright00", VideoUnavailable, GIVE_UP, "no longer available due to a copyright claim by Somebody."),
    ("drmprotect0", VideoUnavailable, GIVE_UP, "This video is DRM protected."),
    ("nosuchvideo", VideoUnavailable, GIVE_UP, "Video unavailable."),
    ("onlytrailer", VideoUnavailable, GIVE_UP, "only its trailer is free to see."),
    ("livenow0000", LiveStream, GIVE_UP, "running now"),
    ("upcoming000", LiveStream, GIVE_UP, "not begun yet"),
    ("premiere000", LiveStream, GIVE_UP, "not begun yet"),
    ("longsong999", TooLong, GIVE_UP, "This is 7:00:00 long; the limit here is 15:00."),
    # permanent, unless a login or another country qualifies
    ("geoblocked0", GeoBlocked, OTHER_PLACE, "The uploader has not made this video available in your country."),
    ("membersonly", NeedsLogin, SIGN_IN, "Join this channel to get access to members-only content"),
    ("musicpremiu", NeedsLogin, SIGN_IN, "only available to Music Premium members."),
    ("agechecked0", NeedsLogin, SIGN_IN, "Sign in to confirm your age."),
    # whom YouTube suspects, or has heard too often
    ("botcheck000", BotCheck, OTHER_ROUTE, "Sign in to confirm you’re not a bot."),
    ("captcha0000", BotCheck, OTHER_ROUTE, "captcha challenge"),
    ("otherplayer", BotCheck, OTHER_ROUTE, "Your IP is likely being blocked by Youtube."),
    ("pleasesign0", BotCheck, OTHER_ROUTE, "Please sign in."),
    ("ratelimited", RateLimited, OTHER_EGRESS, "rate-limited by YouTube for up to an hour."),
    ("toomany4290", RateLimited, OTHER_EGRESS, "YouTube answers 429 Too Many Requests."),
    ("sound429000", RateLimited, OTHER_EGRESS, "YouTube answers 429 Too Many Requests."),
    # what one client is refused and another may get
    ("sound403000", SoundRefused, OTHER_ROUTE, "YouTube answers 403 Forbidden."),
    ("midstream40", SoundRefused, OTHER_ROUTE, "YouTube answers 403 Forbidden."),
    ("expiredlink", SoundRefused, OTHER_ROUTE, "YouTube answers 403 Forbidden."),
    ("player40300", SoundRefused, OTHER_ROUTE, "YouTube answers 403 Forbidden."),
    ("noformats00", SoundRefused, OTHER_ROUTE, "No video formats found!"),
    ("notembedded", SoundRefused, OTHER_ROUTE, "Playback on other websites has been disabled by the video owner."),
    # what may go better the next time
    ("sound500000", DownloadFailed, RETRY, "YouTube answers 500 Internal Server Error."),
    ("playerdown0", DownloadFailed, RETRY, "YouTube answers 503 Service Unavailable."),
    ("truncated00", DownloadFailed, RETRY, "broke off"),
    ("strangenews", UnknownFailure, RETRY, "The hamster is asleep."),
    # later, and by itself
    ("justended00", StillPreparing, GIVE_UP, "still preparing its recording"),
]


@pytest.mark.parametrize(("id", "expected", "decision", "words"), ROWS, ids=[row[0] for row in ROWS])
def test_each_answer_of_youtube_is_told_for_what_it_is(
    refused: Refused, id: str, expected: type[UserError], decision: Decision, words: str
) -> None:
    error = refused(f"https://youtu.be/{id}", expected)
    assert type(error) is expected
    assert decide(error) is decision
    assert error.kind == ("permanent" if issubclass(expected, Permanent) else "passing")
    assert words in str(error)
    assert not any(noise in str(error) for noise in ("ERROR", "[youtube", "--cookies", "http", "caused by", id))


def test_every_decision_and_every_error_of_the_ladder_is_provoked_by_some_video() -> None:
    assert {decision for _, _, decision, _ in ROWS} == set(Decision)
    of_youtube = {error for root in (VideoUnavailable, SiteLimitsUs, DownloadFailed) for error in root.__subclasses__()}
    assert of_youtube - {AddressLimited} <= {error for _, error, _, _ in ROWS}  # that one is the ladder's own


def test_an_address_that_no_extractor_knows_is_no_video(media: MediaServer) -> None:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import DownloadError

    media.answer("/page.html", Answer(b"<html><body>Hello</body></html>", type="text/html"))
    with YoutubeDL({"quiet": True, "no_warnings": True}) as youtube, pytest.raises(DownloadError) as caught:
        youtube.extract_info(media.at("/page.html"))
    assert isinstance(classify(caught.value), VideoUnavailable)


# --- the ladder, through yt-dlp -----------------------------------------------------------------

COOKIES = "".join(f".youtube.com\tTRUE\t/\tTRUE\t0\t{name}\tvalue\n" for name in ("LOGIN_INFO", "SAPISID"))
ELSEWHERE = Route("elsewhere", "there")


@pytest.fixture
def climbed(
    media: MediaServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Callable[[str], tuple[str, list[str]]]]:
    """With every route there is, another place included: the one that led to the sound, and what the steps say."""
    monkeypatch.setenv("POT_PROVIDER_URL", media.url)
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", COOKIES)
    settings.cache_clear()

    def climbed(id: str) -> tuple[str, list[str]]:
        def take(route: Route) -> str:
            monkeypatch.setenv("FAKE_YOUTUBE_EGRESS", route.place)
            download(links.parse(f"https://youtu.be/{id}", ()), folder, silent, route)
            return route.name

        said: list[str] = []
        return climb((*ladder(settings()), ELSEWHERE), take, NoBreakers(), said.append), said

    yield climbed
    media.limits.clear()


@pytest.mark.parametrize(
    ("id", "route", "steps"),
    [
        ("harborlight", "as anybody", 0),
        ("otherclient", "other clients", 1),
        ("tokenneeded", "PO tokens", 2),
        ("onlysignedn", "cookies", 3),
        ("membersonly", "cookies", 1),
        ("agechecked0", "cookies", 1),
        ("onlyelsewhr", "elsewhere", 4),
        ("geoblocked0", "elsewhere", 1),
    ],
)
def test_each_video_is_reached_by_the_route_that_it_needs(climbed: Any, id: str, route: str, steps: int) -> None:
    found, said = climbed(id)
    assert (found, len(said)) == (route, steps)


def test_an_address_that_youtube_limits_is_not_asked_again(climbed: Any, media: MediaServer) -> None:
    media.limit("here", "ratelimit")
    assert climbed("harborlight")[0] == "cookies"
    media.limit("here, signed in", "ratelimit")
    assert climbed("harborlight")[0] == "elsewhere"
    media.limit("there", "botcheck")
    with pytest.raises(BotCheck):
        climbed("harborlight")


def test_a_provider_is_asked_only_where_the_route_says_so(climbed: Any, media: MediaServer) -> None:
    climbed("otherclient")
    assert not [path for path, _ in media.asked if path in ("/ping", "/get_pot")]
    media.video("tokenasked0", Video(audio="/token.opus"))  # yt-dlp remembers the tokens of others
    climbed("tokenasked0")
    assert [path for path, _ in media.asked if path == "/get_pot"]


def test_a_provider_that_is_away_costs_only_its_route(climbed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("POT_PROVIDER_URL", f"http://127.0.0.1:{port}")
    settings.cache_clear()
    assert climbed("onlysignedn")[0] == "cookies"


def test_without_the_plugin_the_route_says_what_is_missing(
    media: MediaServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POT_PROVIDER_URL", media.url)
    settings.cache_clear()
    monkeypatch.setattr("tasks.download.routes.find_spec", lambda name: None)
    with pytest.raises(ProviderNotReady, match="the package bgutil-ytdlp-pot-provider is missing"):
        download(
            links.parse("https://youtu.be/harborlight", ()), folder, silent, Route("PO tokens", "here", po_tokens=True)
        )


def test_a_route_by_other_means_is_not_taken_here(media: MediaServer, folder: Path) -> None:
    with pytest.raises(ProviderNotReady):
        download(
            links.parse("https://youtu.be/harborlight", ()), folder, silent, Route("Modal", "Modal", means="modal")
        )


def test_the_picture_and_the_chapters_come_along(fetch: Fetch, media: MediaServer) -> None:
    audio = fetch("https://youtu.be/withchapter")
    assert audio.thumbnail == media.at("/withchapter-480.jpg")
    assert audio.chapters == (Chapter("Verse", 0, 20), Chapter("Chorus", 20, 45), Chapter("Coda", 45, 60))


# --- limits -------------------------------------------------------------------------------------


def test_without_a_connection_to_youtube_the_user_is_told_so(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("FAKE_YOUTUBE", f"http://127.0.0.1:{port}")
    assert "broke off, or there is none" in str(refused("https://youtu.be/harborlight", DownloadFailed))


def test_a_playlist_link_is_refused_and_a_video_of_a_playlist_is_not(fetch: Fetch) -> None:
    with pytest.raises(NotOneSong):
        fetch("https://www.youtube.com/playlist?list=PLx")
    assert fetch("https://www.youtube.com/watch?v=harborlight&list=PLx").video_id == "harborlight"


def test_a_second_over_the_limit_is_forgiven(fetch: Fetch, media: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_MINUTES", "1")
    settings.cache_clear()
    assert fetch(media.video("rounded6100", Video(duration=61))).duration == 61
    with pytest.raises(TooLong, match=r"1:02 long; the limit here is 1:00"):
        fetch(media.video("rounded6200", Video(duration=62)))


@pytest.mark.parametrize("id", ["harborlight", "endless0000"])
def test_a_video_over_the_size_limit_is_refused(refused: Refused, monkeypatch: pytest.MonkeyPatch, id: str) -> None:
    monkeypatch.setenv("MAX_MEGABYTES", "1")
    monkeypatch.setattr(meter, "MB", 300_000)  # bytes; the demo song has 643,094
    settings.cache_clear()
    assert "1 MB" in str(refused(f"https://youtu.be/{id}", TooLarge))


@pytest.mark.parametrize(
    "path", ["https://youtu.be/endless0000", "https://youtu.be/tricklesoun", "{url}/slow.opus?rate=20"]
)
def test_a_download_that_never_ends_meets_its_deadline(
    refused: Refused, media: MediaServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(module, "DOWNLOAD_DEADLINE", 1.5)
    began = time.monotonic()
    assert "took more than" in str(refused(path.format(url=media.url), DownloadFailed))
    assert time.monotonic() - began < 10


def test_an_answer_of_the_player_that_trickles_meets_its_deadline(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(youtube, "EXTRACTION_DEADLINE", 0.5)
    began = time.monotonic()
    assert "to answer" in str(refused("https://youtu.be/trickleplay", DownloadFailed))
    assert time.monotonic() - began < 10


def test_headers_that_never_end_meet_their_deadline(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            client, _ = listening.accept()
            with client, suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not over.wait(0.05):
                    client.sendall(b"x")

        server = threading.Thread(target=trickle)
        server.start()
        monkeypatch.setenv("FAKE_YOUTUBE", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setattr(youtube, "EXTRACTION_DEADLINE", 0.5)
        refused("https://youtu.be/harborlight", DownloadFailed)
        over.set()
        server.join()


@pytest.mark.parametrize("limit", [0.001, 0.003, 0.01])
def test_a_deadline_ends_with_its_block(limit: float) -> None:
    """Whatever the work is when its time is over; and nothing is raised once it has ended."""
    before = threading.active_count()
    for share in (0.1, 0.5, 2.0):
        until = time.monotonic() + share * limit
        with suppress(DownloadFailed), within(limit, "it is over."):
            while time.monotonic() < until:
                sum(range(100))
    assert threading.active_count() == before


def test_what_takes_too_long_fails_for_its_reason() -> None:
    def forever() -> None:
        with within(0.01, "it is over."):
            while True:
                sum(range(100))

    with pytest.raises(DownloadFailed, match="it is over"):
        forever()


@pytest.mark.parametrize("work", ["pass", "time.sleep(0.3)", "while True: sum(range(100))"])
def test_a_deadline_leaves_the_thread_as_it_was(work: str) -> None:
    """Python 3.11 hangs in traced code, and is slow in any, after an exception from outside that was taken back."""
    code = f"""
import sys, time
from contextlib import suppress
from infra.errors import DownloadFailed
from tasks.download.deadline import within

with suppress(DownloadFailed), within(0.1, "it is over."):
    {work}

def traced() -> None:
    for _ in range(100):
        len("")

sys.settrace(lambda *_: None)
traced()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "done\n", done.stderr


def test_javascript_that_never_ends_meets_the_deadline_too(tmp_path: Path) -> None:
    runtime = tmp_path / "deno"
    shutil.copy(shutil.which("sleep") or "", runtime)

    def forever() -> None:
        with within(0.2, "it is over."):
            subprocess.run([runtime, "1000"], check=False)

    with pytest.raises(DownloadFailed, match="it is over"):
        forever()


def test_a_deadline_that_a_destructor_swallows_comes_again() -> None:
    class Deaf:
        def __del__(self) -> None:
            until = time.monotonic() + 0.1
            with suppress(BaseException):
                while time.monotonic() < until:
                    sum(range(100))

    def forever() -> None:
        with within(0.02, "it is over."):
            Deaf()
            while True:
                sum(range(100))

    with pytest.raises(DownloadFailed, match="it is over"):
        forever()


class Cancelled(BaseException):
    pass


@pytest.mark.parametrize("moment", [1, 2, 7])
@pytest.mark.parametrize("path", ["https://youtu.be/slowsound00", "{url}/slow.opus?rate=200000"])
def test_cancelling_at_any_moment_leaves_nothing(
    media: MediaServer, folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, moment: int
) -> None:
    monkeypatch.setattr(meter, "REPORT_EVERY", 0.0)
    reports = count(1)

    def cancelling(stage: Stage, share: float, message: str) -> None:
        assert 0 <= share < 1
        if next(reports) == moment:
            raise Cancelled

    link = links.parse(path.format(url=media.url), settings().allowed_hosts)
    with pytest.raises(Cancelled):
        download(link, folder, cancelling)
    assert list(folder.iterdir()) == []


def test_cancelling_before_the_sound_leaves_nothing(media: MediaServer, folder: Path) -> None:
    here = threading.get_ident()
    canceller = threading.Timer(0.3, lambda: throw(here))
    canceller.start()
    with pytest.raises(Cancelled):
        download(links.parse("https://youtu.be/trickleplay", ()), folder, silent)
    canceller.join()
    assert list(folder.iterdir()) == []


def throw(thread: int) -> None:
    """What Prefect does to a task that is cancelled."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Cancelled))


@pytest.mark.parametrize("path", ["https://youtu.be/halfasecond", "{url}/halfasecond.opus"])
def test_progress_is_told_in_bytes_and_not_too_often(media: MediaServer, folder: Path, path: str) -> None:
    media.answer("/halfasecond.opus", Answer(media.song, rate=1_000_000))
    media.video("halfasecond", Video(audio="/halfasecond.opus"))
    told: list[tuple[Stage, float, str]] = []
    began = time.monotonic()
    link = links.parse(path.format(url=media.url), settings().allowed_hosts)
    download(link, folder, lambda *news: told.append(news))
    assert 2 <= len(told) <= 1 + 4 * (time.monotonic() - began)
    assert all(stage is Stage.DOWNLOAD for stage, _, _ in told)
    assert [share for _, share, _ in told] == sorted(share for _, share, _ in told)
    assert " of 0.6 MB at " in told[-1][2]


# --- allowed hosts ----------------------------------------------------------------------------


def test_a_file_of_an_allowed_host_comes_as_it_is(fetch: Fetch, media: MediaServer, folder: Path) -> None:
    media.answer("/a/b/Harbor%20Light.opus", Answer(media.song))
    audio = fetch(media.at("/a/b/Harbor%20Light.opus?sig=1"))
    assert audio == Audio(folder / "audio.opus", 0.0, "Harbor Light")
    assert audio.path.read_bytes() == media.song


@pytest.mark.parametrize(
    "path", ["/x.opus%2F..%2F..%2Fetc%2Fcron", "/..%2f..%2fpwned.so/", "/%00.sh;x", "/" + "y" * 500]
)
def test_a_file_name_is_ours_whatever_the_link_says(fetch: Fetch, media: MediaServer, folder: Path, path: str) -> None:
    media.answer(path, Answer(media.song))
    audio = fetch(media.at(path))
    assert audio.path.parent == folder
    assert audio.path.stem == "audio"
    assert len(audio.title or "") <= 200


@pytest.mark.parametrize(
    ("path", "expected", "words"),
    [
        ("/status/403", LinkRefused, "it is forbidden (403 Forbidden)"),
        ("/status/404", LinkRefused, "there is no such file (404 Not Found)"),
        ("/status/410", LinkRefused, "it is gone (410 Gone)"),
        ("/status/418", LinkRefused, "418"),
        ("/status/204", LinkRefused, "204"),
        ("/status/429", DownloadFailed, "answers 429 Too Many Requests"),
        ("/status/500", DownloadFailed, "answers 500 Internal Server Error"),
        ("/status/503", DownloadFailed, "answers 503 Service Unavailable"),
        ("/status/599", DownloadFailed, "answers 599"),
        ("/truncated.opus", DownloadFailed, "broke off before the file's end"),
        ("/empty.opus", DownloadFailed, "empty"),
    ],
)
def test_each_failure_of_a_host_has_its_sentence(
    refused: Refused, media: MediaServer, path: str, expected: Any, words: str
) -> None:
    media.answer("/empty.opus", Answer(b""))
    assert words in str(refused(media.at(path), expected))


def test_a_host_that_falls_silent_is_given_up(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silence:
        port = silence.getsockname()[1]
        monkeypatch.setenv("ALLOWED_HOSTS", f"127.0.0.1:{port}")
        monkeypatch.setattr(web, "READ_TIMEOUT", 0.1)
        settings.cache_clear()
        assert "does not answer" in str(refused(f"http://127.0.0.1:{port}/a.mp3", DownloadFailed))


@pytest.mark.parametrize("path", ["/harbor-light.opus", "/endless.opus"])
def test_a_file_over_the_size_limit_is_refused(
    refused: Refused, media: MediaServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(meter, "MB", 1_000)
    assert "500 MB" in str(refused(media.at(path), TooLarge))


def test_redirects_are_followed_and_the_title_stays_the_links_own(fetch: Fetch, media: MediaServer) -> None:
    media.answer("/My%20Song.mp3", Answer(status=302, location="/redirect?to=harbor-light.opus"))
    audio = fetch(media.at("/My%20Song.mp3"))
    assert (audio.title, audio.path.name) == ("My Song", "audio.opus")
    assert audio.path.read_bytes() == media.song


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://169.254.169.254/latest/meta-data/", ForbiddenAddress),
        ("http://10.0.0.1/", ForbiddenAddress),
        ("http://0x7f.1:1/", ForbiddenAddress),
        ("http://localhost/", ForbiddenAddress),
        ("//[::1]/", ForbiddenAddress),
        ("http://example.com/a.mp3", HostNotAllowed),
        ("file:///etc/passwd", BadLink),
        ("ftp://127.0.0.1/a.mp3", BadLink),
        ("upload:somebody-elses", LinkRefused),
        ("https://youtu.be/harborlight", LinkRefused),
    ],
)
def test_a_redirect_is_checked_like_a_link(refused: Refused, media: MediaServer, target: str, expected: Any) -> None:
    assert refused(media.at(f"/redirect?to={target}"), expected).kind == "permanent"
    assert len(media.asked) == 1


def test_redirects_end(refused: Refused, media: MediaServer) -> None:
    media.answer("/around", Answer(status=301, location="/around"))
    assert "more than 5 times" in str(refused(media.at("/around"), LinkRefused))
    assert len(media.asked) == 6


def lead(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name lead to these addresses; the names that are looked up."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in address], socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(links.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_an_allowed_name_that_leads_to_a_private_address_is_refused(
    refused: Refused, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "media.example.com")
    settings.cache_clear()
    lead(monkeypatch, "127.0.0.1")
    error = refused(f"http://media.example.com:{media.port}/harbor-light.opus", ForbiddenAddress)
    assert "media.example.com (127.0.0.1)" in str(error)
    assert media.asked == []


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    fetch: Fetch, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", f"media.example.com,127.0.0.1:{media.port},[::1]")
    settings.cache_clear()
    looked_up = lead(monkeypatch, "::1", "127.0.0.1")  # nobody listens at the first
    connected: list[str] = []
    connect = socket.create_connection

    def watched(address: tuple[str, int], *more: Any, **named: Any) -> socket.socket:
        connected.append(address[0])
        # The look-up of a literal address, which the name's own stands in for above.
        with monkeypatch.context() as context:
            context.setattr(socket, "getaddrinfo", getaddrinfo)
            return connect(address, *more, **named)

    monkeypatch.setattr(socket, "create_connection", watched)
    fetch(f"http://media.example.com:{media.port}/harbor-light.opus")
    assert looked_up == ["media.example.com"]
    assert connected == ["::1", "127.0.0.1"]
    assert media.asked[0][1]["host"] == f"media.example.com:{media.port}"


getaddrinfo = socket.getaddrinfo


def test_over_tls_too_the_host_is_asked_for_by_its_name(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def hear() -> None:
            client, _ = listening.accept()
            with client:
                heard.append(client.recv(4096))

        listener = threading.Thread(target=hear)
        listener.start()
        monkeypatch.setattr(links, "resolve", lambda *_: ["127.0.0.1"])
        monkeypatch.setenv("ALLOWED_HOSTS", "media.example.com")
        settings.cache_clear()
        refused(f"https://media.example.com:{port}/a.mp3", DownloadFailed)
        listener.join()
    assert b"media.example.com" in heard[0]


def test_the_environments_proxies_are_not_asked(
    fetch: Fetch, media: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    fetch(media.at("/harbor-light.opus"))


def test_an_upload_is_not_downloaded(refused: Refused) -> None:
    refused("upload:upload-0a1b", MissingFile)


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A file system with room for 128 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("path", ["https://youtu.be/harborlight", "{url}/harbor-light.opus"])
def test_a_full_disk_is_told_as_such(media: MediaServer, small_disk: Path, path: str) -> None:
    with pytest.raises(DiskFull):
        download(links.parse(path.format(url=media.url), settings().allowed_hosts), small_disk, silent)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_found_in_what_yt_dlp_says_of_it(number: int) -> None:
    from yt_dlp.utils import DownloadError, UnavailableVideoError

    full = OSError(number, os.strerror(number))
    assert isinstance(classify(DownloadError("unable to write data", (OSError, full, None))), DiskFull)
    wrapped = UnavailableVideoError(full)
    wrapped.__context__ = full
    assert isinstance(classify(wrapped), DiskFull)


# --- the fakes themselves ---------------------------------------------------------------------


def test_a_child_process_takes_the_fake_for_youtube(media: MediaServer, folder: Path) -> None:
    program = (
        "from pathlib import Path; from infra import links; from tasks.download import download; import sys;"
        "print(download(links.parse(sys.argv[1], ()), Path(sys.argv[2]), lambda *news: None).title)"
    )
    environment = {**os.environ, **media.environment()}
    child = subprocess.run(
        [sys.executable, "-c", program, "https://youtu.be/harborlight", str(folder)],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60,
    )  # fmt: skip
    assert child.stdout == "Harbor Light\n", child.stderr
    assert (folder / "audio.webm").read_bytes() == media.song


def test_the_server_ends_its_threads_even_in_the_middle_of_an_answer() -> None:
    before = set(threading.enumerate())
    with MediaServer() as media, socket.create_connection((media.host, media.port)) as client:
        client.sendall(b"GET /slow.opus?rate=100 HTTP/1.1\r\n\r\n")
        assert client.recv(1)
    assert set(threading.enumerate()) <= before
