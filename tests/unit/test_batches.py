"""Batches, where no database is needed: what is asked for, what is said of the whole."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.batch import about
from flows.many import links_in
from infra.api import batches as api
from infra.errors import BadLink, BadRequest, HostNotAllowed, MissingFile, NotOneSong, TooManyLinks
from infra.jobs.batches import Batch
from infra.jobs.request import Queue, Request
from tasks import wanted
from tasks.playlist import Playlist

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE, OTHER = "https://youtu.be/harborlight", "https://youtu.be/longsong999"
LIST = "https://www.youtube.com/playlist?list=PLharboursongs"


def ask(link: str) -> Request:
    return Request(link=link, language="en")


def batch(status: str = "listed", **fields: Any) -> Batch:
    return Batch.model_validate({"id": "1", "status": status, "created_at": NOW, "updated_at": NOW, **fields})


# --- links to songs -----------------------------------------------------------------------------


def test_each_link_is_a_song_of_the_batch_at_its_place_and_behind_people() -> None:
    songs = wanted.of_texts([f"  {ONE}?si=x ", OTHER], ask, "b")
    assert [song.request.link for song in songs.wanted] == [
        "https://www.youtube.com/watch?v=harborlight",
        "https://www.youtube.com/watch?v=longsong999",
    ]
    assert [(song.batch, song.place, song.queue, song.video_id) for song in songs.wanted] == [
        ("b", 0, Queue.BATCH, "harborlight"),
        ("b", 1, Queue.BATCH, "longsong999"),
    ]
    assert {song.request.language for song in songs.wanted} == {"en"}


def test_two_links_to_the_same_song_are_one_row_at_the_first_ones_place() -> None:
    songs = wanted.of_texts(
        [ONE, OTHER, "https://music.youtube.com/watch?v=harborlight&list=PLx", "nothing", "nothing"], ask, "b"
    )
    assert [song.place for song in songs.wanted] == [0, 1, 3]
    assert songs.twice == 2


def test_what_is_no_link_is_a_line_with_its_reason_and_without_its_secrets() -> None:
    bad = ["", "no link", "https://me:secret@youtube.com/", "https://evil.example/a", LIST, "x" * 9000, "\x00"]
    songs = wanted.of_texts([*bad, ONE], ask, "b")
    refused = [song.refused for song in songs.wanted]
    assert [type(error) for error in refused] == [
        BadLink,
        BadLink,
        BadLink,
        HostNotAllowed,
        NotOneSong,
        BadLink,
        BadLink,
        type(None),
    ]
    assert not any("secret" in song.request.link for song in songs.wanted)
    assert len({song.id for song in songs.wanted}) == len(bad) + 1


@given(st.lists(st.text()))
def test_whatever_stands_in_a_batch_is_a_song_or_a_refused_line(texts: list[str]) -> None:
    songs = wanted.of_texts(texts, ask, "b")
    assert len(songs.wanted) + songs.twice == len(texts)
    assert [song.place for song in songs.wanted] == sorted({song.place or 0 for song in songs.wanted})


# --- what is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"links": [ONE, OTHER]}, ([ONE, OTHER], None)),
        ({"playlist": LIST}, ([], LIST)),
        ({"links": [LIST]}, ([LIST], LIST)),
        ({"links": [f"{ONE}?list=PLharboursongs"]}, ([f"{ONE}?list=PLharboursongs"], None)),
        ({"links": [LIST, ONE]}, ([LIST, ONE], None)),
        ({"links": ["nothing"]}, (["nothing"], None)),
    ],
)
def test_links_or_a_playlist_are_asked_for(asked: dict[str, Any], found: tuple[list[str], str | None]) -> None:
    assert api.texts_of(asked) == found


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"links": []},
        {"links": "https://youtu.be/harborlight"},
        {"links": [1]},
        {"links": [None]},
        {"playlist": ""},
        {"playlist": [LIST]},
        {"playlist": LIST, "links": [ONE]},
    ],
)
def test_neither_or_both_or_something_else_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r'^Give "links"'):
        api.texts_of(asked)


def test_more_than_500_links_are_refused() -> None:
    assert len(api.texts_of({"links": [ONE] * 500})[0]) == 500
    with pytest.raises(TooManyLinks, match=r"^These are 501 links; a batch takes at most 500\.$"):
        api.texts_of({"links": [ONE] * 501})


# --- what is said of the whole ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"total": 3, "queued": 2, "completed": 1}, "processing", "1 of 3 songs are done"),
        ({"total": 3, "processing": 1, "completed": 1, "failed": 1}, "processing", "1 of 3 songs are done, 1 failed"),
        ({"total": 50, "completed": 47, "failed": 3}, "completed", "47 of 50 songs are done, 3 failed"),
        ({"total": 1, "completed": 1}, "completed", "1 of 1 song is done"),
        ({"total": 2, "completed": 1, "cancelled": 1}, "completed", "1 of 2 songs are done, 1 cancelled"),
        (
            {"total": 2, "completed": 2, "message": "It is longer: these are the first 2."},
            "completed",
            "2 of 2 songs are done. It is longer: these are the first 2.",
        ),
        (
            {
                "total": 2,
                "queued": 2,
                "message": "It is longer: these are the first 2.",
                "waits": "Waiting until 12:00 UTC",
            },
            "processing",
            "0 of 2 songs are done. It is longer: these are the first 2. Waiting until 12:00 UTC",
        ),
        ({"status": "listing", "message": "Listing its songs"}, "listing", "Listing its songs"),
        ({"status": "error", "message": "It is private."}, "error", "It is private."),
        ({"status": "cancelled"}, "cancelled", "Cancelled before its songs were listed"),
        ({"status": "cancelled", "total": 2, "cancelled": 2}, "cancelled", "0 of 2 songs are done, 2 cancelled"),
    ],
)
def test_the_whole_is_told_in_one_sentence(fields: dict[str, Any], status: str, message: str) -> None:
    told = api.told(batch(**fields))
    assert (told["status"], told["message"]) == (status, message)


def test_a_list_that_is_not_made_as_a_whole_says_so() -> None:
    assert about(Playlist("Songs", ())) == ""
    assert about(Playlist("Songs", (), more=True, left_out=2)) == (
        "It is longer: these are the first 0. 2 private, deleted or live ones are left out."
    )


# --- the file of links --------------------------------------------------------------------------


def test_a_file_holds_a_link_a_line_and_words_for_people(tmp_path: Path) -> None:
    file = tmp_path / "links.txt"
    file.write_text(f"\ufeff# my songs\n\n  {ONE}  \r\n{OTHER}#t=1 # the long one\n", encoding="utf-8")
    assert links_in(str(file)) == [ONE, f"{OTHER}#t=1"]


def test_a_dash_reads_the_links_from_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ONE}\n{OTHER}\n"))
    assert links_in("-") == [ONE, OTHER]


def test_a_file_without_links_or_that_is_no_text_is_refused(tmp_path: Path) -> None:
    empty, sound = tmp_path / "empty.txt", tmp_path / "song.opus"
    empty.write_text("# nothing yet\n")
    sound.write_bytes(b"OggS\xff\xfe\x00")
    with pytest.raises(BadRequest, match="There is no link in"):
        links_in(str(empty))
    with pytest.raises(BadRequest, match="is not a text"):
        links_in(str(sound))
    with pytest.raises(MissingFile):
        links_in(str(tmp_path / "gone.txt"))


def test_a_batch_takes_no_lyrics() -> None:
    with pytest.raises(BadRequest, match=r"^lyrics: they are one song's"):
        api.submit(None, {"links": [ONE, OTHER], "lyrics": "La la"})  # type: ignore[arg-type]
