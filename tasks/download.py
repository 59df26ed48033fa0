"""A link's sound as a file: from YouTube through yt-dlp, from allowed hosts over plain HTTP. Nothing is re-encoded.

Nothing is tried twice here, only told apart: `error.kind` says whether another try can help, and `SiteLimitsUs` that
it is this machine's address that YouTube dislikes, whatever the video.
"""

from __future__ import annotations

import base64
import errno
import logging
import re
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from infra import links
from infra.errors import (
    DiskFull,
    DownloadFailed,
    LinkRefused,
    LiveStream,
    MissingFile,
    SiteLimitsUs,
    TooLarge,
    TooLong,
    UserError,
    VideoUnavailable,
    disk_writes,
)
from infra.jobs.stages import Progress, Stage
from infra.links import Link
from infra.settings import settings
from tasks.audio import SLACK, clock
from tasks.cache import safe_suffix
from tasks.song import Audio

DOWNLOAD_DEADLINE = 600.0  # seconds for all of a file
CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 20.0  # seconds of silence
REPORT_EVERY = 0.25  # seconds
MOST_REDIRECTS = 5
RETRIES_INSIDE = 2  # yt-dlp's own, for a connection that breaks: it resumes where the file ends
MB = 10**6  # bytes
LONGEST_TITLE = 200  # characters

log = logging.getLogger(__name__)


def download(link: Link, folder: Path, report: Progress) -> Audio:
    """Fetch the link's sound into the folder. Whatever stops it, cancelling included, leaves nothing there."""
    if link.kind == "upload":
        raise MissingFile(name=link.canonical)
    fetch = _from_youtube if link.kind == "youtube" else _from_web
    with disk_writes("the download"), tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as place:
        audio = fetch(link, Path(place), _Meter(report))
        if not audio.path.stat().st_size:
            raise DownloadFailed(reason="the file came empty.")
        return replace(audio, path=audio.path.replace(folder / audio.path.name))


class _Meter:
    """Told how many bytes are here, it tells the user now and then, and holds the limits of size and time."""

    def __init__(self, report: Progress) -> None:
        self._report = report
        self._started = time.monotonic()
        self._reported = float("-inf")

    def __call__(self, done: int, total: int | None) -> None:
        now, limit = time.monotonic(), settings().max_megabytes
        if max(done, total or 0) > limit * MB:
            raise TooLarge(limit_mb=limit)
        if now - self._started > DOWNLOAD_DEADLINE:
            raise DownloadFailed(reason=f"it took more than {DOWNLOAD_DEADLINE / 60:.0f} minutes.")
        if now - self._reported >= REPORT_EVERY:
            self._reported = now
            self._report(Stage.DOWNLOAD, done / total if total else 0.0, self._told(done, total, now - self._started))

    def _told(self, done: int, total: int | None, seconds: float) -> str:
        whole = f" of {total / MB:.1f}" if total else ""
        return f"Downloading {done / MB:.1f}{whole} MB at {done / MB / max(seconds, 0.001):.1f} MB/s"


# --- YouTube ----------------------------------------------------------------------------------


def _from_youtube(link: Link, place: Path, meter: _Meter) -> Audio:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import YoutubeDLError

    listener = _Listener()
    try:
        with _cookies() as cookies, YoutubeDL(_options(place, meter, listener, cookies)) as youtube:  # pyright: ignore
            info: dict[str, Any] = youtube.extract_info(link.url, download=False, process=False)  # pyright: ignore
            _check(info)
            youtube.process_ie_result(info, download=True)  # pyright: ignore
    except YoutubeDLError as error:
        raise classify(error, listener.warnings) from error
    # yt-dlp can end well without a file.
    files = [file for file in place.iterdir() if file.suffix != ".part"]
    if not files:
        raise DownloadFailed(reason="YouTube sent no sound.")
    return Audio(
        path=files[0],
        duration=float(info.get("duration") or 0.0),
        title=info.get("track") or info.get("title"),
        artist=", ".join(info.get("artists") or ()) or None,
        video_id=link.id,
    )


def _options(place: Path, meter: _Meter, listener: _Listener, cookies: Path | None) -> dict[str, Any]:
    import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]

    return {
        "format": "bestaudio/best",
        "allowed_extractors": [r"youtube(\+.*)?"],  # with a plugin's name behind the plus
        "noplaylist": True,
        "ignoreerrors": False,
        "paths": {"home": str(place)},
        "outtmpl": {"default": "audio.%(ext)s"},
        "cachedir": str(settings().data / "cache" / "yt-dlp"),
        "cookiefile": str(cookies) if cookies else None,
        "ffmpeg_location": imageio_ffmpeg.get_ffmpeg_exe(),
        "fixup": "never",  # would rewrite m4a for players; the decoder needs no such help
        "updatetime": False,
        "socket_timeout": READ_TIMEOUT,
        "retries": RETRIES_INSIDE,
        "fragment_retries": RETRIES_INSIDE,
        "extractor_retries": RETRIES_INSIDE,
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "logger": listener,
        "progress_hooks": [_hook(meter)],
    }


