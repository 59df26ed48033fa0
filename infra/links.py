"""Which addresses may be fetched.

The threat: whoever may paste a link decides where this service connects to, from inside its network (SSRF): cloud
metadata, databases, admin pages, the machine itself. The answer:

- YouTube links are reduced to their 11-character id, its playlists and channels to their checked id or name; the
  address that is fetched is built here.
- Other hosts are fetched from only if ALLOWED_HOSTS names them.
- The addresses behind such a name are looked up here, all of them are checked, and the caller connects to one of
  those, so that a name cannot lead elsewhere on its second look-up (DNS rebinding). Each redirect starts anew.
- A private address is fetched from only if ALLOWED_HOSTS names that very address: a name is not enough.

The limits: what an allowed host serves is trusted to be somebody's choice, not to be harmless; and a public address
that an internal service listens on is public here too.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Literal
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from infra.errors import (
    BadLink,
    DownloadFailed,
    EndlessMix,
    ForbiddenAddress,
    HostNotAllowed,
    NotOneSong,
    PersonalList,
)

Address = IPv4Address | IPv6Address
Kind = Literal["youtube", "web", "upload"]
Many = Literal["playlist", "channel"]

LONGEST = 2048  # characters of a link
SHOWN = 80  # characters of a link that are repeated in a message

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}(?![A-Za-z0-9_-])")
_NOT_AN_ID = frozenset({"videoseries", "live_stream"})  # of 11 characters too: embedded players of many videos
_LIST_ID = re.compile(r"(?:VL)?([A-Za-z0-9_-]{2,128})")  # VL stands before it in the addresses of YouTube Music
_MIX = re.compile(r"RD(?!CLAK5uy_)")  # made up as one listens; of these YouTube's editors alone make finite ones
_PERSONAL = frozenset({"WL", "LL", "LM", "RDMM"})  # another list for everybody who is signed in
_CHANNEL_ID = re.compile(r"UC[A-Za-z0-9_-]{22}")
_ALBUM_ID = re.compile(r"MPREb_[A-Za-z0-9_-]{4,64}")
_LONGEST_NAME = 100  # characters of a channel's name in its address; YouTube's handles have 30
_UPLOAD_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")

_PRIVATE_NAMES = ("localhost", "localdomain", "local", "internal", "home.arpa")  # as a host's ending
_PUBLIC_IN_FORM = frozenset({IPv4Address("168.63.129.16")})  # Azure's metadata; other clouds' stand in private ranges
_NAT64 = IPv6Network("64:ff9b::/96")
_IPV6_UNICAST = IPv6Network("2000::/3")  # all that is routed in public, tunnels included


@dataclass(frozen=True, slots=True)
class Link:
    kind: Kind
    url: str = ""  # what is fetched: YouTube's own page of the video, or the file's http(s) address
    id: str = ""  # of a YouTube video
    key: str = ""  # of an upload

    @property
    def canonical(self) -> str:
        """The link as it can be parsed again."""
        return f"upload:{self.key}" if self.kind == "upload" else self.url


@dataclass(frozen=True, slots=True)
class Collection:
    """Many videos: a playlist or an album, or what a channel shows."""

    kind: Many
    url: str
    id: str  # with an @ before a channel's handle, c/ or user/ before its older names


def parse(text: str, allowed_hosts: Sequence[str]) -> Link:
    """The one song that the text leads to. Looks up no name: `resolve` does, before a connection."""
    text = text.strip()
    if text.startswith("upload:"):
        return _upload(text)
    parts = _split(text)
    host = _host(parts, text)
    if _is_youtube(host):
        return _youtube(parts, host, text)
    return _web(parts, host, allowed_hosts)


def collection(text: str) -> Collection | None:
    """The list of videos that the text leads to, even where it leads to one of them, too. None if there is no list."""
    text = text.strip()
    if text.startswith("upload:"):
        return None
    parts = _split(text)
    if not _is_youtube(_host(parts, text)):
        return None
    return _channel(parts, text) or _playlist(parts, text)


def resolve(host: str, port: int, allowed_hosts: Sequence[str]) -> list[Address]:
    """The addresses behind a host, every one of them checked: connect to these and to no others."""
    literal = _literal(host)
    addresses = [literal] if literal else _looked_up(host, port)
    for address in addresses:
        if not _may_be_reached(address, port, allowed_hosts):
            raise ForbiddenAddress(host=host if literal else f"{host} ({address})")
    return addresses


# --- text to parts ----------------------------------------------------------------------------


def shown(text: str) -> str:
    """The link as its owner knows it, without what could be a password in it and without what cannot be shown."""
    text = re.sub(r"(//|^)[^/@]*@", r"\1…@", text)
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _bad(text: str) -> BadLink:
    return BadLink(link=shown(text))


def _upload(text: str) -> Link:
    key = text.removeprefix("upload:")
    if not _UPLOAD_KEY.fullmatch(key):
        raise _bad(text)
    return Link("upload", key=key)


def _split(text: str) -> SplitResult:
    """The parts of an http(s) link; its scheme may be missing."""
    # Programs disagree on where the host ends if there is a backslash, a space or a control character.
    if not text or len(text) > LONGEST or "\\" in text or any(unicodedata.category(c)[0] in "CZ" for c in text):
        raise _bad(text)
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise _bad(text)
    try:
        parts = urlsplit(text if scheme else "https://" + text.removeprefix("//"))
        impossible = parts.port == 0 or "@" in parts.netloc
    except ValueError:
        raise _bad(text) from None
    just_a_word = scheme is None and not re.search(r"[.\]]|^localhost\b", parts.netloc)
    if impossible or just_a_word:
        raise _bad(text)
    return parts


def _host(parts: SplitResult, text: str) -> str:
    """The host in its one spelling: lower case, ASCII, without a last dot; an address as digits and dots."""
    try:
        # As browsers do, before anything is compared: fullwidth letters and digits are letters and digits.
        host = unicodedata.normalize("NFKC", parts.hostname or "").removesuffix(".")
        if ":" in host:
            return str(IPv6Address(host.replace("%", "no zones")))
        host = host if host.isascii() else host.encode("idna").decode()
        host = host.lower()
        last = host.rpartition(".")[2]
        host = str(_ipv4(host)) if _NUMBER.fullmatch(last) else host
    except ValueError:
        raise _bad(text) from None
    if not _HOST.fullmatch(host):
        raise _bad(text)
    return host


def _ipv4(text: str) -> IPv4Address:
    """An address in any of the spellings that resolvers take: 127.1, 2130706433, 0177.0.0.1, 0x7f.1"""
    *heads, last = [_number(part) for part in text.split(".")]
    if len(heads) > 3 or any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        raise ValueError(text)
    return IPv4Address(sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)


# --- YouTube ----------------------------------------------------------------------------------


def _is_youtube(host: str) -> bool:
    return _belongs(host, "youtube.com", "youtu.be", "youtube-nocookie.com")


def _belongs(host: str, *sites: str) -> bool:
    return any(host == site or host.endswith("." + site) for site in sites)


def _path(parts: SplitResult) -> list[str]:
    return [part for part in parts.path.split("/") if part]


def _query(parts: SplitResult) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(parts.query, separator="&").items()}


def _youtube(parts: SplitResult, host: str, text: str) -> Link:
    place, asked = _path(parts), _query(parts)
    id = _video_id(place, asked, short=host.endswith("youtu.be"))
    if id:
        return Link("youtube", url=f"https://www.youtube.com/watch?v={id}", id=id)
    first = place[0] if place else ""
    if first.startswith("@") or first in ("channel", "user", "c") or place == ["embed", "live_stream"]:
        raise NotOneSong(what="channel")
    if first in ("playlist", "browse", "watch_videos") or "list" in asked:
        raise NotOneSong(what="playlist")
    raise _bad(text)


def _video_id(place: list[str], asked: dict[str, str], *, short: bool) -> str | None:
    match place:
        case [first, *_] if short and first != "watch":
            candidate = first
        case ["embed" | "v" | "e" | "shorts" | "live" | "watch", second, *_]:
            candidate = second
        case [] | ["watch" | "watch_popup" | "movie"]:
            candidate = asked.get("v", "")
        case _:
            return None
    # What follows the id (as in "?v=ID?t=5") is ignored, as YouTube does.
    found = _VIDEO_ID.match(candidate)
    return found[0] if found and found[0] not in _NOT_AN_ID else None


def _playlist(parts: SplitResult, text: str) -> Collection | None:
    match _path(parts):
        case ["browse", id, *_] if _ALBUM_ID.fullmatch(id):
            return Collection("playlist", f"https://music.youtube.com/browse/{id}", id)
        case ["browse", id, *_]:
            candidate = id if id.startswith("VL") else ""
        case _:
            candidate = _query(parts).get("list")
    if candidate is None:
        return None
    found = _LIST_ID.fullmatch(candidate)
    if not found:
        raise _bad(text)
    id = found[1]
    if id in _PERSONAL:
        raise PersonalList
    if _MIX.match(id):
        raise EndlessMix
    return Collection("playlist", f"https://www.youtube.com/playlist?list={id}", id)


def _channel(parts: SplitResult, text: str) -> Collection | None:
    """Whichever of its tabs is open: its videos are meant."""
    match _path(parts):
        case [first, *_] if first.startswith("@"):
            place, name = "@", first[1:]
        case [("c" | "user") as first, name, *_]:
            place = f"{first}/"
        case ["channel", id, *_]:
            place, name = "channel/", id if _CHANNEL_ID.fullmatch(id) else ""
        case ["browse", id, *_] if _CHANNEL_ID.fullmatch(id):
            place, name = "channel/", id
        case _:
            return None
    name = unicodedata.normalize("NFC", unquote(name))
    if len(name) > _LONGEST_NAME or not all(map(_may_name_a_channel, name)) or not any(map(str.isalnum, name)):
        raise _bad(text)
    return Collection(
        "channel", f"https://www.youtube.com/{place}{quote(name)}", f"{place}{name}".removeprefix("channel/")
    )


def _may_name_a_channel(character: str) -> bool:
    """Letters of any script with their marks, digits, and the few signs that YouTube takes."""
    return unicodedata.category(character)[0] in "LMN" or character in "._-·"


# --- other hosts ------------------------------------------------------------------------------


def _web(parts: SplitResult, host: str, allowed_hosts: Sequence[str]) -> Link:
    port = parts.port or (80 if parts.scheme == "http" else 443)
    address = _literal(host)
    if address and not _may_be_reached(address, port, allowed_hosts):
        raise ForbiddenAddress(host=host)
    if not _is_allowed(host, port, allowed_hosts) and not (address and _is_private(address)):
        if _belongs(host, *_PRIVATE_NAMES):
            raise ForbiddenAddress(host=host)
        raise HostNotAllowed(host=host)
    shown = f"[{host}]" if ":" in host else host
    default = parts.port in (None, 80 if parts.scheme == "http" else 443)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?") if parts.query else ""
    return Link("web", url=f"{parts.scheme}://{shown}{'' if default else f':{parts.port}'}{path}{query}")


def _is_allowed(host: str, port: int, allowed_hosts: Sequence[str]) -> bool:
    """ALLOWED_HOSTS names it: `host` stands for each of its ports, `host:port` for that one."""
    return any(entry in ((host, None), (host, port)) for entry in map(_entry, allowed_hosts))


def _entry(text: str) -> tuple[str, int | None]:
    if text.count(":") > 1 and "[" not in text:
        text = f"[{text}]"  # an IPv6 address without a port
    try:
        parts = urlsplit("//" + text.strip())
        return _host(parts, text), parts.port
    except (ValueError, BadLink):
        return "", None  # matches nothing


# --- addresses --------------------------------------------------------------------------------


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _looked_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DownloadFailed(reason=f"the name {host} leads to no address.") from None
    return [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]


def _may_be_reached(address: Address, port: int, allowed_hosts: Sequence[str]) -> bool:
    address = _unwrapped(address)
    named = _is_allowed(str(address), port, allowed_hosts)
    return named or not _is_private(address) or (address.is_loopback and _is_allowed("localhost", port, allowed_hosts))


def _is_private(address: Address) -> bool:
    """Not an address of the public internet, so whatever answers there was not meant for everybody."""
    address = _unwrapped(address)
    if isinstance(address, IPv4Address):
        return not address.is_global or address.is_multicast or address in _PUBLIC_IN_FORM
    tunnel = address.sixtofour is not None or address.teredo is not None
    return not address.is_global or address not in _IPV6_UNICAST or tunnel


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it only does that."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
