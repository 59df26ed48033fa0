"""What travels when the far side fetches a video's sound.

An order: `provider`, `pipeline`, and `video`, its 11-character id: the address is built there, and no login goes along.
News: as of a song (wire.py). An answer: `sound` (bytes), `suffix`, and `about`, what is known of it; or an error.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from infra import links
from infra.errors import DownloadFailed, ProviderFailed, ProviderNotReady, TooLarge, UserError, disk_writes
from infra.jobs.request import PIPELINE_VERSION
from infra.links import Link
from infra.settings import settings
from tasks.cache import safe_suffix
from tasks.download.meter import MB
from tasks.remote import wire
from tasks.song import Audio

ABOUT = TypeAdapter(Audio)


# --- an order -----------------------------------------------------------------------------------


def order(link: Link, provider: str) -> wire.Order:
    if link.kind != "youtube":
        raise ProviderNotReady(provider=provider, reason="it fetches nothing but videos from YouTube")
    return {"provider": provider, "pipeline": PIPELINE_VERSION, "video": link.id}


def link(order: Mapping[str, Any]) -> Link:
    """The video, if the order names one: only an id that is one makes an address."""
    id = order.get("video")
    try:
        video = links.parse(f"https://www.youtube.com/watch?v={id}", ())
    except UserError:
        video = None
    if video is None or video.id != id:
        raise ProviderNotReady(
            provider=order.get("provider", "The provider"),
            reason="its function does not understand the order: deploy it again",
        )
    return video


# --- an answer ----------------------------------------------------------------------------------


def answered(audio: Audio) -> dict[str, Any]:
    about = ABOUT.dump_python(audio, mode="json", exclude={"path"})
    return {"sound": audio.path.read_bytes(), "suffix": audio.path.suffix, "about": about}


def audio(answer: Any, video: Link, folder: Path, provider: str) -> Audio:
    """The sound of an answer, as a file of the folder; raises the error of an answer that holds one."""
    if isinstance(answer, Mapping) and "error" in answer:
        raise wire.failure(cast(Mapping[str, Any], answer), provider)
    entries = cast(Mapping[str, Any], answer)
    try:
        file = folder / f"audio{safe_suffix('x' + entries['suffix'])}"
        told = ABOUT.validate_python({**entries["about"], "path": file, "video_id": video.id})
        sound = _bytes(entries["sound"])
        _check_times(told)
    except (ValueError, KeyError, TypeError) as error:
        raise ProviderFailed(provider=provider, reason="its answer cannot be read") from error
    _write(sound, file)
    return told


def _bytes(sound: Any) -> bytes:
    if not isinstance(sound, bytes):
        raise TypeError("a sound is bytes")
    return sound


def _check_times(audio: Audio) -> None:
    times = [audio.duration, *(time for chapter in audio.chapters for time in (chapter.start, chapter.end))]
    if not all(0 <= time < math.inf for time in times):
        raise ValueError("a time is no time")


def _write(sound: bytes, file: Path) -> None:
    """All of it or nothing."""
    if len(sound) > settings().max_megabytes * MB:
        raise TooLarge(limit_mb=settings().max_megabytes)
    if not sound:
        raise DownloadFailed(reason="the file came empty.")
    with disk_writes("the download"), tempfile.TemporaryDirectory(dir=file.parent, prefix=".download-") as place:
        written = Path(place) / file.name
        written.write_bytes(sound)
        written.replace(file)
