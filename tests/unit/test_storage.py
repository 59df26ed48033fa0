"""What is kept, how long nobody used it, and how it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from infra import settings as configuration
from infra.api.app import create_app
from infra.errors import MissingFile
from infra.jobs.request import Format
from infra.storage import LocalStorage, content_type
from tasks import cache
from tasks.publish import folder_of, publish, unpublish
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


def test_the_files_of_who_lost_a_race_go_and_the_winners_stay(store: LocalStorage) -> None:
    for racer in ("cuda", "modal"):
        publish(store, folder_of("job", racer), SONG)
    unpublish(store, folder_of("job", "cuda"))
    kept = [path.name for path in store.path("transcriptions/job/modal").iterdir()]
    assert len(kept) == len(Format)
    assert list(store.path("transcriptions/job/cuda").iterdir()) == []
    unpublish(store, folder_of("job", "cuda"))


# --- reading --------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_missing(store: LocalStorage) -> None:
    for look in (store.read, store.file):
        with pytest.raises(MissingFile, match=r"There is no file audio/x/about\.json"):
            look("audio/x/about.json")
    store.put("audio/x/about.json", b"{}")
    assert store.read("audio/x/about.json") == b"{}"
    assert store.file("audio/x/about.json") == store.path("audio/x/about.json")
    with pytest.raises(MissingFile):
        store.file("audio/x")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b"])
def test_a_key_never_leads_out_of_the_folder(store: LocalStorage, key: str) -> None:
    for look in (store.exists, store.read, store.file, store.remove, store.path):
        with pytest.raises(MissingFile):
            look(key)


@given(st.from_regex(r"[\w ä?#%&+-]{1,20}(/[\w ä?#%&+-]{1,20}){0,3}", fullmatch=True))
def test_a_link_leads_back_to_its_key_and_a_file_to_its_own(key: str) -> None:
    store = LocalStorage(Path("/files of a test"))
    assert store.key(store.url(key)) == key
    assert store.key_of(store.path(key)) == key
    assert store.key_of(Path("/elsewhere")) is None


@pytest.mark.parametrize(
    ("key", "type"),
    [
        ("audio/x/audio.webm", "video/webm"),
        ("audio/x/audio.m4a", "audio/mp4"),
        ("audio/x/audio.mp3", "audio/mpeg"),
        ("audio/x/audio.opus", "audio/ogg"),
        ("audio/x/audio", "application/octet-stream"),
        ("audio/x/audio.html", "application/octet-stream"),
        ("audio/x/audio.svg", "application/octet-stream"),
        ("audio/x/audio.bin", "application/octet-stream"),
        ("transcriptions/x/results.json", "application/json"),
        ("transcriptions/x/subtitles.srt", "application/x-subrip"),
        ("transcriptions/x/subtitles.vtt", "text/vtt"),
        ("transcriptions/x/subtitles.lrc", "text/plain"),
        ("transcriptions/x/subtitles.elrc", "text/plain"),
        ("transcriptions/x/subtitles.ass", "text/plain"),
        ("transcriptions/x/subtitles.ttml", "text/plain"),
        ("transcriptions/x/subtitles.txt", "text/plain"),
    ],
)
def test_a_browser_acts_on_media_and_on_our_own_formats_alone(key: str, type: str) -> None:
    assert content_type(key) == type


# --- a bound on its size ----------------------------------------------------------------------------


def fill(store: LocalStorage, ages: dict[str, float], size: int = 100) -> None:
    """Audio of so many bytes each, used so many days ago."""
    for name, days in ages.items():
        store.put(f"audio/{name}/audio.opus", bytes(size))
        then = time.time() - days * DAY
        for path in (store.path(f"audio/{name}/audio.opus"), store.path(f"audio/{name}")):
            os.utime(path, (then, then))


def test_what_was_not_used_for_longest_goes_first_and_only_what_must(store: LocalStorage) -> None:
    fill(store, {"middle": 2, "oldest": 3, "newest": 1})
    assert store.trim("audio", 300) == []
    assert store.trim("audio", 250) == ["audio/oldest"]
    store.touch("audio/middle/audio.opus")
    assert store.trim("audio", 100) == ["audio/newest"]
    assert store.trim("audio", 0) == ["audio/middle"]
    assert store.trim("audio", 0) == []


def test_what_is_needed_stays_though_it_is_old_and_large(store: LocalStorage) -> None:
    fill(store, {"needed": 9, "old": 3, "new": 1})
    assert store.trim("audio", 150, ["audio/needed/audio.opus", "audio/gone/audio.opus"]) == ["audio/old", "audio/new"]
    assert store.trim("audio", 0, {"audio/needed"}) == []


def test_a_bound_concerns_its_prefix_alone(store: LocalStorage) -> None:
    fill(store, {"song": 1})
    store.put("transcriptions/job/results.json", bytes(1000))
    assert store.trim("audio", 100) == []
    assert store.trim("never", 0) == []


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 100), min_size=1), st.data())
def test_what_stays_fits_or_is_needed(ages: dict[str, float], data: st.DataObject) -> None:
    spare = data.draw(st.sets(st.sampled_from(sorted(ages))))
    most = data.draw(st.integers(0, 700))
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStorage(Path(folder))
        fill(store, ages)
        went = {key.removeprefix("audio/") for key in store.trim("audio", most, [f"audio/{name}/x" for name in spare])}
        left = set(ages) - went
        assert left == {path.name for path in store.path("audio").iterdir()}
        assert not went & spare
        assert 100 * len(left) <= most or left <= spare
        youngest_gone = min((ages[name] for name in went), default=float("inf"))
        assert all(ages[name] <= youngest_gone for name in left - spare)


def test_kept_audio_is_bound_by_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.delenv("CLOUDINARY_URL", raising=False)
    try:
        for most, went in (("never", []), ("0.0000002", ["audio/old"]), ("", [])):
            monkeypatch.setenv("MAX_AUDIO_GB", most)
            configuration.settings.cache_clear()
            fill(LocalStorage(tmp_path / "files"), {"old": 2, "older but needed": 3, "new": 1})
            assert cache.trim_audio(["audio/older but needed/audio.opus"]) == went
    finally:
        configuration.settings.cache_clear()


# --- what is on its way -----------------------------------------------------------------------------

DOWNLOADING = """
import sys, time
from pathlib import Path
from infra.storage import LocalStorage
with LocalStorage(Path(sys.argv[1])).incoming() as place:
    (place / "song.webm.part").write_bytes(b"half")
    print(place, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_download_left_goes_with_the_next_one_and_not_before_it_is_dead(store: LocalStorage) -> None:
    other = subprocess.Popen([sys.executable, "-c", DOWNLOADING, str(store.folder)], stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout is not None
        half = Path(other.stdout.readline().strip()) / "song.webm.part"
        try:
            with store.incoming():
                assert half.exists()
        finally:
            other.send_signal(signal.SIGKILL)
    assert half.exists()
    with store.incoming() as place:
        assert not half.exists()
        assert list(place.iterdir()) == []
        assert [folder.name for folder in store.path("incoming").iterdir()] == [place.parent.name]


def test_what_is_on_its_way_is_gone_whatever_ends_it(store: LocalStorage) -> None:
    with suppress(KeyboardInterrupt), store.incoming() as place:
        (place / "song.webm.part").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(store.path("incoming").iterdir()) == []


def test_many_are_on_their_way_at_once(store: LocalStorage) -> None:
    with store.incoming() as one, store.incoming() as another, store.incoming() as third:
        assert len({one, another, third}) == 3
        assert all(place.is_dir() for place in (one, another, third))


def test_what_has_no_lock_is_left_to_the_night(store: LocalStorage) -> None:
    store.put("incoming/an upload", b"la")
    store.put("incoming/a folder/of another kind", b"la")
    with store.incoming():
        assert store.exists("incoming/an upload")
        assert store.exists("incoming/a folder/of another kind")


def test_what_arrived_is_kept_from_where_it_was(store: LocalStorage) -> None:
    with store.incoming() as place:
        (place / "song.webm").write_bytes(b"la")
        key, audio = cache.keep(store, "abc", Audio(place / "song.webm", 3.0))
    assert (key, audio.path.read_bytes()) == ("audio/abc/audio.webm", b"la")


# --- served by the API ------------------------------------------------------------------------------


@pytest.fixture
def client(store: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[TestClient]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    configuration.settings.cache_clear()
    yield TestClient(create_app(configuration.settings()))
    configuration.settings.cache_clear()


def test_the_api_serves_any_part_of_a_kept_file(client: TestClient, store: LocalStorage) -> None:
    url = store.put("audio/abc/audio.opus", b"0123456789")
    answer = client.get(url, headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (206, b"234", "audio/ogg")
    assert answer.headers["content-range"] == "bytes 2-4/10"


def test_the_api_serves_audio_and_results_and_nothing_else(client: TestClient, store: LocalStorage) -> None:
    result = client.get(store.put("transcriptions/1/results.json", b"{}"))
    assert (result.json(), result.headers["content-disposition"]) == ({}, 'inline; filename="results.json"')
    page = client.get(store.put("audio/abc/audio.html", b"<script>"))
    assert page.headers["content-type"] == "application/octet-stream"
    for key in ("stages/1.json", "incoming/x"):
        store.put(key, b"{}")
    for key in ("stages/1.json", "incoming/x", "audio/../stages/1.json", "audio/never.opus", "audio/abc"):
        assert client.get(store.url(key)).status_code == 404
