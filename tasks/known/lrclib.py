"""LRCLIB, a free catalogue of lyrics: what it has for an artist, a title and a duration.

Asked once for a song, and once more where it is busy for a moment. Whatever goes wrong there, the song is transcribed
as it would be without.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, Field, ValidationError

from infra.errors import UserError
from infra.jobs.request import LONGEST_LYRICS, Request
from infra.jobs.stages import Progress, Stage
from infra.settings import settings
from tasks.audio import probe
from tasks.known.titles import named
from tasks.song import Audio

APART = 2.0  # seconds by which the song there may be longer or shorter: more is another recording
PATIENCE = 8.0  # seconds for everything
SILENT = 4.0  # seconds without a byte
PAUSE = 0.5  # seconds before it is asked again
LARGEST = 1_000_000  # bytes of an answer

Say = Callable[[str], None]

log = logging.getLogger(__name__)


class NoLyrics(Exception):
    """Why there are none, as a clause."""


class _Busy(Exception):
    def __init__(self, reason: str, wait: float = PAUSE) -> None:
        super().__init__(reason)
        self.wait = wait


class _Track(BaseModel):
    """What LRCLIB says of a song; the rest of it is not needed."""

    duration: Annotated[float, Field(allow_inf_nan=False)]
    instrumental: bool = False
    plainLyrics: str | None = None
    syncedLyrics: str | None = None


def with_lyrics(audio: Audio, request: Request, report: Progress) -> Audio:
    """The song with the lyrics that LRCLIB has of it, if it may be asked and nobody gave any."""
    if not settings().lrclib or request.lyrics:
        return audio
    try:
        return replace(audio, lyrics=lyrics(audio, partial(report, Stage.DECODE, 0.0)))
    except NoLyrics as reason:
        report(Stage.DECODE, 0.0, f"No lyrics were found at LRCLIB: {reason}", step=True)
        return audio


def lyrics(audio: Audio, say: Say) -> str | None:
    """The song's lyrics; None where LRCLIB has none. What `say` raises (a cancel) ends the search."""
    song = named(_without_ending(audio), audio.artist)
    if song is None:
        return None
    artist, title = song
    duration = audio.duration or _length(audio)
    if not duration:
        return None
    say(f"Looking for the lyrics of “{title}” by {artist}")
    track = _asked({"artist_name": artist, "track_name": title, "duration": str(round(duration))}, say)
    if track is None or track.instrumental or abs(track.duration - duration) > APART:
        return None
    text = next((text for text in (track.plainLyrics, track.syncedLyrics) if text and text.strip()), None)
    return text if text and len(text) <= LONGEST_LYRICS else None


def _without_ending(audio: Audio) -> str | None:
    """The title; a file's name is one, too."""
    return Path(audio.title).stem if audio.title and audio.title.endswith(audio.path.suffix or "/") else audio.title


def _length(audio: Audio) -> float | None:
    try:
        return probe(audio.path).duration
    except UserError:  # whoever decodes it will say so
        return None


def _asked(query: dict[str, str], say: Say) -> _Track | None:
    until = time.monotonic() + PATIENCE
    try:
        return _answer(query, until, say)
    except _Busy as busy:
        log.info("LRCLIB: %s", busy)
        if time.monotonic() + busy.wait > until:
            raise NoLyrics(str(busy)) from None
        _wait(busy.wait, say)
    try:
        return _answer(query, until, say)
    except _Busy as busy:
        raise NoLyrics(str(busy)) from None


def _answer(query: dict[str, str], until: float, say: Say) -> _Track | None:
    """What it says, whole and in time."""
    url = f"{settings().lrclib_url.rstrip('/')}/api/get"
    agent = {"User-Agent": f"yt-lyrics v{metadata.version('yt-lyrics')}", "Accept": "application/json"}
    body = bytearray()
    try:
        with httpx.stream("GET", url, params=query, headers=agent, timeout=SILENT, follow_redirects=False) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND.value:
                return None
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS.value:
                raise _Busy("it is asked too often", _seconds(answer.headers.get("retry-after")))
            if answer.is_server_error:
                raise _Busy(f"it answers {answer.status_code}")
            if not answer.is_success:
                raise NoLyrics(f"it answers {answer.status_code}")
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > LARGEST:
                    raise NoLyrics("its answer has no end")
                if time.monotonic() > until:
                    raise NoLyrics("it does not answer in time")
                say("Reading the lyrics")
    except httpx.TimeoutException:
        raise _Busy("it does not answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise _Busy("it cannot be reached") from None
    try:
        return _Track.model_validate_json(bytes(body))
    except ValidationError:
        raise NoLyrics("its answer makes no sense") from None


def _seconds(retry_after: str | None) -> float:
    """How long it wants us to wait; a date, which nobody sends, is too long."""
    if retry_after is None:
        return PAUSE
    return float(retry_after) if retry_after.isdecimal() else PATIENCE


def _wait(seconds: float, say: Say) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        say("LRCLIB is busy; asking again in a moment")
        time.sleep(min(left, 0.5))
