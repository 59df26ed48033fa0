from __future__ import annotations

import base64
import errno
import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from infra import links
from infra.errors import (
    BadLink,
    DiskFull,
    DownloadFailed,
    ForbiddenAddress,
    HostNotAllowed,
    LinkRefused,
    LiveStream,
    MissingFile,
    NotOneSong,
    SiteLimitsUs,
    TooLarge,
    TooLong,
    UserError,
    VideoUnavailable,
)
from infra.jobs.stages import Stage, silent
from infra.settings import settings
from tasks import download as module
from tasks.download import download
from tasks.song import Audio
from tests.fakes.media import DEMO_SONG, ROOT, Answer, MediaServer, Video

# yt-dlp leaves the connections of failed requests to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SECRET = "s3cr3t-session-value"


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
    for name in ("YOUTUBE_COOKIES_CONTENT", "YOUTUBE_COOKIES_B64", "MAX_MINUTES", "MAX_MEGABYTES"):
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
    assert audio == Audio(folder / "audio.webm", 60.0, "Harbor Light", "The Demo Singers", "harborlight")
    assert audio.path.read_bytes() == DEMO_SONG.read_bytes()


@pytest.mark.parametrize(
    ("id", "expected", "words"),
    [
        ("privatevid0", VideoUnavailable, "Private video. Sign in if you've been granted access to this video."),
        ("removedvid0", VideoUnavailable, "This video has been removed by the uploader."),
        ("terminated0", VideoUnavailable, "the YouTube account associated with this video has been terminated."),
        ("copyright00", VideoUnavailable, "no longer available due to a copyright claim by Somebody."),
        ("membersonly", VideoUnavailable, "Join this channel to get access to members-only content"),
        ("agechecked0", VideoUnavailable, "Sign in to confirm your age."),
        ("geoblocked0", VideoUnavailable, "The uploader has not made this video available in your country."),
        ("nosuchvideo", VideoUnavailable, "Video unavailable."),
        ("onlytrailer", VideoUnavailable, "only its trailer is free to see."),
        ("livenow0000", LiveStream, "running now"),
        ("upcoming000", LiveStream, "not begun yet"),
        ("premiere000", LiveStream, "not begun yet"),
        ("longsong999", TooLong, "This is 7:00:00 long; the limit here is 15:00."),
    ],
)
def test_what_youtube_never_gives_is_refused_for_good(refused: Refused, id: str, expected: Any, words: str) -> None:
    error = refused(f"https://youtu.be/{id}", expected)
    assert error.kind == "permanent"
    assert words in str(error)
    assert not any(noise in str(error) for noise in ("ERROR", "[youtube", "--cookies", "http", id))


@pytest.mark.parametrize(
    ("id", "expected", "words"),
    [
        ("botcheck000", SiteLimitsUs, "Sign in to confirm you’re not a bot."),
        ("captcha0000", SiteLimitsUs, "captcha challenge"),
        ("ratelimited", SiteLimitsUs, "rate-limited by YouTube for up to an hour."),
        ("toomany4290", SiteLimitsUs, "YouTube answers 429 Too Many Requests."),
        ("sound429000", SiteLimitsUs, "YouTube answers 429 Too Many Requests."),
        ("sound403000", DownloadFailed, "YouTube answers 403 Forbidden."),
        ("sound500000", DownloadFailed, "YouTube answers 500 Internal Server Error."),
        ("playerdown0", DownloadFailed, "YouTube answers 503 Service Unavailable."),
        ("truncated00", DownloadFailed, "broke off"),
        ("justended00", DownloadFailed, "still preparing its recording"),
    ],
)
def test_what_may_pass_is_told_as_passing(refused: Refused, id: str, expected: Any, words: str) -> None:
    error = refused(f"https://youtu.be/{id}", expected)
    assert error.kind == "passing"
    assert words in str(error)
    assert not any(noise in str(error) for noise in ("ERROR", "[youtube", "--cookies", "http", "caused by", id))


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
    monkeypatch.setattr(module, "MB", 300_000)  # bytes; the demo song has 643,094
    settings.cache_clear()
    assert "1 MB" in str(refused(f"https://youtu.be/{id}", TooLarge))


def test_a_download_that_never_ends_meets_its_deadline(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOWNLOAD_DEADLINE", 0.0)
    refused("https://youtu.be/endless0000", DownloadFailed)


class Cancelled(BaseException):
    pass


def cancelling(stage: Stage, share: float, message: str) -> None:
    assert 0 <= share < 1
    raise Cancelled


@pytest.mark.parametrize("path", ["https://youtu.be/slowsound00", "{url}/slow.opus?rate=200000"])
def test_cancelling_in_the_middle_leaves_nothing(media: MediaServer, folder: Path, path: str) -> None:
    link = links.parse(path.format(url=media.url), settings().allowed_hosts)
    with pytest.raises(Cancelled):
        download(link, folder, cancelling)
    assert list(folder.iterdir()) == []


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


# --- cookies ----------------------------------------------------------------------------------

COOKIES = f".youtube.com\tTRUE\t/\tTRUE\t0\tSID\t{SECRET}\n#HttpOnly_.youtube.com\tTRUE\t/\tTRUE\t0\tHSID\t{SECRET}\n"


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int, str]]:
    """The cookie files that yt-dlp is given: where, with which mode, and what they hold."""
    seen: list[tuple[Path, int, str]] = []
    options = module._options

    def watched(place: Path, meter: Any, listener: Any, cookies: Path | None) -> dict[str, Any]:
        if cookies:
            seen.append((cookies, cookies.stat().st_mode & 0o777, cookies.read_text()))
        return options(place, meter, listener, cookies)

    monkeypatch.setattr(module, "_options", watched)
    return seen


@pytest.mark.parametrize("id", ["harborlight", "botcheck000"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("YOUTUBE_COOKIES_CONTENT", COOKIES), ("YOUTUBE_COOKIES_B64", base64.encodebytes(COOKIES.encode()).decode())],
)
def test_cookies_are_a_private_copy_that_goes_after_the_run(
    fetch: Fetch,
    copies: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    id: str,
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    caplog.set_level(logging.DEBUG)
    with suppress(SiteLimitsUs):
        fetch(f"https://youtu.be/{id}")
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    [(path, mode, content)] = copies
    assert mode == 0o600
    assert content.count(SECRET) == 2
    assert not path.parent.exists()


@pytest.mark.parametrize("value", ["not base64!", base64.b64encode(f'[{{"name": "{SECRET}"}}]'.encode()).decode()])
def test_cookies_that_cannot_be_read_are_left_out_and_not_printed(
    fetch: Fetch,
    copies: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    value: str,
) -> None:
    monkeypatch.setenv("YOUTUBE_COOKIES_B64", value)
    settings.cache_clear()
    caplog.set_level(logging.DEBUG)
    fetch("https://youtu.be/harborlight")
    assert copies == []
    assert "no cookies are used" in caplog.text
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


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
        monkeypatch.setattr(module, "READ_TIMEOUT", 0.1)
        settings.cache_clear()
        assert "does not answer" in str(refused(f"http://127.0.0.1:{port}/a.mp3", DownloadFailed))


@pytest.mark.parametrize("path", ["/harbor-light.opus", "/endless.opus"])
def test_a_file_over_the_size_limit_is_refused(
    refused: Refused, media: MediaServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(module, "MB", 1_000)
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
    assert isinstance(module.classify(DownloadError("unable to write data", (OSError, full, None))), DiskFull)
    wrapped = UnavailableVideoError(full)
    wrapped.__context__ = full
    assert isinstance(module.classify(wrapped), DiskFull)


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
