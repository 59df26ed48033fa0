"""Files on Cloudinary: the real SDK and our delivery calls against Cloudinary as loopback plays it."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import doctor
from flows.doctor import Verdict
from flows.upkeep import leftovers, old_audio
from infra import storage as storages
from infra.errors import BadRequest, MissingFile, StorageAway, StorageRefused, UserError
from infra.jobs import nightly
from infra.jobs.request import Format
from infra.settings import settings
from infra.storage import CloudinaryStorage, here, link, on_this_machine, storage, there
from infra.storage import cloudinary as ours
from infra.storage.cloudinary import account, asset
from tasks import cache
from tasks.publish import folder_of, publish, unpublish
from tasks.song import Audio, Line, Song, Word
from tests.fakes.cloudinary import CLOUD, KEY, SECRET, CloudinaryServer, Fault

SONG = Song((Line((Word("Harbor", 1.0, 1.5, 0.9), Word("light", 1.5, 2.0, 0.8))),), "en", 3.0, title="Harbor Light")
ABOUT = "audio/abc/about.json"
SOUND = "audio/abc/audio.webm"
GOOD = "cloudinary://key:secret@cloud"


@pytest.fixture
def cloudinary() -> Generator[CloudinaryServer]:
    with CloudinaryServer() as server:
        yield server
        assert server.requests("admin") == []  # it allows 500 calls an hour


@pytest.fixture
def store(cloudinary: CloudinaryServer, tmp_path: Path) -> CloudinaryStorage:
    return CloudinaryStorage.at(cloudinary.url, tmp_path / "copies")


@pytest.fixture
def configured(cloudinary: CloudinaryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """CLOUDINARY_URL names it, and the data folder is empty."""
    monkeypatch.setenv("CLOUDINARY_URL", cloudinary.url)
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "download" / "song.webm"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 8 + b"\r\n--\r\n")
    return path


# --- there and back -------------------------------------------------------------------------------


def test_a_document_comes_back_as_it_was_put(cloudinary: CloudinaryServer, store: CloudinaryStorage) -> None:
    url = store.put("transcriptions/1/results.json", b'{"words": []}', job="1")
    kept = cloudinary.assets["raw", "transcriptions/1/results.json"]
    assert url == f"http://{cloudinary.host}/{CLOUD}/raw/upload/v{kept.version}/transcriptions/1/results.json"
    assert kept.tags == ("yt-lyrics", "job-1")
    assert httpx.get(url).json() == {"words": []}
    assert store.read("transcriptions/1/results.json") == b'{"words": []}'
    assert store.key(url) == "transcriptions/1/results.json"


def test_sound_is_a_video_without_a_suffix_in_its_id(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    content = sound.read_bytes()
    url = store.keep(SOUND, sound)
    kept = cloudinary.assets["video", "audio/abc/audio"]
    assert (kept.content, kept.format, kept.tags) == (content, "webm", ("yt-lyrics",))
    assert url.endswith(f"/video/upload/v{kept.version}/audio/abc/audio.webm")
    assert store.url(SOUND).endswith("/video/upload/v1/audio/abc/audio.webm")
    assert httpx.get(store.url(SOUND), headers={"Range": "bytes=2-4"}).content == content[2:5]
    assert not sound.exists()


def test_who_uploaded_a_sound_does_not_fetch_it_again(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    content = sound.read_bytes()
    store.keep(SOUND, sound)
    assert store.file(SOUND).read_bytes() == content
    assert store.key_of(store.file(SOUND)) == SOUND
    assert cloudinary.requests("GET") == []


def test_another_machine_fetches_it_once(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path, tmp_path: Path
) -> None:
    content = sound.read_bytes()
    store.keep(SOUND, sound)
    other = CloudinaryStorage.at(cloudinary.url, tmp_path / "another machine")
    assert other.file(SOUND).read_bytes() == content
    assert other.file(SOUND).read_bytes() == content
    assert len(cloudinary.requests("GET")) == 1


def test_whether_a_file_is_there_is_asked_of_its_delivery_link(
    cloudinary: CloudinaryServer, store: CloudinaryStorage
) -> None:
    assert not store.exists(SOUND)
    cloudinary.hold("video", "audio/abc/audio", b"la", "m4a")
    assert store.exists(SOUND)
    assert [asked.method for asked in cloudinary.asked] == ["HEAD", "HEAD"]


def test_a_file_that_is_not_there_is_missing(store: CloudinaryStorage) -> None:
    with pytest.raises(MissingFile, match=f"There is no file {ABOUT}"):
        store.read(ABOUT)
    with pytest.raises(MissingFile):
        store.file(SOUND)
    assert not store.copies.path("audio/abc").exists()


def test_a_file_that_is_written_anew_is_read_anew_whatever_the_cdn_had(store: CloudinaryStorage) -> None:
    first = store.put(ABOUT, b"1")
    assert store.read(ABOUT) == b"1"
    second = store.put(ABOUT, b"2")
    assert store.read(ABOUT) == b"2"
    assert first != second


def test_a_file_that_is_removed_is_gone_from_the_cdn_and_from_here(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    url = store.keep(SOUND, sound)
    assert httpx.get(url).is_success
    assert store.exists(SOUND)
    store.remove(SOUND)
    assert not store.exists(SOUND)
    assert httpx.get(url).status_code == 404
    assert not store.copies.exists(SOUND)
    store.remove(SOUND)
    assert cloudinary.assets == {}


def test_a_large_file_goes_in_chunks(cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path) -> None:
    content = sound.read_bytes()
    replace(store, chunked_above=1000, chunk=900).keep(SOUND, sound, job="7")
    uploads = cloudinary.requests("upload")
    assert [asked.size for asked in uploads] == [900, 900, len(content) - 1800]
    assert len({asked.headers["x-unique-upload-id"] for asked in uploads}) == 1
    assert uploads[-1].headers["content-range"] == f"bytes 1800-{len(content) - 1}/{len(content)}"
    assert {asked.path for asked in uploads} == {f"/v1_1/{CLOUD}/video/upload"}
    kept = cloudinary.assets["video", "audio/abc/audio"]
    assert (kept.content, kept.tags) == (content, ("yt-lyrics", "job-7"))


def test_a_file_that_fits_into_one_request_goes_in_one(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    replace(store, chunked_above=sound.stat().st_size).keep(SOUND, sound)
    (upload,) = cloudinary.requests("upload")
    assert "content-range" not in upload.headers


# --- names ----------------------------------------------------------------------------------------

some_text = st.text(st.characters(codec="utf-8"), max_size=300)


@given(some_text)
def test_a_name_that_cloudinary_would_not_take_is_refused(key: str) -> None:
    try:
        kind, id, suffix = asset(key)
    except (StorageRefused, MissingFile):
        return
    assert 1 <= len(id) <= 255
    assert not set(id) & set("?&#\\%<>+")
    assert id == id.strip(" /")
    assert (kind, id + suffix) == ("raw", key) or (kind == "video" and key.startswith(id))


@given(st.text("abc/. ", max_size=20), st.sampled_from("?&#\\%<>+\n\0"), st.text("abc", max_size=5))
def test_one_wrong_character_is_enough(before: str, wrong: str, after: str) -> None:
    with pytest.raises((StorageRefused, MissingFile)):
        asset(before + wrong + after)


@pytest.mark.parametrize("key", ["", "a" * 256, "/a", "a/", "a//b", "a/./b", "a/../b", " a", "a ", "https:a", "a/b /c"])
def test_a_name_that_links_would_change_is_refused(key: str) -> None:
    with pytest.raises((StorageRefused, MissingFile)):
        asset(key)


def test_a_refused_name_is_told_in_a_sentence() -> None:
    with pytest.raises(StorageRefused, match=r'^Cloudinary refuses: "a\?b" is no name of a file there\.$'):
        asset("a?b")


def test_a_name_of_255_characters_is_taken() -> None:
    assert asset("a" * 255) == ("raw", "a" * 255, "")


any_key = st.one_of(
    some_text,
    st.from_regex(r"audio/[\w-]{11}/(audio(\.(webm|m4a|opus|mp3))?|about\.json)", fullmatch=True),
    st.from_regex(r"(v1/)?transcriptions/[\w-]{1,36}/(modal/)?subtitles\.[a-z]{2,4}", fullmatch=True),
)


@given(any_key, st.integers(1, 2**40))
def test_a_link_leads_back_to_its_key(key: str, version: int) -> None:
    store = CloudinaryStorage.at(GOOD, Path("unused"))
    try:
        url = store.url(key)
    except (StorageRefused, MissingFile):
        return
    assert store.key(url) == key
    assert store.key(url.replace("/v1/", f"/v{version}/", 1)) == key


@pytest.mark.parametrize(
    "url",
    [
        "/files/audio/abc/audio.webm",
        "https://res.cloudinary.com/another/raw/upload/v1/transcriptions/1/results.json",
        "https://elsewhere.example/cloud/raw/upload/v1/transcriptions/1/results.json",
        "https://res.cloudinary.com/cloud/image/upload/v1/x.json",
        "https://res.cloudinary.com/cloud/video/upload/v1/transcriptions/1/results.json",
        "https://res.cloudinary.com/cloud/raw/upload/v1/a%3Fb",
        "nonsense",
        "",
    ],
)
def test_a_link_of_somebody_else_has_no_key(url: str) -> None:
    assert CloudinaryStorage.at(GOOD, Path("unused")).key(url) is None


def test_links_of_the_old_system_have_keys() -> None:
    store = CloudinaryStorage.at(GOOD, Path("unused"))
    old = "https://res.cloudinary.com/cloud/raw/upload/v1700000000/transcriptions/1/results"
    assert store.key(old) == "transcriptions/1/results"


# --- CLOUDINARY_URL -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (GOOD, "https://res.cloudinary.com/cloud/raw/upload/v1/a/b.json"),
        (f"{GOOD}/songs.example", "https://songs.example/raw/upload/v1/a/b.json"),
        (f"{GOOD}?private_cdn=true", "https://cloud-res.cloudinary.com/raw/upload/v1/a/b.json"),
        (f"{GOOD}?secure_distribution=songs.example", "https://songs.example/cloud/raw/upload/v1/a/b.json"),
        (f"{GOOD}?secure=false&cname=songs.example", "http://songs.example/cloud/raw/upload/v1/a/b.json"),
        (f"{GOOD}?unheard_of=1", "https://res.cloudinary.com/cloud/raw/upload/v1/a/b.json"),
    ],
)
def test_the_url_says_where_files_are_delivered(url: str, link: str) -> None:
    store = CloudinaryStorage.at(url, Path("unused"))
    assert store.url("a/b.json") == link
    assert store.key(link) == "a/b.json"


@pytest.mark.parametrize(
    "url",
    [
        "MARKER",
        "https://key:MARKER@cloud",
        "cloudinary://MARKER@cloud",
        "cloudinary://:MARKER@cloud",
        "cloudinary://key:MARKER@",
        "cloudinary://key:MARKER",
        "cloudinary://key:MARK/ER@cloud",
        "cloudinary://key:MARK#ER@cloud",
        "cloudinary://key:cloud@MARKER!",
        "cloudinary://[MARKER",
        "cloudinary://key:MARKER@clo\u2100ud",
        "CLOUDINARY_URL=cloudinary://key:MARKER@cloud",
    ],
)
def test_a_wrong_url_is_told_in_a_sentence_without_what_is_secret(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        account(url)
    assert str(caught.value).startswith("The setting CLOUDINARY_URL is wrong: ")
    assert "MARK" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)


@given(st.text(min_size=1, max_size=40))
def test_any_url_is_read_or_refused(text: str) -> None:
    for url in (text, f"cloudinary://key:{text}@cloud", f"cloudinary://key:secret@{text}"):
        with suppress(BadRequest):
            assert account(url)["cloud_name"]


def test_the_secret_shows_in_no_text_of_the_store(store: CloudinaryStorage) -> None:
    assert SECRET not in repr(store) + str(store)
    assert store.cloud == CLOUD


def test_the_sdks_own_configuration_has_no_say(cloudinary: CloudinaryServer, store: CloudinaryStorage) -> None:
    sdk = import_module("cloudinary")
    others = {"cloud_name": "other", "api_key": "1", "api_secret": "2", "cname": "other.example", "sign_url": True}
    sdk.config(**others, oauth_token="x", upload_preset="x", upload_prefix="http://127.0.0.1:9", signature_version=1)
    try:
        assert store.put("a/b.json", b"{}").startswith(f"http://{cloudinary.host}/{CLOUD}/raw/")
    finally:
        sdk.reset_config()
    assert "upload_preset" not in cloudinary.asked[0].params


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(status=400, message="Unsupported video format or file"), StorageRefused, "Unsupported video format"),
        (Fault(status=400, message="File size too large. Got 2. Maximum is 1."), StorageRefused, "File size too large"),
        (Fault(status=401, message="cloud_name is disabled"), StorageRefused, "does not accept the cloud, key"),
        (Fault(status=403, message="You have exceeded your quota"), StorageRefused, "exceeded your quota"),
        (Fault(status=404, message="Resource not found"), StorageRefused, "Resource not found"),
        (Fault(status=409, message="Already exists"), StorageRefused, "Already exists"),
        (Fault(status=413, message="File size too large"), StorageRefused, "the file is too large for this account"),
        (Fault(status=413, message="Too Large", page=True), StorageRefused, "the file is too large for this account"),
        (Fault(status=405, message="Not Allowed", page=True), StorageRefused, "it answered 405"),
        (Fault(status=420, message="Rate limited"), StorageAway, "takes no more calls for a while"),
        (Fault(status=429, message="Too many"), StorageAway, "takes no more calls for a while"),
        (Fault(status=429, message="Too many", page=True), StorageAway, "it answered 429"),
        (Fault(status=500), StorageAway, "it failed"),
        (Fault(status=503), StorageAway, "it failed"),
        (Fault(status=502, message="Bad Gateway", page=True), StorageAway, "it answered 502"),
        (Fault(lost=True), StorageAway, "the connection failed"),
        (Fault(hangs=True), StorageAway, "it does not answer"),
    ],
)
@pytest.mark.parametrize("call", ["upload", "destroy"])
def test_a_failing_call_is_told_as_passing_or_for_good(
    cloudinary: CloudinaryServer,
    store: CloudinaryStorage,
    call: str,
    fault: Fault,
    kind: type[UserError],
    words: str,
) -> None:
    cloudinary.fault(call, fault)
    hasty = replace(store, timeout=0.3)
    with pytest.raises(UserError, match=words) as caught:
        hasty.put(ABOUT, b"{}") if call == "upload" else hasty.remove(ABOUT)
    assert type(caught.value) is kind


def test_a_file_that_is_too_large_for_the_account_is_refused(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    cloudinary.most_bytes = 10
    with pytest.raises(StorageRefused, match=r"File size too large\. Got \d+\. Maximum is 10\.$"):
        store.keep(SOUND, sound)
    assert sound.exists()


@pytest.mark.parametrize(("key", "secret"), [(KEY, "another-secret"), ("999", SECRET)])
def test_a_wrong_key_or_secret_is_told_and_neither_is_shown(
    cloudinary: CloudinaryServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, secret: str
) -> None:
    store = CloudinaryStorage.at(cloudinary.named(key, secret), tmp_path)
    with pytest.raises(StorageRefused, match="does not accept the cloud, key and secret in CLOUDINARY_URL") as caught:
        store.put(ABOUT, b"{}")
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error.__context__) + repr(error.fields) + caplog.text
    assert "AuthorizationRequired" in caplog.text
    for hidden in (secret, cloudinary.asked[0].params["signature"]):
        assert hidden not in shown
    assert key not in caplog.text


def test_a_clock_that_is_wrong_is_told(store: CloudinaryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudinary.utils.now", lambda: "1000000000")
    with pytest.raises(StorageRefused, match="Stale request - reported time is 1000000000"):
        store.put(ABOUT, b"{}")


@pytest.mark.parametrize("fault", [Fault(hangs=True), Fault(lost=True)])
def test_what_was_uploaded_though_no_answer_came_is_there_once_after_the_next_try(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path, fault: Fault
) -> None:
    content = sound.read_bytes()
    cloudinary.fault("upload", fault)
    with pytest.raises(StorageAway):
        replace(store, timeout=0.3).keep(SOUND, sound)
    assert len(cloudinary.assets) == 1
    url = store.keep(SOUND, sound)
    assert len(cloudinary.assets) == 1
    assert httpx.get(url).content == content


def test_an_upload_in_chunks_that_breaks_off_begins_anew(
    cloudinary: CloudinaryServer, store: CloudinaryStorage, sound: Path
) -> None:
    content = sound.read_bytes()
    chunked = replace(store, chunked_above=1000, chunk=900)
    cloudinary.fault("upload", Fault(), Fault(status=500))
    with pytest.raises(StorageAway):
        chunked.keep(SOUND, sound)
    assert cloudinary.assets == {}
    chunked.keep(SOUND, sound)
    assert cloudinary.assets["video", "audio/abc/audio"].content == content


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault(status=420), StorageAway, "it answered 420"),
        (Fault(status=503), StorageAway, "it answered 503"),
        (Fault(lost=True), StorageAway, "the connection failed"),
        (Fault(hangs=True), StorageAway, "it does not answer"),
        (Fault(status=401, message="Access denied."), StorageRefused, "Access denied"),
        (Fault(status=400, message=""), StorageRefused, "it answered 400"),
    ],
)
@pytest.mark.parametrize("look", ["HEAD", "GET"])
def test_a_failing_look_is_told_and_is_no_answer(
    cloudinary: CloudinaryServer,
    store: CloudinaryStorage,
    monkeypatch: pytest.MonkeyPatch,
    look: str,
    fault: Fault,
    kind: type[UserError],
    words: str,
) -> None:
    monkeypatch.setattr(ours, "LOOK", 0.3)
    cloudinary.hold("raw", ABOUT, b"{}")
    cloudinary.fault(look, fault)
    with pytest.raises(UserError, match=words) as caught:
        store.exists(ABOUT) if look == "HEAD" else replace(store, timeout=0.3).read(ABOUT)
    assert type(caught.value) is kind


def test_a_truncated_sound_leaves_no_copy(cloudinary: CloudinaryServer, store: CloudinaryStorage) -> None:
    cloudinary.hold("video", "audio/abc/audio", b"a whole song", "webm")
    cloudinary.fault("GET", Fault(ends_after=5))
    with pytest.raises(StorageAway):
        store.file(SOUND)
    assert not store.copies.exists(SOUND)
    assert list(store.copies.path("audio/abc").iterdir()) == []
    assert store.file(SOUND).read_bytes() == b"a whole song"


def test_a_sound_of_no_promised_length_is_fetched(cloudinary: CloudinaryServer, store: CloudinaryStorage) -> None:
    cloudinary.hold("video", "audio/abc/audio", b"a whole song", "webm")
    cloudinary.fault("GET", Fault(promises=False))
    assert store.file(SOUND).read_bytes() == b"a whole song"


def test_a_cloudinary_that_nobody_reaches_is_away(tmp_path: Path) -> None:
    store = CloudinaryStorage.at(f"{GOOD}?upload_prefix=http://127.0.0.1:9&secure=false&cname=127.0.0.1:9", tmp_path)
    for call in (lambda: store.exists(SOUND), lambda: store.put(ABOUT, b"{}"), lambda: store.remove(ABOUT)):
        with pytest.raises(StorageAway, match="the connection failed"):
            call()


# --- what the rest of the house sees --------------------------------------------------------------


def test_kept_sound_is_found_with_what_is_known_of_it(store: CloudinaryStorage, sound: Path) -> None:
    key, audio = cache.keep(store, "abc", Audio(sound, 3.0, title="Harbor Light", artist="Nobody"), job="1")
    assert key == SOUND
    found = cache.kept(store, "abc")
    assert found == (SOUND, audio)
    assert (audio.title, audio.artist, audio.duration, audio.video_id) == ("Harbor Light", "Nobody", 3.0, "abc")


def test_sound_that_the_old_system_kept_is_found_though_nothing_is_known_of_it(
    cloudinary: CloudinaryServer, store: CloudinaryStorage
) -> None:
    assert cache.kept(store, "oldsong1234") is None
    cloudinary.hold("video", "audio/oldsong1234/audio", b"la", "mp3")
    found = cache.kept(store, "oldsong1234")
    assert found is not None
    key, audio = found
    assert (audio.path.read_bytes(), audio.title, audio.duration) == (b"la", None, 0.0)
    assert audio.video_id == "oldsong1234"
    assert store.file(key).read_bytes() == b"la"
    assert httpx.head(store.url(key)).is_success


def test_an_upload_is_kept_once_and_stays_with_its_owner(
    cloudinary: CloudinaryServer, configured: None, sound: Path
) -> None:
    name = cache.keep_upload(storage(), sound, "My Song.WebM")
    assert cache.keep_upload(storage(), sound, "the same.webm") == name
    assert sound.exists()
    assert [asked.size for asked in cloudinary.requests("upload") if "/video/" in asked.path] == [sound.stat().st_size]
    found = cache.kept(storage(), name)
    assert found is not None
    assert found[1].title == "the same"
    assert list(here().path("incoming").iterdir()) == []


def test_a_song_is_published_in_every_format_and_can_be_taken_back(
    cloudinary: CloudinaryServer, store: CloudinaryStorage
) -> None:
    mine, theirs = (publish(store, folder_of("1", racer), SONG, "1") for racer in ("cuda", "modal"))
    assert httpx.get(mine.results_url).json()["plain"] == "Harbor light"
    assert set(mine.files) == set(Format)
    assert {kept.tags for kept in cloudinary.assets.values()} == {("yt-lyrics", "job-1")}
    unpublish(store, folder_of("1", "cuda"))
    assert httpx.get(mine.results_url).status_code == 404
    assert json.loads(httpx.get(theirs.results_url).content)["words"]


def test_the_setting_decides_where_files_are_kept(cloudinary: CloudinaryServer, configured: None) -> None:
    assert isinstance(storage(), CloudinaryStorage)
    assert [store.folder.name for store in on_this_machine()] == ["files", "files"]
    assert storage() is storage()


def test_a_link_leads_to_its_file_whatever_is_set_now(
    cloudinary: CloudinaryServer, configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = here().put("transcriptions/1/results.json", b"{}")
    remote = storage().put("transcriptions/2/results.json", b"{}")
    for url in (cloudinary.url, ""):
        monkeypatch.setenv("CLOUDINARY_URL", url)
        settings.cache_clear()
        assert there(local)
        assert there(remote)
        assert not there(here().url("transcriptions/3/results.json"))
        assert not there(remote.replace("/2/", "/3/"))
        for nonsense in ("", "/x", "/files/", "/files/../x", "ftp://x", "javascript:1"):
            assert not there(nonsense)


def test_a_link_that_cloudinary_refuses_leads_nowhere_but_one_it_cannot_answer_for_may(
    cloudinary: CloudinaryServer, configured: None
) -> None:
    url = storage().put("transcriptions/2/results.json", b"{}")
    cloudinary.fault("HEAD", Fault(status=403), Fault(status=500))
    assert not there(url)
    with pytest.raises(StorageAway):
        there(url)


def test_the_link_to_show_costs_no_request(cloudinary: CloudinaryServer, configured: None) -> None:
    here().put("audio/old/audio.opus", b"la")
    assert link("audio/old/audio.opus") == "/files/audio/old/audio.opus"
    assert link(SOUND) == storage().url(SOUND)
    assert cloudinary.asked == []


def test_copies_take_no_more_room_than_kept_audio_may(
    cloudinary: CloudinaryServer, configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_AUDIO_GB", "0.0000005")  # 500 bytes
    settings.cache_clear()
    for source in ("first", "second", "third"):
        cloudinary.hold("video", f"audio/{source}/audio", bytes(300), "webm")
        storage().file(f"audio/{source}/audio.webm")
    assert cache.trim_audio(["audio/first/audio.webm"]) == ["audio/second", "audio/third"]
    assert storage().file("audio/second/audio.webm").stat().st_size == 300


def test_upkeep_removes_what_no_job_used_for_long_here_and_there(
    cloudinary: CloudinaryServer, configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "open_audio", set)
    monkeypatch.setattr(nightly, "unused_audio", lambda days: ["audio/old/audio.webm"])
    cloudinary.hold("video", "audio/abc/audio", b"la", "webm")
    cloudinary.hold("video", "audio/old/audio", b"la", "webm")
    copy = storage().file(SOUND)
    for path in (copy, copy.parent):
        os.utime(path, (0, 0))
    assert old_audio.fn() == ["audio/abc removed", "audio/old/audio.webm on Cloudinary removed"]
    assert leftovers.fn() == []
    assert storage().exists(SOUND)
    assert not storage().exists("audio/old/audio.webm")


def finding(name: str) -> tuple[Verdict, str]:
    return next((found.verdict, found.sentence) for found in doctor.examine(settings()) if found.name == name)


def test_doctor_says_whether_the_key_works(
    cloudinary: CloudinaryServer, configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"storage": doctor.storage})
    assert finding("storage") == (
        Verdict.GOOD,
        f"Cloudinary, cloud {CLOUD}; copies in {settings().data / 'cache' / 'files'}",
    )
    monkeypatch.setenv("CLOUDINARY_URL", cloudinary.named(secret="wrong"))
    settings.cache_clear()
    verdict, sentence = finding("storage")
    assert verdict is Verdict.BROKEN
    assert "does not accept the cloud, key and secret in CLOUDINARY_URL" in sentence
    monkeypatch.setenv("CLOUDINARY_URL", "cloudinary://nonsense")
    settings.cache_clear()
    assert finding("storage")[0] is Verdict.BROKEN


# --- the fake itself ------------------------------------------------------------------------------


def test_the_fake_has_used_up_the_admin_api() -> None:
    with CloudinaryServer() as server:
        answer = httpx.get(f"http://{server.host}/v1_1/{CLOUD}/resources/video/upload/audio/abc/audio")
        assert answer.status_code == 420
        assert server.requests("admin")


def test_the_fake_says_why_it_delivers_nothing(cloudinary: CloudinaryServer) -> None:
    answer = httpx.get(f"http://{cloudinary.host}/{CLOUD}/raw/upload/v1/nothing.json")
    assert (answer.status_code, answer.headers["x-cld-error"]) == (404, "Resource not found - nothing.json")


def test_the_fakes_cdn_keeps_what_nobody_told_it_to_forget(cloudinary: CloudinaryServer) -> None:
    cloudinary.hold("raw", "a/b.json", b"1")
    at = f"http://{cloudinary.host}/{CLOUD}/raw/upload/v1/a/b.json"
    assert httpx.get(at).content == b"1"
    cloudinary.hold("raw", "a/b.json", b"2")
    assert httpx.get(at).content == b"1"


def test_the_storages_keep_one_protocol(store: CloudinaryStorage, tmp_path: Path) -> None:
    wanted = {name for name in vars(storages.Storage) if not name.startswith("_")}
    for kept in (store, storages.LocalStorage(tmp_path)):
        assert wanted <= set(dir(kept))
