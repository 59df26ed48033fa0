"""What a list holds, as the real yt-dlp reads it from loopback's YouTube."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from infra import links
from infra.errors import EmptyPlaylist, NotListed, PlaylistUnavailable, RateLimited, UserError
from infra.links import Collection
from tasks import playlist
from tasks.playlist import Playlist, listed
from tests.fakes.media import MediaServer
from tests.fakes.playlists import Entry, song
from tests.fakes.playlists import Playlist as Listed

CHANNEL = "https://www.youtube.com/channel/UCharbourchannel00000001"


@pytest.fixture(autouse=True)
def youtube(media: MediaServer) -> Generator[MediaServer]:
    with media.as_youtube():
        yield media


def collection(text: str) -> Collection:
    found = links.collection(text)
    assert found is not None
    return found


def named(id: str) -> Collection:
    return collection(f"https://www.youtube.com/playlist?list={id}")


def ids(found: Playlist) -> list[str]:
    return [link.id for link in found.links]


def test_a_playlist_is_its_videos_in_their_order_without_what_is_private() -> None:
    found = listed(named("PLharboursongs"), 500)
    assert found.title == "Songs of the harbour"
    assert ids(found) == ["harborlight", "longsong999"]
    assert found.links[0] == links.parse("https://youtu.be/harborlight", ())
    assert (found.more, found.left_out) == (False, 1)


def test_of_a_long_playlist_the_first_ones_are_taken_and_no_page_more_is_asked_for(youtube: MediaServer) -> None:
    before = len(youtube.asked)
    found = listed(named("PLmanysongs000"), 150)
    assert ids(found) == [song(number) for number in range(150)]
    assert found.more
    calls = [path for path, _ in youtube.asked[before:]]
    assert len([call for call in calls if "continuation" in call]) == 1


def test_a_playlist_that_is_as_long_as_the_limit_has_no_more() -> None:
    assert not listed(named("PLharboursongs"), 2).more
    assert len(listed(named("PLmanysongs000"), 620).links) == 620


def test_a_video_that_stands_in_it_twice_is_one_song(youtube: MediaServer) -> None:
    youtube.playlists["PLtwice0000000"] = Listed(entries=("harborlight", "longsong999", "harborlight"))
    assert ids(listed(named("PLtwice0000000"), 500)) == ["harborlight", "longsong999"]
    assert not listed(named("PLtwice0000000"), 2).more


def test_an_entry_with_an_id_that_is_none_is_left_out(youtube: MediaServer) -> None:
    youtube.playlists["PLstrange00000"] = Listed(entries=(Entry("../../etc"), Entry("http://10.0.0.1/"), "harborlight"))
    found = listed(named("PLstrange00000"), 500)
    assert (ids(found), found.left_out) == (["harborlight"], 2)


@pytest.mark.parametrize("place", ["", "/videos", "/shorts"])
def test_a_channel_is_its_videos_without_shorts_and_what_is_live(place: str) -> None:
    found = listed(collection(CHANNEL + place), 500)
    assert (found.title, ids(found), found.left_out) == ("The Demo Singers", ["harborlight"], 1)


def test_a_channel_is_found_by_its_handle() -> None:
    assert ids(listed(collection("https://www.youtube.com/@demosingers"), 500)) == ["harborlight"]


def test_an_album_of_youtube_music_is_its_playlist() -> None:
    found = listed(collection("https://music.youtube.com/browse/MPREb_harbour"), 500)
    assert found.title == "Songs of the harbour"


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("PLnothinghere0", EmptyPlaylist, "This playlist holds no video that can be fetched."),
        ("PLeverybodygoes", EmptyPlaylist, "This playlist holds no video that can be fetched."),
        ("PLprivatelist0", PlaylistUnavailable, "YouTube does not give out this playlist: This playlist is private."),
        (
            "PLunknown00000",
            PlaylistUnavailable,
            "YouTube does not give out this playlist: The playlist does not exist.",
        ),
        ("@nobodyatall", PlaylistUnavailable, "YouTube does not give out this channel: YouTube answers 404 Not Found."),
        ("PLapidown50000", NotListed, "The playlist could not be listed: YouTube answers 503 Service Unavailable."),
        (
            "PLlimited42900",
            RateLimited,
            "YouTube limits this address for a while: YouTube answers 429 Too Many Requests.",
        ),
    ],
)
def test_what_youtube_refuses_is_one_sentence(text: str, error: type[UserError], sentence: str) -> None:
    asked = collection(f"https://www.youtube.com/{text}") if text.startswith("@") else named(text)
    with pytest.raises(UserError) as caught:
        listed(asked, 500)
    assert str(caught.value) == sentence
    assert type(caught.value) is error


def test_a_youtube_that_is_away_is_a_passing_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_YOUTUBE", "http://127.0.0.1:9")
    with pytest.raises(NotListed, match=r"^The playlist could not be listed: the connection to YouTube broke off"):
        listed(named("PLharboursongs"), 500)


def test_a_list_that_takes_too_long_is_a_passing_failure(youtube: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playlist, "LISTING_DEADLINE", 0.001)
    with pytest.raises(NotListed, match="YouTube took more than"):
        listed(named("PLmanysongs000"), 620)
