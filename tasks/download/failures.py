"""What went wrong at YouTube: yt-dlp's failure as one of ours, by its type where that tells, else by YouTube's words.

The order matters: YouTube says "sign in" to strangers, to suspected bots and about private videos alike.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from infra.errors import (
    BotCheck,
    DiskFull,
    DownloadFailed,
    GeoBlocked,
    LiveStream,
    NeedsLogin,
    RateLimited,
    SoundRefused,
    UnknownFailure,
    UserError,
    VideoUnavailable,
)

# YouTube's own words, which pass through yt-dlp. Their apostrophes are curly or straight.
_SAID = (
    (BotCheck, r"not a bot|captcha|IP is likely being blocked"),
    (RateLimited, r"rate.limited|try again later"),
    (SoundRefused, r"playback on other websites|not available on this app"),  # said to one client, not to all
    (GeoBlocked, r"in your country|your location|geo.?restrict|blocked it in"),
    (VideoUnavailable, r"private video|is private|removed|terminated|copyright|\bDRM\b|violat|blocked it|closed their"),
    (NeedsLogin, r"members.only|channel.s members|join this channel|Music Premium"),
    (NeedsLogin, r"your age|age.restricted|inappropriate"),
    (VideoUnavailable, r"does not exist|requires payment|purchase|rented"),
    (
        VideoUnavailable,
        r"video (is |has been |was )?(unavailable|not available|no longer available)|video isn.t available",
    ),
    (SoundRefused, r"requested format is not available|no video formats found|only images are available"),
    (BotCheck, r"^(please )?sign in\b"),  # nothing but that: said to addresses under suspicion
)
_SENTENCES = [(error, re.compile(words, re.IGNORECASE)) for error, words in _SAID]
_NOT_BEGUN = re.compile(r"(live event|premiere|stream) will begin|premieres in|will begin in", re.IGNORECASE)
_STATUS = re.compile(r"HTTP Error (\d{3})")
_BROKEN = re.compile(r"Got error: |TransportError|\d+ bytes, expected \d+|Did not get any data blocks")
_ADVICE = re.compile(  # what yt-dlp adds for whoever sits at its command line
    r"\s*(Use --|See  ?http|Also see|It is recommended|You might want|For more information|;? ?please report"
    r"|\(caused by|Visit http|Learn more)"
)


def classify(error: Exception, warnings: Sequence[str] = ()) -> UserError:
    """yt-dlp's failure as ours."""
    said = str(error)
    if "Failed to extract any player response" in said and warnings:
        said = warnings[-1]  # when every player fails, yt-dlp tells why only in passing
    reason, causes = _plain(said), list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return DiskFull(what="the download")
    if _NOT_BEGUN.search(reason):
        return LiveStream(when="that has not begun yet")
    return (
        _by_words(reason)
        or _by_type(causes, reason)
        or _by_status(reason)
        or _by_line(said, causes)
        or next(filter(None, (_by_words(_plain(warning)) for warning in warnings)), None)
        or UnknownFailure(reason=reason)
    )


def _by_words(reason: str) -> UserError | None:
    return next((error(reason=reason) for error, words in _SENTENCES if words.search(reason)), None)


def _by_type(causes: list[BaseException], reason: str) -> UserError | None:
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError, UserNotLive

    for cause in causes:
        if isinstance(cause, GeoRestrictedError):
            return GeoBlocked(reason=reason)
        if isinstance(cause, UnsupportedError | UserNotLive):
            return VideoUnavailable(reason=reason)
    return None


def _by_status(reason: str) -> UserError | None:
    found = _STATUS.search(reason)
    if found is None:
        return None
    # A link to sound is made for one asker and some hours: whoever comes otherwise is forbidden, or finds it gone.
    error = {"429": RateLimited, "403": SoundRefused, "410": SoundRefused}.get(found[1], DownloadFailed)
    return error(reason=f"YouTube answers {status(int(found[1]))}.")


def _by_line(said: str, causes: list[BaseException]) -> UserError | None:
    from yt_dlp.networking.exceptions import TransportError

    if _BROKEN.search(said) or any(isinstance(cause, TransportError) for cause in causes):
        return DownloadFailed(reason="the connection to YouTube broke off, or there is none.")
    return None


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


def status(code: int) -> str:
    """An HTTP status by its number and its usual name: what a server calls it may be anything."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)
