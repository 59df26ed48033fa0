"""YouTube's lists: what its API says of playlists, channels and albums, in the shapes that YouTube gives them.

    media.playlists["PLmine"] = Playlist("Mine", ("harborlight", "privatevid0"))

An entry is a video's id, or an Entry where more is known of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 100  # videos, as YouTube's own
WITH_UNAVAILABLE = "wgYCCAA="  # YouTube's parameter that shows what is private or deleted, too


@dataclass(frozen=True)
class Entry:
    id: str
    title: str = "A song"
    live: bool = False

    @property
    def gone(self) -> bool:
        return self.title in ("[Private video]", "[Deleted video]")


@dataclass(frozen=True)
class Playlist:
    title: str = "Songs of the harbour"
    entries: tuple[str | Entry, ...] = ()
    shorts: tuple[str, ...] = ()  # of a channel, on a tab of their own
    alert: str | None = None  # what YouTube says instead of it
    http: int = 200  # the API's status for it
    breaks_on: int | None = None  # the page whose status is 429
    album_of: str | None = None  # it only leads to that playlist


def song(number: int) -> str:
    return f"song{number:07}"


# By a playlist's id, a channel's id, its handle or name, or an album's id.
PLAYLISTS = {
    "PLharboursongs": Playlist(entries=("harborlight", Entry("gone0000001", "[Private video]"), "longsong999")),
    "PLoneharbour00": Playlist("One song", ("harborlight",)),
    "PLeverybodygoes": Playlist("All gone", (Entry("gone0000001", "[Deleted video]"),)),
    "PLnothinghere0": Playlist("Empty"),
    "PLmanysongs000": Playlist("Many songs", tuple(map(song, range(620)))),
    "PLprivatelist0": Playlist(alert="This playlist is private."),
    "PLapidown50000": Playlist(http=503),
    "PLlimited42900": Playlist("Limited", tuple(map(song, range(250))), breaks_on=2),
    "UCharbourchannel00000001": Playlist(
        "The Demo Singers", ("harborlight", Entry("livenow0000", live=True)), shorts=("shortvid000",)
    ),
    "@demosingers": Playlist("The Demo Singers", ("harborlight",)),
    "MPREb_harbour": Playlist(album_of="PLharboursongs"),
}


def answer(playlists: Mapping[str, Playlist], call: str, asked: Mapping[str, Any]) -> tuple[int, bytes]:
    """The status and body of a call of YouTube's API."""
    if call == "navigation/resolve_url":
        status, said = _resolved(playlists, asked["url"])
    elif "continuation" in asked:
        id, _, page = asked["continuation"].partition(" ")
        status, said = _next_page(playlists[id], id, int(page))
    else:
        status, said = _first_page(playlists, asked["browseId"].removeprefix("VL"), asked.get("params"))
    return status, json.dumps(said).encode()


def _resolved(playlists: Mapping[str, Playlist], url: str) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    place = [unquote(part) for part in parts.path.split("/") if part]
    id = place[1] if place[0] in ("channel", "browse", "c", "user") else place[0]
    tab = place[-1] if place[-1] in ("videos", "shorts") else ""
    if place[0] in ("playlist", "watch"):
        id = f"VL{parse_qs(parts.query)['list'][0]}"
    elif id not in playlists:
        return 404, {"error": {"message": "Requested entity was not found."}}
    return 200, {"endpoint": {"browseEndpoint": {"browseId": id, "params": tab}}}


def _first_page(playlists: Mapping[str, Playlist], id: str, params: str | None) -> tuple[int, dict[str, Any]]:
    found = playlists.get(id, Playlist(alert="The playlist does not exist."))
    if found.http != 200:
        return found.http, {"error": {"message": "The service is currently unavailable."}}
    if found.alert:
        return 200, {
            "contents": {},
            "alerts": [{"alertRenderer": {"type": "ERROR", "text": {"simpleText": found.alert}}}],
        }
    if found.album_of:
        url = f"https://music.youtube.com/playlist?list={found.album_of}"
        return 200, {
            "contents": {"singleColumnBrowseResultsRenderer": {}},
            "microformat": {"microformatDataRenderer": {"urlCanonical": url}},
        }
    if id.startswith(("UC", "@")):
        return 200, _channel(found, id, params or "videos")
    entries = [it for it in _entries(found) if params == WITH_UNAVAILABLE or not it.gone]
    shown = {"playlistVideoListRenderer": {"contents": _page(entries, id, 0)}}
    content = {"sectionListRenderer": {"contents": [{"itemSectionRenderer": {"contents": [shown]}}]}}
    return 200, {
        "contents": {
            "twoColumnBrowseResultsRenderer": {"tabs": [{"tabRenderer": {"selected": True, "content": content}}]}
        },
        "metadata": {"playlistMetadataRenderer": {"title": found.title}},
    }


def _next_page(found: Playlist, id: str, page: int) -> tuple[int, dict[str, Any]]:
    if page == found.breaks_on:
        return 429, {}
    action = {"appendContinuationItemsAction": {"continuationItems": _page(_entries(found), id, page)}}
    return 200, {"onResponseReceivedActions": [action]}


def _entries(found: Playlist) -> list[Entry]:
    return [entry if isinstance(entry, Entry) else Entry(entry) for entry in found.entries]


def _page(entries: list[Entry], id: str, page: int) -> list[dict[str, Any]]:
    shown = entries[page * PAGE : (page + 1) * PAGE]
    items: list[dict[str, Any]] = [
        {"playlistVideoRenderer": {"videoId": entry.id, "title": {"runs": [{"text": entry.title}]}}} for entry in shown
    ]
    if len(entries) > (page + 1) * PAGE:
        command = {"continuationCommand": {"token": f"{id} {page + 1}"}}
        items.append({"continuationItemRenderer": {"continuationEndpoint": command}})
    return items


def _channel(found: Playlist, id: str, tab: str) -> dict[str, Any]:
    entries = {"videos": _entries(found), "shorts": [Entry(id) for id in found.shorts]}
    place = id if id.startswith("@") else f"channel/{id}"
    tabs = [_tab(f"/{place}/{name}", entries[name], name == tab) for name in entries if entries[name]]
    return {
        "contents": {"twoColumnBrowseResultsRenderer": {"tabs": tabs}},
        "metadata": {"channelMetadataRenderer": {"title": found.title, "externalId": id}},
    }


def _tab(url: str, entries: list[Entry], selected: bool) -> dict[str, Any]:
    grid = {"contents": [{"richItemRenderer": {"content": {"lockupViewModel": _lockup(entry)}}} for entry in entries]}
    return {
        "tabRenderer": {
            "title": url.rpartition("/")[2].title(),
            "endpoint": {"commandMetadata": {"webCommandMetadata": {"url": url}}},
            "selected": selected,
            "content": {"richGridRenderer": grid},
        }
    }


def _lockup(entry: Entry) -> dict[str, Any]:
    badge = {"thumbnailBadgeViewModel": {"text": "LIVE", "badgeStyle": "THUMBNAIL_OVERLAY_BADGE_STYLE_LIVE"}}
    overlays = [{"thumbnailOverlayBadgeViewModel": {"thumbnailBadges": [badge]}}] if entry.live else []
    return {
        "contentId": entry.id,
        "contentType": "LOCKUP_CONTENT_TYPE_VIDEO",
        "contentImage": {"thumbnailViewModel": {"overlays": overlays}},
        "metadata": {"lockupMetadataViewModel": {"title": {"content": entry.title}}},
    }