def _hook(meter: _Meter) -> Callable[[dict[str, Any]], None]:
    def hook(status: dict[str, Any]) -> None:
        if status["status"] == "downloading":
            total = status.get("total_bytes") or status.get("total_bytes_estimate")
            meter(status.get("downloaded_bytes") or 0, int(total) if total else None)

    return hook


class _Listener:
    """What yt-dlp says beside its exceptions. Some causes are told only there."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        log.debug("%s", message)

    def warning(self, message: str) -> None:
        log.warning("%s", message)
        self.warnings.append(message)

    error = debug  # is raised too


def _check(info: dict[str, Any]) -> None:
    if info.get("_type", "video") != "video":
        raise VideoUnavailable(reason="only its trailer is free to see.")
    match info.get("live_status"):
        case "is_live":
            raise LiveStream(when="that is running now")
        case "is_upcoming":
            raise LiveStream(when="that has not begun yet")
        case "post_live":
            raise DownloadFailed(reason="the live stream has just ended, and YouTube is still preparing its recording.")
        case _:
            pass
    duration, limit = float(info.get("duration") or 0.0), settings().max_seconds
    if duration > limit + SLACK:
        raise TooLong(length=clock(duration), limit=clock(limit))


@contextmanager
def _cookies() -> Generator[Path | None]:
    """A private copy of the cookies for this run: yt-dlp writes into the file that it is given."""
    content = cookies_content()
    if not content:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="yt-lyrics-") as place:
        path = Path(place) / "cookies.txt"
        path.touch(mode=0o600, exist_ok=False)
        path.write_text("# Netscape HTTP Cookie File\n" + content, encoding="utf-8")
        yield path


def cookies_content() -> str:
    """The YouTube cookies of the settings as lines that yt-dlp can read; empty without any."""
    plain, encoded = settings().youtube_cookies_content, settings().youtube_cookies_b64
    try:
        text = plain.get_secret_value() if plain else ""
        if encoded and not plain:
            text = base64.b64decode("".join(encoded.get_secret_value().split()), validate=True).decode()
    except ValueError:
        log.warning("YOUTUBE_COOKIES_B64 is not base64 of a text: no cookies are used")
        return ""
    # Lines that yt-dlp cannot read it prints, secrets and all: they are left out.
    lines = [line for line in text.splitlines() if re.fullmatch(r"[^\t]+(\t[^\t]*){3}\t\d*(\t[^\t]*){2}", line)]
    if text and not lines:
        log.warning("The YouTube cookies are not in Netscape's format: no cookies are used")
    return "".join(f"{line}\n" for line in lines)


# --- what went wrong at YouTube ---------------------------------------------------------------

# YouTube's own words, which pass through yt-dlp. Their apostrophes are curly or straight.
_LIMITS_US = re.compile(
    r"not a bot|captcha|IP is likely being blocked|rate.limited|content isn.t available, try again later",
    re.IGNORECASE,
)
_NOT_BEGUN = re.compile(r"(live event|premiere|stream) will begin|premieres in|will begin in", re.IGNORECASE)
_REFUSED = re.compile(
    r"private video|is private|removed|terminated|copyright|\bDRM\b|violat|blocked it|closed their|does not exist"
    r"|members.only|channel.s members|join this channel|Music Premium|requires payment|purchase|rented"
    r"|your age|age.restricted|inappropriate|in your country|your location|geo.?restrict"
    r"|video (is |has been |was )?(unavailable|not available|no longer available)|video isn.t available",
    re.IGNORECASE,
)
_ADVICE = re.compile(  # what yt-dlp adds for whoever sits at its command line
    r"\s*(Use --|See  ?http|Also see|It is recommended|You might want|For more information|;? ?please report"
    r"|\(caused by|Visit http|Learn more)"
)


def classify(error: Exception, warnings: Sequence[str] = ()) -> UserError:
    """yt-dlp's failure as ours."""
    from yt_dlp.networking.exceptions import TransportError
    from yt_dlp.utils import GeoRestrictedError

    said = str(error)
    if "player response" in said and warnings:
        said = warnings[-1]  # when every player fails, yt-dlp tells why only in passing
    causes, reason = list(_causes(error)), _plain(said)
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return DiskFull(what="the download")
    if _LIMITS_US.search(reason):
        return SiteLimitsUs(reason=reason)
    if _NOT_BEGUN.search(reason):
        return LiveStream(when="that has not begun yet")
    if _REFUSED.search(reason) or any(isinstance(cause, GeoRestrictedError) for cause in causes):
        return VideoUnavailable(reason=reason)
    if status := re.search(r"HTTP Error (\d{3})", reason):
        error_class = SiteLimitsUs if status[1] == "429" else DownloadFailed
        return error_class(reason=f"YouTube answers {_status(int(status[1]))}.")
    if re.search("Got error: |TransportError", said) or any(isinstance(cause, TransportError) for cause in causes):
        return DownloadFailed(reason="the connection to YouTube broke off, or there is none.")
    if limits := next(filter(_LIMITS_US.search, warnings), None):
        return SiteLimitsUs(reason=_plain(limits))
    return DownloadFailed(reason=reason)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that led to it, as far as yt-dlp tells."""
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        error = waiting.pop(0)
        if error is None or error in seen:
            continue
        seen.append(error)
        yield error
        told: Any = getattr(error, "exc_info", None)
        waiting += [told[1] if told else None, error.__cause__, error.__context__]


def _plain(message: str) -> str:
    """The message in YouTube's words: without yt-dlp's labels before and its advice behind."""
    message = re.sub(r"^(ERROR: |\[[\w:+]+\] |[\w-]{11}: |\[download\] Got error: |\r)*", "", message)
    message = " ".join(_ADVICE.split(message, maxsplit=1)[0].split())
    return message if message.endswith((".", "!", "?")) else message + "."


def _status(code: int) -> str:
    """An HTTP status by its number and its usual name: what a server calls it may be anything."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


