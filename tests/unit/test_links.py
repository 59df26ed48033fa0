from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import links
from infra.errors import BadLink, DownloadFailed, ForbiddenAddress, HostNotAllowed, NotOneSong, UserError
from infra.links import Link

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
        "file:///etc/passwd",
        "/etc/passwd",
        "javascript:alert(1)",
        "data:text/html,hello",
        "mailto:a@b.example",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        f"https://somebody@www.youtube.com/watch?v={ID}",
        f"https://www.youtube.com@10.0.0.1/watch?v={ID}",
        f"https://10.0.0.1\\@www.youtube.com/watch?v={ID}",
        f"https://www.youtube.com/watch?v={ID}\x00",
        f"https://www.youtube.com/watch?v={ID}\r\nHost: evil",
        f"https://www.you\ttube.com/watch?v={ID}",
        f"https://www.youtube.com/watch?v={ID} https://example.com",
        f"https://www.youtube.com:99999/watch?v={ID}",
        f"https://www.youtube.com:0/watch?v={ID}",
        f"https://www.youtube.com/watch?v={ID}&x=" + "x" * 3000,
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "https://1.2.3.4.5/",
        "https://1.1.1.256/",
        "https://127%2e0.0.1/",
        "https://exa mple.com/",
        "https://a..example.com/",
        "upload:",
        "upload:../../etc/passwd",
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


def test_lookalikes_of_youtube_are_other_hosts() -> None:
    for host in ("youtube.com.evil.example", "notyoutube.com", "youtu.be.evil.example", "yоutube.com"):
        with pytest.raises(HostNotAllowed):
            links.parse(f"https://{host}/watch?v={ID}", ())


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
    f"\\ % # . .. [ ] {ID} watch shorts/ é ١ ß ℀".split(" ")
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


@given(
    st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True), st.sampled_from(["watch?v=", "shorts/", "live/", "v/", "e/"])
)
def test_any_id_in_any_shape_is_found(id: str, shape: str) -> None:
    assert links.parse(f"https://m.youtube.com/{shape}{id}?si=x&list=y", ()).id == id


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
