"""What a playlist or a channel holds, as links: yt-dlp lists it without looking at the videos themselves.

It is asked for as by a stranger: a list that only its owner may see is none here, whatever cookies are configured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any

from infra import links
from infra.errors import DownloadFailed, EmptyPlaylist, NotListed, PlaylistUnavailable, UserError, VideoUnavailable
from infra.links import Collection, Link
from tasks.download import classify
from tasks.download.deadline import within

LISTING_DEADLINE = 180.0  # seconds; YouTube gives a hundred videos a page
READ_TIMEOUT = 20.0  # seconds of silence
RETRIES_INSIDE = 2  # yt-dlp's own, for a page that does not come
MOST_HOPS = 5  # from an album or a mobile page to the list itself
MOST_LOOKED_AT = 5  # entries for each that is wanted: of a list of what is gone nobody reads to the end

_GONE = frozenset({"[Private video]", "[Deleted video]"})  # YouTube's titles of what it does not give out
_LIVE = frozenset({"is_live", "is_upcoming"})

log = logging.getLogger(__name__)

Info = dict[str, Any]  # what yt-dlp knows of a list or of one of its entries


@dataclass(frozen=True, slots=True)
class Playlist:
    """The videos in their order, each once."""

    title: str | None
    links: tuple[Link, ...]
    more: bool = False  # than were asked for
    left_out: int = 0  # private, deleted, live


def listed(collection: Collection, most: int) -> Playlist:
    """The first videos of the list, at most so many."""
    from yt_dlp import YoutubeDL  # takes a second to import: only where it is needed
    from yt_dlp.utils import YoutubeDLError

    slow = within(LISTING_DEADLINE, f"YouTube took more than {LISTING_DEADLINE / 60:.0f} minutes.")
    try:
        with slow, YoutubeDL(_options()) as youtube:  # pyright: ignore
            return _read(collection, _found(youtube, collection), most)
    except YoutubeDLError as error:
        raise _told(collection, classify(error)) from error
    except DownloadFailed as error:
        raise _told(collection, error) from error


def _options() -> dict[str, Any]:
    return {
        "allowed_extractors": [r"youtube(:tab|:playlist)?(\+.*)?"],  # with a plugin's name behind the plus
        "ignoreerrors": False,
        "cachedir": False,
        "socket_timeout": READ_TIMEOUT,
        "extractor_retries": RETRIES_INSIDE,
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "logger": log,
    }


def _found(youtube: Any, collection: Collection | None) -> Info:
    """The list itself, whose entries come page by page as they are read."""
    for _ in range(MOST_HOPS):
        if collection is None:
            break
        info: Info = youtube.extract_info(collection.url, download=False, process=False)
        if info.get("_type") not in ("url", "url_transparent"):
            return info
        collection = links.collection(info["url"])
    return {}


def _read(collection: Collection, info: Info, most: int) -> Playlist:
    title = info.get("channel" if collection.kind == "channel" else "title")
    found: dict[str, Link] = {}
    left_out = 0
    entries = _entries(info)
    for entry in islice(entries, most * MOST_LOOKED_AT):
        link = _link(entry)
        if link is None:
            left_out += 1
        elif link.id not in found and len(found) == most:
            return Playlist(title, tuple(found.values()), more=True, left_out=left_out)
        else:
            found[link.id] = link
    if not found:
        raise EmptyPlaylist(what=collection.kind)
    return Playlist(title, tuple(found.values()), next(entries, None) is not None, left_out)


def _entries(info: Info) -> Iterator[Info]:
    """Those of a channel stand on its tabs; its shorts are no songs."""
    for entry in info.get("entries") or ():
        if "entries" not in entry:
            yield entry
        elif not str(entry.get("webpage_url")).endswith("/shorts"):
            yield from _entries(entry)


def _link(entry: Info) -> Link | None:
    """The video of an entry. None if it is none, or cannot be had."""
    if entry.get("title") in _GONE or entry.get("live_status") in _LIVE:
        return None
    try:
        link = links.parse(str(entry.get("url")), ())
    except UserError:
        return None
    return link if link.kind == "youtube" else None


def _told(collection: Collection, error: UserError) -> UserError:
    """The failure of a video as that of a list."""
    if not isinstance(error, VideoUnavailable | DownloadFailed):
        return error
    reason = re.sub(rf"^({re.escape(collection.id)}[^:]*: )?(YouTube said: )?", "", error.fields["reason"])
    gone = isinstance(error, VideoUnavailable) or f" {HTTPStatus.NOT_FOUND} " in reason
    return (PlaylistUnavailable if gone else NotListed)(what=collection.kind, reason=reason)