# --- allowed hosts ----------------------------------------------------------------------------

_REFUSALS = {403: "it is forbidden", 404: "there is no such file", 410: "it is gone"}


def _from_web(link: Link, place: Path, meter: _Meter) -> Audio:
    timeout = httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    url = link.url
    # Not through proxies of the environment: they would look the name up again.
    with httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False) as client:
        for _ in range(MOST_REDIRECTS + 1):
            with _answer(client, url) as answer:
                if answer.has_redirect_location:
                    url = _redirected(url, answer.headers["location"])
                    continue
                _check_status(answer, url)
                file = place / f"audio{safe_suffix(urlsplit(url).path)}"
                _save(answer, file, meter)
                return Audio(path=file, duration=0.0, title=_title(link.url))
    raise LinkRefused(host=urlsplit(link.url).hostname, reason=f"it redirects more than {MOST_REDIRECTS} times")


@contextmanager
def _answer(client: httpx.Client, url: str) -> Generator[httpx.Response]:
    """The answer from one of the addresses that were checked, asked for by its host's name."""
    where = httpx.URL(url)
    port = where.port or (80 if where.scheme == "http" else 443)
    addresses = links.resolve(where.host, port, settings().allowed_hosts)
    try:
        answer = _first_to_answer(client, where, [str(address) for address in addresses])
        try:
            yield answer
        finally:
            answer.close()
    except httpx.TimeoutException as error:
        raise DownloadFailed(reason=f"{where.host} does not answer.") from error
    except httpx.RemoteProtocolError as error:
        raise DownloadFailed(reason=f"the connection to {where.host} broke off before the file's end.") from error
    except httpx.HTTPError as error:
        raise DownloadFailed(reason=f"the connection to {where.host} failed: {error}.") from error
    except httpx.InvalidURL as error:  # httpx reads redirects even where it does not follow them
        raise LinkRefused(host=where.host, reason="it redirects to what is no address") from error


def _first_to_answer(client: httpx.Client, where: httpx.URL, addresses: list[str]) -> httpx.Response:
    headers = {"Host": where.netloc.decode(), "Accept-Encoding": "identity", "User-Agent": "yt-lyrics"}
    failure: Exception = DownloadFailed(reason=f"{where.host} has no address.")
    for address in addresses:
        pinned = where.copy_with(host=address)
        request = client.build_request("GET", pinned, headers=headers, extensions={"sni_hostname": where.host})
        try:
            return client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
    raise failure


def _redirected(url: str, location: str) -> str:
    """Where a redirect leads to, checked like a link that a user gave."""
    target = links.parse(urljoin(url, location), settings().allowed_hosts)
    if target.kind != "web":
        raise LinkRefused(host=urlsplit(url).hostname, reason="it redirects to a page")
    return target.url


def _check_status(answer: httpx.Response, url: str) -> None:
    host, code = urlsplit(url).hostname, answer.status_code
    if code in (408, 425, 429) or code >= 500:
        raise DownloadFailed(reason=f"{host} answers {_status(code)}.")
    if code != HTTPStatus.OK:
        raise LinkRefused(host=host, reason=f"{_REFUSALS.get(code, 'it answers')} ({_status(code)})")


def _save(answer: httpx.Response, file: Path, meter: _Meter) -> None:
    length = answer.headers.get("content-length", "")
    total = int(length) if length.isdecimal() and "content-encoding" not in answer.headers else None
    done = 0
    meter(done, total)
    with file.open("wb") as target:
        for chunk in answer.iter_bytes():
            done += len(chunk)
            meter(done, total)
            target.write(chunk)


def _title(url: str) -> str | None:
    name = PurePosixPath(unquote(urlsplit(url).path)).stem
    name = "".join(character for character in name if character.isprintable()).strip()
    return name[:LONGEST_TITLE] or urlsplit(url).hostname
