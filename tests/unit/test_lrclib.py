"""LRCLIB asked for lyrics over real HTTP: what it has is taken, what goes wrong there costs seconds and no song."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from infra.jobs.request import LONGEST_LYRICS, Request
from infra.jobs.stages import Stage, silent
from infra.settings import settings
from tasks.known import lrclib
from tasks.known.lrclib import NoLyrics, with_lyrics
from tasks.known.titles import named
from tasks.song import Audio
from tests.fakes.lrclib import Fault, LrclibServer

WORDS = "So carry me over the water,\ncarry me back to the shore."
REQUEST = Request(link="-")


@pytest.fixture(scope="module")
def the_server() -> Generator[LrclibServer]:
    with LrclibServer() as server:
        yield server


@pytest.fixture
def server(the_server: LrclibServer, monkeypatch: pytest.MonkeyPatch) -> Generator[LrclibServer]:
    the_server.forget()
    the_server.tracks["Nobody", "Harbor Light"] = {"duration": 3.4, "plainLyrics": WORDS}
    for name, value in the_server.environment().items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    yield the_server
    monkeypatch.undo()
    settings.cache_clear()


def say(sentence: str) -> None:
    """Nobody listens."""


def test_the_song_gets_the_lyrics_of_its_artist_title_and_length(server: LrclibServer, audio: Audio) -> None:
    assert with_lyrics(audio, REQUEST, silent).lyrics == WORDS
    [asked] = server.asked
    assert asked.query == {"artist_name": "Nobody", "track_name": "Harbor Light", "duration": "3"}
    assert asked.agent.startswith("yt-lyrics v")


def test_lyrics_with_times_will_do(server: LrclibServer, audio: Audio) -> None:
    server.tracks["Nobody", "Harbor Light"] = {"duration": 3, "syncedLyrics": "[00:01.00]So carry me"}
    assert lrclib.lyrics(audio, say) == "[00:01.00]So carry me"


@pytest.mark.parametrize(
    "track",
    [
        {"duration": 5.4, "plainLyrics": WORDS},
        {"duration": 3, "instrumental": True},
        {"duration": 3, "plainLyrics": "  "},
        {"duration": 3, "plainLyrics": "la " * LONGEST_LYRICS},
    ],
)
def test_another_recording_or_no_words_are_none(server: LrclibServer, audio: Audio, track: dict[str, object]) -> None:
    server.tracks["Nobody", "Harbor Light"] = track
    assert lrclib.lyrics(audio, say) is None


def test_nobody_is_asked_where_it_is_not_wanted(
    server: LrclibServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_lyrics(audio, REQUEST.but(lyrics="Mine"), silent) is audio
    assert with_lyrics(replace(audio, artist=None), REQUEST, silent).lyrics is None  # a title alone is no song
    monkeypatch.setenv("LRCLIB", "false")
    settings.cache_clear()
    assert with_lyrics(audio, REQUEST, silent) is audio
    assert server.asked == []


def test_a_busy_moment_is_waited_out(server: LrclibServer, audio: Audio) -> None:
    server.fault(Fault(status=429, retry_after="0"))
    assert lrclib.lyrics(audio, say) == WORDS
    server.fault(Fault(status=503))
    assert lrclib.lyrics(audio, say) == WORDS
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([Fault(status=429, retry_after="3600")], "asked too often"),
        ([Fault(status=500), Fault(status=502)], "answers 502"),
        ([Fault(status=403)], "answers 403"),
        ([Fault(body=b"<html>")], "makes no sense"),
        ([Fault(body=b'{"duration": "long"}')], "makes no sense"),
        ([Fault(body=b"[]")], "makes no sense"),
        ([Fault(breaks=True)] * 2, "cannot be reached"),
        ([Fault(drips=True)], "in time"),
        ([Fault(hangs=True)] * 2, "in time"),
    ],
)
def test_what_goes_wrong_there_is_a_step_in_the_log(
    server: LrclibServer, audio: Audio, monkeypatch: pytest.MonkeyPatch, faults: list[Fault], reason: str
) -> None:
    monkeypatch.setattr(lrclib, "SILENT", 0.2)
    monkeypatch.setattr(lrclib, "PATIENCE", 1.0)
    monkeypatch.setattr(lrclib, "PAUSE", 0.0)
    server.fault(*faults)
    told: list[str] = []

    def report(stage: Stage, share: float, message: str, *, step: bool = False) -> None:
        told.extend([message] if step else [])

    assert with_lyrics(audio, REQUEST, report) == audio
    [sentence] = told
    assert sentence.startswith("No lyrics were found at LRCLIB: ")
    assert reason in sentence


def test_an_answer_without_end_is_given_up(server: LrclibServer, audio: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrclib, "LARGEST", 10)
    with pytest.raises(NoLyrics, match="no end"):
        lrclib.lyrics(audio, say)


def test_a_server_that_is_not_there_is_a_reason(
    server: LrclibServer, audio: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lrclib, "PAUSE", 0.0)
    monkeypatch.setenv("LRCLIB_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    with pytest.raises(NoLyrics, match="cannot be reached"):
        lrclib.lyrics(audio, say)


def test_a_cancel_ends_the_search(server: LrclibServer, audio: Audio) -> None:
    class Cancelled(Exception):
        pass

    def cancel(sentence: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        lrclib.lyrics(audio, cancel)


# --- artist and title ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "artist", "song"),
    [
        ("Adele - Hello (Official Music Video)", "AdeleVEVO", ("Adele", "Hello")),
        ("Hello", "Adele - Topic", ("Adele", "Hello")),
        ("Queen – Bohemian Rhapsody (Official Video Remastered)", None, ("Queen", "Bohemian Rhapsody")),
        ("Rosalía - “MALAMENTE” | Official Video", None, ("Rosalía", "MALAMENTE")),
        ("Harbor Light - The Demo Singers [HD]", "The Demo Singers", ("The Demo Singers", "Harbor Light")),
        ("Daft Punk - Get Lucky (Official Audio) ft. Pharrell", None, ("Daft Punk", "Get Lucky")),
        ("Help! - Remastered 2009", "The Beatles", ("The Beatles", "Help!")),
        ("a-ha - Take On Me", "a-ha", ("a-ha", "Take On Me")),
        ("Halo: Live in Paris", "Beyoncé", ("Beyoncé", "Halo: Live in Paris")),
    ],
)
def test_titles_tell_artist_and_song(title: str, artist: str | None, song: tuple[str, str]) -> None:
    assert named(title, artist) == song


@tried(deadline=None)
@given(st.none() | st.text(max_size=40), st.none() | st.text(max_size=20))
def test_what_is_named_is_never_empty(title: str | None, artist: str | None) -> None:
    song = named(title, artist)
    assert song is None or all(part.strip() for part in song)
