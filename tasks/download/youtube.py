"""The sound of a YouTube video by one route, through yt-dlp, kept as it comes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yt_dlp import YoutubeDL
from yt_dlp.utils import YoutubeDLError

from infra.errors import DownloadFailed, LiveStream, ProviderNotReady, StillPreparing, TooLong, VideoUnavailable
from infra.links import Link
from infra.settings import settings
from tasks.audio import SLACK, clock
from tasks.download.cookies import STALE_COOKIES, cookies
from tasks.download.deadline import within
from tasks.download.failures import classify
from tasks.download.meter import Meter
from tasks.download.routes import Route, tokens_problem
from tasks.song import Audio, Chapter

EXTRACTION_DEADLINE = 180.0  # seconds for all that YouTube is asked before the sound, its JavaScript included
READ_TIMEOUT = 20.0  # seconds of silence
RETRIES_INSIDE = 2  # yt-dlp's own, for a connection that breaks: it resumes where the file ends
NO_LONGER_VALID = "account cookies are no longer valid"  # yt-dlp warns, and goes on as a stranger

log = logging.getLogger(__name__)

Noticed = Callable[[str], None]
Info = dict[str, Any]  # what yt-dlp knows of a video


def from_youtube(link: Link, place: Path, meter: Meter, route: Route, noticed: Noticed) -> Audio:
    listener = _Listener(noticed)
    try:
        with YoutubeDL(_options(place, meter, listener, route)) as youtube:  # pyright: ignore
            with within(
                EXTRACTION_DEADLINE, f"YouTube took more than {EXTRACTION_DEADLINE / 60:.0f} minutes to answer."
            ):
                info: Info = youtube.extract_info(link.url, download=False, process=False)  # pyright: ignore
            _check(info)
            info = youtube.process_ie_result(info, download=True)  # pyright: ignore
    except YoutubeDLError as error:
        raise classify(error, listener.warnings) from error
    # yt-dlp can end well without a file.
    files = [file for file in place.glob("audio.*") if file.suffix != ".part"]
    if not files:
        raise DownloadFailed(reason="YouTube sent no sound.")
    return _audio(files[0], link, info)


def _audio(file: Path, link: Link, info: Info) -> Audio:
    return Audio(
        path=file,
        duration=float(info.get("duration") or 0.0),
        title=info.get("track") or info.get("title"),
        artist=", ".join(info.get("artists") or ()) or None,
        video_id=link.id,
        thumbnail=_thumbnail(info),
        chapters=tuple(
            Chapter(str(chapter.get("title") or ""), float(chapter["start_time"]), float(chapter["end_time"]))
            for chapter in info.get("chapters") or ()
        ),
    )


def _thumbnail(info: Info) -> str | None:
    """The largest that YouTube named; what yt-dlp adds on the chance that it exists has no width."""
    named = [picture for picture in info.get("thumbnails") or () if picture.get("width")]
    return max(named, key=lambda picture: picture["width"])["url"] if named else info.get("thumbnail")


def _options(place: Path, meter: Meter, listener: _Listener, route: Route) -> dict[str, Any]:
    import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]

    return {
        "format": "bestaudio/best",
        "allowed_extractors": [r"youtube(\+.*)?"],  # with a plugin's name behind the plus
        "extractor_args": _extractor_args(route),
        "noplaylist": True,
        "ignoreerrors": False,
        "paths": {"home": str(place)},
        "outtmpl": {"default": "audio.%(ext)s"},
        "cachedir": str(settings().data / "cache" / "yt-dlp"),
        "cookiefile": _cookie_file(place, route),
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


def _extractor_args(route: Route) -> dict[str, dict[str, list[str]]]:
    # "never": where the plugin is installed, yt-dlp would ask a provider that nobody named.
    youtube = {"player_client": list(route.clients), "fetch_pot": ["auto" if route.po_tokens else "never"]}
    if not route.po_tokens:
        return {"youtube": youtube}
    if problem := tokens_problem(settings()):
        raise ProviderNotReady(provider="The PO-token provider", reason=problem.rstrip("."))
    return {"youtube": youtube, "youtubepot-bgutilhttp": {"base_url": [settings().pot_provider_url or ""]}}


def _cookie_file(place: Path, route: Route) -> str | None:
    if not route.signed_in:
        return None
    given = cookies()
    if given is None or given.problem:
        raise ProviderNotReady(provider="The login", reason="no valid cookies are given")
    return str(given.copy(place))


def _hook(meter: Meter) -> Callable[[dict[str, Any]], None]:
    def hook(status: dict[str, Any]) -> None:
        if status["status"] == "downloading":
            total = status.get("total_bytes") or status.get("total_bytes_estimate")
            meter(status.get("downloaded_bytes") or 0, int(total) if total else None)

    return hook


class _Listener:
    """What yt-dlp says beside its exceptions. Some causes are told only there."""

    def __init__(self, noticed: Noticed) -> None:
        self.warnings: list[str] = []
        self._noticed = noticed

    def debug(self, message: str) -> None:
        log.debug("%s", message)

    def warning(self, message: str) -> None:
        log.warning("%s", message)
        self.warnings.append(message)
        if NO_LONGER_VALID in message:
            self._noticed(STALE_COOKIES)

    error = debug  # is raised too


def _check(info: Info) -> None:
    if info.get("_type", "video") != "video":
        raise VideoUnavailable(reason="only its trailer is free to see.")
    match info.get("live_status"):
        case "is_live":
            raise LiveStream(when="that is running now")
        case "is_upcoming":
            raise LiveStream(when="that has not begun yet")
        case "post_live":
            raise StillPreparing
        case _:
            pass
    duration, limit = float(info.get("duration") or 0.0), settings().max_seconds
    if duration > limit + SLACK:
        raise TooLong(length=clock(duration), limit=clock(limit))
