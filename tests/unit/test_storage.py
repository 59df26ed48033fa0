"""What is kept, how long nobody used it, and how it goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from infra.jobs.request import Format
from infra.storage import LocalStorage
from tasks import cache
from tasks.publish import folder_of, publish
from tasks.song import Audio, Line, Song, Word

DAY = 24 * 3600.0
SONG = Song((Line((Word("Harbor", 1.0, 1.5, 0.9), Word("light", 1.5, 2.0, 0.8))),), "en", 3.0, title="Harbor Light")


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "files")


def age(store: LocalStorage, days: float) -> None:
    """Everything in the storage was written so long ago."""
    then = time.time() - days * DAY
    for path in store.folder.rglob("*"):
        os.utime(path, (then, then))


def test_what_nobody_used_for_long_is_found_with_all_that_belongs_to_it(store: LocalStorage) -> None:
    store.put("audio/old/audio.opus", b"la")
    store.put("audio/old/about.json", b"{}")
    age(store, days=100)
    store.put("audio/new/audio.opus", b"la")
    assert store.unused("audio", 90 * DAY) == ["audio/old"]
    store.remove("audio/old")
    assert not store.path("audio/old").exists()
    assert store.exists("audio/new/audio.opus")


def test_one_new_file_keeps_its_folder(store: LocalStorage) -> None:
    store.put("audio/song/audio.opus", b"la")
    age(store, days=100)
    store.put("audio/song/about.json", b"{}")
    assert store.unused("audio", 90 * DAY) == []


def test_audio_that_is_used_again_is_as_good_as_new(store: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "song.opus").write_bytes(b"la")
    cache.keep(store, "song", Audio(tmp_path / "song.opus", 3.0))
    age(store, days=100)
    assert cache.kept(store, "song") is not None
    assert store.unused("audio", 90 * DAY) == []


def test_a_write_that_was_broken_off_is_found_once_it_is_old(store: LocalStorage) -> None:
    store.put("transcriptions/job/results.json", b"{}")
    store.path("transcriptions/job/.half.part").write_bytes(b"{")
    assert store.broken_off(DAY) == []
    age(store, days=2)
    assert store.broken_off(DAY) == ["transcriptions/job/.half.part"]


def test_an_empty_storage_holds_nothing_old(store: LocalStorage) -> None:
    assert store.unused("stages", 0) == []
    store.remove("stages/never-there.json")


def test_a_song_that_is_sung_and_not_published_is_taken_up_as_it_was(store: LocalStorage) -> None:
    assert cache.kept_song(store, "abc") is None
    cache.keep_song(store, "abc", SONG)
    assert cache.kept_song(store, "abc") == SONG
    cache.forget_song(store, "abc")
    assert cache.kept_song(store, "abc") is None


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"words": 1}', b'{"lines": [{"text": "x"}]}', b"\xff\xfe"])
def test_a_kept_song_that_cannot_be_read_is_sung_again(store: LocalStorage, broken: bytes) -> None:
    store.put("stages/abc.json", broken)
    assert cache.kept_song(store, "abc") is None


def test_racers_publish_side_by_side(store: LocalStorage) -> None:
    here, there = (publish(store, folder_of("job", racer), SONG) for racer in ("cuda", "modal"))
    alone = publish(store, folder_of("job"), SONG)
    assert len({here.results_url, there.results_url, alone.results_url}) == 3
    assert alone.results_url == "/files/transcriptions/job/results.json"
    assert set(alone.files) == set(Format)
