"""A link's sound as a file: from YouTube through yt-dlp, from allowed hosts over plain HTTP. Nothing is re-encoded.

`download` is one try by one route (`routes.py`); its error says what is left to be tried (`ladder.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from infra.errors import DownloadFailed, MissingFile, ProviderNotReady, disk_writes
from infra.jobs.stages import Progress
from infra.links import Link
from tasks.download.deadline import within
from tasks.download.failures import classify as classify
from tasks.download.meter import Meter
from tasks.download.routes import AS_ANYBODY, Route
from tasks.download.web import from_web
from tasks.song import Audio

DOWNLOAD_DEADLINE = 600.0  # seconds for all of a try

Noticed = Callable[[str], None]


def nothing(what: str) -> None:
    """Notices that nobody reads."""


def download(
    link: Link,
    folder: Path,
    report: Progress,
    route: Route = AS_ANYBODY,
    *,
    noticed: Noticed = nothing,
) -> Audio:
    """Fetch the link's sound into the folder. Whatever stops it, cancelling included, leaves nothing there.

    `noticed` hears what concerns more than this song: STALE_COOKIES.
    """
    if link.kind == "upload":
        raise MissingFile(name=link.canonical)
    limit = within(DOWNLOAD_DEADLINE, f"it took more than {DOWNLOAD_DEADLINE / 60:.0f} minutes.")
    with disk_writes("the download"), tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as place:
        with limit:
            audio = _fetched(link, Path(place), Meter(report), route, noticed)
        if not audio.path.stat().st_size:
            raise DownloadFailed(reason="the file came empty.")
        return replace(audio, path=audio.path.replace(folder / audio.path.name))


def _fetched(link: Link, place: Path, meter: Meter, route: Route, noticed: Noticed) -> Audio:
    if link.kind == "web":
        return from_web(link, place, meter)
    if route.means != "ytdlp":  # whoever climbs knows how to take those
        raise ProviderNotReady(provider=route.name, reason="this machine cannot take that route")
    from tasks.download.youtube import from_youtube  # yt-dlp takes a second to import: only where it is needed

    return from_youtube(link, place, meter, route, noticed)
