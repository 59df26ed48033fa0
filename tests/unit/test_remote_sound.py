"""A video's sound fetched on Modal: through Modal's own SDK, by our own function, from YouTube as loopback plays it."""

from __future__ import annotations

import gc
import math
import os
import string
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import modal as sdk
import pytest
from grpclib import Status
from hypothesis import given
from hypothesis import strategies as st

from infra.deploy import modal_app
from infra.errors import (
    BotCheck,
    DownloadFailed,
    GeoBlocked,
    LiveStream,
    NeedsLogin,
    ProviderAway,
    ProviderFailed,
    ProviderNotReady,
    RateLimited,
    SoundRefused,
    TooLarge,
    TooLong,
    UserError,
    VideoUnavailable,
)
from infra.jobs.request import PIPELINE_VERSION
from infra.jobs.stages import Stage, percent, silent
from infra.links import Link, parse
from infra.settings import settings
from tasks import download
from tasks.download import meter
from tasks.download.ladder import Decision, NoBreakers, climb, decide
from tasks.download.routes import Route, ladder
from tasks.remote import call, modal, sound, work
from tasks.song import Audio, Chapter
from tests.fakes.media import DEMO_SONG, MediaServer
from tests.fakes.memory import Stopped
from tests.fakes.modal import FAILURE, ModalServer, Play
from tests.running import ROOT, eventually

# yt-dlp leaves the connections of failed requests to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SECRET = "s3cr3t-session-value"
LOGIN = "".join(
    f"#HttpOnly_.youtube.com\tTRUE\t/\tTRUE\t4102444800\t{name}\t{SECRET}\n" for name in ("LOGIN_INFO", "SAPISID")
)
HARBOR = parse("https://youtu.be/harborlight", ())
SOUND = {"sound": b"a sound", "suffix": ".webm", "about": {"duration": 60.0, "title": "Mine"}}
Told = list[tuple[Stage, float, str]]


@pytest.fixture(scope="module")
def youtube() -> Generator[MediaServer]:
    with MediaServer() as media, media.as_youtube():
        yield media
    gc.collect()  # while the filter above still holds


@pytest.fixture
def media(youtube: MediaServer) -> Generator[MediaServer]:
    youtube.asked.clear()
    yield youtube
    youtube.limits.clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[ModalServer]:
    with ModalServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path / "data"))
        monkeypatch.setattr(call, "POLL", 0.01)
        settings.cache_clear()
        yield server
    settings.cache_clear()


@pytest.fixture
def far_side(server: ModalServer, media: MediaServer, monkeypatch: pytest.MonkeyPatch) -> Generator[ModalServer]:
    """The server with our function behind it, for a few calls, run as a container would: at an address of its own."""
    monkeypatch.setattr(modal_app, "news", sdk.Dict.from_name(modal.news_name(server.app)))
    server.next(*[Play(work=at_modal)] * 4)
    yield server
    sdk.Client.from_env().close()


def at_modal(order: dict[str, Any]) -> dict[str, Any]:
    os.environ["FAKE_YOUTUBE_EGRESS"] = "Modal"  # meanwhile our side only waits
    try:
        return modal_app.fetch.local(order)
    finally:
        del os.environ["FAKE_YOUTUBE_EGRESS"]


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """Where the sound goes; nothing else is ever left there."""
    place = tmp_path / "incoming"
    place.mkdir()
    yield place
    assert [file.name for file in place.iterdir() if file.stem != "audio"] == []


def fetch(id: str, folder: Path, told: Told | None = None) -> Audio:
    report = silent if told is None else lambda *what: told.append(what)
    return modal.fetch(parse(f"https://youtu.be/{id}", ()), folder, report)


# --- a fetch that goes well -----------------------------------------------------------------------


def test_the_sound_comes_back_byte_for_byte_with_all_that_is_known_of_it(far_side: ModalServer, folder: Path) -> None:
    audio = fetch("harborlight", folder)
    thumbnail = audio.thumbnail or ""
    assert audio == Audio(folder / "audio.webm", 60.0, "Harbor Light", "The Demo Singers", "harborlight", thumbnail)
    assert thumbnail.endswith("/harborlight-480.jpg")
    assert audio.path.read_bytes() == DEMO_SONG.read_bytes()


def test_chapters_make_the_journey_too(far_side: ModalServer, folder: Path) -> None:
    chapters = fetch("withchapter", folder).chapters
    assert chapters == (Chapter("Verse", 0.0, 20.0), Chapter("Chorus", 20.0, 45.0), Chapter("Coda", 45.0, 60.0))


def test_the_order_names_the_video_and_nothing_else(server: ModalServer, folder: Path) -> None:
    server.next(Play(answer=SOUND))
    fetch("harborlight", folder)
    [made] = server.calls
    assert made.function == "fetch"
    assert made.order == {"provider": "Modal", "pipeline": PIPELINE_VERSION, "video": "harborlight"}


def test_a_sound_of_any_size_comes_as_a_blob(server: ModalServer, folder: Path) -> None:
    large = bytes(20 << 20)
    server.next(Play(answer=SOUND | {"sound": large}))
    assert fetch("harborlight", folder).path.read_bytes() == large
    assert len(server.blobs) == 1


def test_a_fetch_moves_the_bar_from_10_to_20(server: ModalServer, folder: Path) -> None:
    news = [{"stage": "download", "share": share, "message": f"Downloading {share}"} for share in (0.0, 0.5, 1.0)]
    server.next(Play(queued=1, news=[*news, {"progress": 50}, {"stage": "lines", "share": 1.0}], answer=SOUND))
    told: Told = []
    fetch("harborlight", folder, told)
    assert [percent(stage, share) for stage, share, _ in told] == [10, 10, 10, 15, 20, 20, 20]
    messages = [message for *_, message in told]
    assert messages[:3] == ["Asking Modal for the sound", "Waiting for a machine on Modal", "Downloading 0.0"]


def test_what_is_downloaded_there_is_told_here(far_side: ModalServer, folder: Path) -> None:
    told: Told = []
    fetch("slowsound00", folder, told)
    assert {stage for stage, *_ in told} == {Stage.DOWNLOAD}
    assert any(" MB at " in message for *_, message in told)


def test_another_player_is_tried_there_too(far_side: ModalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "PAUSE", 0.0)
    told: list[dict[str, Any]] = []
    answer = work.fetch({"provider": "Modal", "video": "otherclient"}, told.append)
    assert answer["sound"] == DEMO_SONG.read_bytes()
    assert "YouTube refuses the sound; using other clients" in [news["message"] for news in told]


# --- another address ------------------------------------------------------------------------------


def by(folder: Path, route: Route) -> Audio:
    """As the flow takes a route."""
    return (modal.fetch if route.means == "modal" else partial(download.download, route=route))(HARBOR, folder, silent)


@pytest.fixture
def fetching_there(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Audio]:
    monkeypatch.setenv("FETCH_ON_MODAL", "true")
    settings.cache_clear()
    said: list[str] = []
    return lambda folder: climb(ladder(settings()), partial(by, folder), NoBreakers(), said.append)


def test_modal_fetches_what_youtube_refuses_to_our_address(
    far_side: ModalServer, media: MediaServer, folder: Path, fetching_there: Callable[[Path], Audio]
) -> None:
    media.limit("here", "botcheck")
    assert fetching_there(folder).path.read_bytes() == media.song
    assert len(far_side.calls) == 1


def test_a_limit_there_is_what_the_user_reads(
    far_side: ModalServer, media: MediaServer, folder: Path, fetching_there: Callable[[Path], Audio]
) -> None:
    media.limit("here", "ratelimit")
    media.limit("Modal", "botcheck")
    with pytest.raises(BotCheck):
        fetching_there(folder)
    assert len(far_side.calls) == 1


def test_a_modal_that_cannot_be_used_hides_no_answer_of_youtubes(
    server: ModalServer, media: MediaServer, folder: Path, fetching_there: Callable[[Path], Audio]
) -> None:
    server.functions.remove("fetch")
    media.limit("here", "ratelimit")
    with pytest.raises(RateLimited):
        fetching_there(folder)


@pytest.mark.parametrize("id", ["harborlight", "membersonly", "rotatedjar0"])
def test_no_login_is_ever_used_there(
    far_side: ModalServer, media: MediaServer, folder: Path, monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    """Not even one that the far side has: here it shares our environment."""
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", LOGIN)
    settings.cache_clear()
    assert any(route.signed_in for route in ladder(settings()))
    if id == "membersonly":
        with pytest.raises(NeedsLogin):
            fetch(id, folder)
    else:
        fetch(id, folder)
    assert media.asked
    assert SECRET not in str((media.asked, far_side.calls, far_side.blobs))


# --- what YouTube says there ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id", "expected", "decision"),
    [
        ("privatevid0", VideoUnavailable, Decision.GIVE_UP),
        ("nosuchvideo", VideoUnavailable, Decision.GIVE_UP),
        ("livenow0000", LiveStream, Decision.GIVE_UP),
        ("longsong999", TooLong, Decision.GIVE_UP),
        ("agechecked0", NeedsLogin, Decision.SIGN_IN),
        ("notthere000", GeoBlocked, Decision.OTHER_PLACE),
        ("botcheck000", BotCheck, Decision.OTHER_ROUTE),
        ("sound403000", SoundRefused, Decision.OTHER_ROUTE),
        ("ratelimited", RateLimited, Decision.OTHER_EGRESS),
        ("truncated00", DownloadFailed, Decision.RETRY),
    ],
)
def test_what_youtube_says_there_is_what_it_says_here(
    far_side: ModalServer, media: MediaServer, folder: Path, id: str, expected: type[UserError], decision: Decision
) -> None:
    media.video("notthere000", replace(media.videos["geoblocked0"], plays_for=lambda asker: asker.egress != "Modal"))
    with pytest.raises(expected) as there:
        fetch(id, folder)
    assert type(there.value) is expected
    assert decide(there.value) is decision
    assert list(folder.iterdir()) == []


def test_a_sound_that_is_too_large_is_not_fetched_to_its_end_there(
    far_side: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "MB", 300_000)  # bytes; the demo song has 643,094
    monkeypatch.setenv("MAX_MEGABYTES", "1")
    settings.cache_clear()
    with pytest.raises(TooLarge, match="1 MB"):
        fetch("endless0000", folder)


def test_a_sound_that_is_too_large_here_is_not_written(
    server: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_MEGABYTES", "1")
    settings.cache_clear()
    server.next(Play(answer=SOUND | {"sound": bytes(2_000_000)}))
    with pytest.raises(TooLarge, match="1 MB"):
        fetch("harborlight", folder)
    assert list(folder.iterdir()) == []


# --- what goes wrong with Modal -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MODAL_TOKEN_SECRET", "wrong", "it refuses the token in MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"),
        ("MODAL_TOKEN_ID", "", "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not both set"),
        ("MODAL_APP", "other", 'no app "other" with a function "fetch" is deployed there'),
    ],
)
def test_what_the_operator_must_do_is_said_and_another_route_is_taken(
    server: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.cache_clear()
    with pytest.raises(ProviderNotReady) as caught:
        fetch("harborlight", folder)
    assert str(caught.value) == f"Modal cannot be used: {reason}."
    assert decide(caught.value) is Decision.OTHER_ROUTE
    assert server.calls == []


def test_an_app_of_another_version_must_be_deployed_again(
    far_side: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "PIPELINE_VERSION", PIPELINE_VERSION + 1)
    with pytest.raises(ProviderNotReady, match=f"of version {PIPELINE_VERSION}, not {PIPELINE_VERSION + 1}: deploy"):
        fetch("harborlight", folder)


def test_nothing_but_videos_is_fetched_there(server: ModalServer, folder: Path) -> None:
    for link in (Link("web", url="https://example.com/a.mp3"), Link("upload", key="a.mp3")):
        with pytest.raises(ProviderNotReady, match="it fetches nothing but videos from YouTube"):
            modal.fetch(link, folder, silent)
    assert server.calls == []


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (Play(status=FAILURE, exception="Container ran out of memory"), "its container fell: Container ran out of"),
        (Play(raised=RuntimeError("secret")), "its worker raised an error, which the log holds"),
        (Play(answer=None), "its answer cannot be read"),
        (Play(answer=SOUND | {"sound": "text"}), "its answer cannot be read"),
    ],
)
def test_a_failure_there_is_a_sentence_and_another_route_is_taken(
    server: ModalServer, folder: Path, play: Play, reason: str
) -> None:
    server.next(play)
    with pytest.raises(ProviderFailed, match=reason) as caught:
        fetch("harborlight", folder)
    assert decide(caught.value) is Decision.OTHER_ROUTE


def test_a_sound_that_is_empty_is_no_sound(server: ModalServer, folder: Path) -> None:
    server.next(Play(answer=SOUND | {"sound": b""}))
    with pytest.raises(DownloadFailed, match="the file came empty"):
        fetch("harborlight", folder)


@pytest.mark.parametrize("message", ["Waiting", "Working", "Downloading"])
def test_what_interrupts_the_waiting_ends_the_call_there(server: ModalServer, folder: Path, message: str) -> None:
    said = {"Working": "", "Downloading": "Downloading 0.1 MB at 1.0 MB/s"}.get(message)
    news = [{"stage": "download" if said else "lines", "share": 0.5, "message": said}] if said is not None else []
    server.next(Play(news=news, stuck=True))

    def stop(stage: Stage, share: float, told: str) -> None:
        if told.startswith(message):
            raise Stopped

    with pytest.raises(Stopped):
        modal.fetch(HARBOR, folder, stop)
    assert server.calls[0].cancelled
    assert list(folder.iterdir()) == []


def test_a_call_that_sticks_is_ended_by_our_own_deadline(
    server: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "FETCHING", 0.0)
    monkeypatch.setattr(call, "GRACE", 0.1)
    server.next(Play(news=[{"stage": "download", "share": 0.1, "message": "Downloading"}], stuck=True))
    with pytest.raises(ProviderFailed, match="it did not finish in time"):
        fetch("harborlight", folder)
    assert server.calls[0].cancelled


REQUESTS = ["FunctionGet", "FunctionMap", "FunctionGetOutputs", "DictGet", "BlobGet", "Blob"]


@pytest.mark.parametrize("request_name", REQUESTS)
def test_what_passes_is_asked_for_again(server: ModalServer, folder: Path, request_name: str) -> None:
    """Beyond the SDK's own four tries."""
    server.next(Play(queued=1, answer=SOUND | {"sound": bytes(3 << 20)}))
    server.fault(request_name, *[Status.UNAVAILABLE] * 5)
    assert fetch("harborlight", folder).path.stat().st_size == 3 << 20
    assert len(server.calls) == 1


def test_an_answer_that_stops_half_way_is_asked_for_again(
    server: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modal, "ARRIVING", 1.0)
    server.blobs_arrive.clear()
    server.next(Play(answer=SOUND | {"sound": bytes(3 << 20)}))

    def report(stage: Stage, share: float, message: str) -> None:
        if "does not answer at the moment" in message:
            server.blobs_arrive.set()

    assert modal.fetch(HARBOR, folder, report).path.stat().st_size == 3 << 20
    assert len(server.calls) == 1
    eventually(lambda: not any(thread.name == "modal answers" for thread in threading.enumerate()))


def test_an_answer_that_never_arrives_is_given_up(
    server: ModalServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modal, "ARRIVING", 0.2)
    for name, seconds in {"FETCHING": 0.0, "GRACE": 0.0, "QUEUED": 0.5}.items():
        monkeypatch.setattr(call, name, seconds)
    server.blobs_arrive.clear()
    server.next(Play(answer=SOUND | {"sound": bytes(3 << 20)}))
    with pytest.raises(ProviderAway, match="its answer does not arrive"):
        fetch("harborlight", folder)
    server.blobs_arrive.set()
    eventually(lambda: not any(thread.name == "modal answers" for thread in threading.enumerate()))


# --- what travels ---------------------------------------------------------------------------------

IDS = st.text(string.ascii_letters + string.digits + "-_", min_size=10, max_size=12)
TIME = st.floats(0, 1e5)
AUDIO = st.builds(
    Audio,
    path=st.just(Path("audio.webm")),
    duration=TIME,
    title=st.none() | st.text(),
    artist=st.none() | st.text(),
    thumbnail=st.none() | st.text(),
    chapters=st.lists(st.builds(Chapter, st.text(), TIME, TIME), max_size=3).map(tuple),
)
KEYS = st.sampled_from(["sound", "suffix", "about", "error", "name", "kind", "fields", "duration", "title", "chapters"])
ANYTHING = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda deeper: st.lists(deeper) | st.dictionaries(KEYS, deeper),
)


@hypothesis.settings(deadline=None)
@given(AUDIO, st.binary(min_size=1))
def test_a_sound_and_what_is_known_of_it_are_whole_after_their_journey(audio: Audio, content: bytes) -> None:
    with emptied() as there, emptied() as here:
        sent = replace(audio, path=there / "audio.webm")
        sent.path.write_bytes(content)
        came = sound.audio(sound.answered(sent), HARBOR, here, "Modal")
        assert came == replace(audio, path=here / "audio.webm", video_id="harborlight")
        assert came.path.read_bytes() == content


@hypothesis.settings(deadline=None)
@given(
    ANYTHING
    | st.fixed_dictionaries(
        {"sound": st.binary(max_size=3), "suffix": st.text(), "about": st.dictionaries(KEYS, ANYTHING, max_size=3)}
    )
)
def test_any_answer_is_a_sound_in_its_folder_or_an_error(answer: Any) -> None:
    with emptied() as folder:
        try:
            audio = sound.audio(answer, HARBOR, folder, "Modal")
        except UserError:
            assert list(folder.iterdir()) == []
        else:
            assert list(folder.iterdir()) == [audio.path]
            assert math.isfinite(audio.duration)


@given(st.text() | IDS | IDS.map(lambda id: f"{id}&list=PLx") | st.none() | st.integers())
def test_only_the_id_of_a_video_makes_an_address(id: Any) -> None:
    try:
        link = sound.link({"provider": "Modal", "video": id})
    except ProviderNotReady:
        assert not (isinstance(id, str) and id.isascii() and id.isalnum() and len(id) == 11)
    else:
        assert link == Link("youtube", url=f"https://www.youtube.com/watch?v={id}", id=id)
        assert len(id) == 11


@contextmanager
def emptied() -> Generator[Path]:
    """A folder for one example: a fixture would be shared by all of them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_an_order_without_a_video_is_refused_as_one_of_another_version() -> None:
    answer = work.fetch({"provider": "Modal"}, [].append)
    assert (answer["name"], answer["fields"]["provider"]) == ("ProviderNotReady", "Modal")


# --- our app --------------------------------------------------------------------------------------


def test_the_functions_image_holds_what_the_project_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(modal_app.FETCH_PACKAGES) <= set(asked)


def test_the_functions_image_holds_all_that_a_fetch_imports(media: MediaServer, tmp_path: Path) -> None:
    """What the image lacks may be installed here, so it is hidden."""
    hidden = {"prefect", "sqlalchemy", "psycopg", "fastapi", "uvicorn", "alembic", "psutil", "yaml", "cloudinary"}
    hidden |= {"av", "ctranslate2", "faster_whisper", "typer"}
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden})); import infra.deploy.modal_app;"
        "from tasks.remote import work; answer = work.fetch({'provider': 'Modal', 'video': 'harborlight'}, [].append);"
        "print(answer.get('error') or len(answer['sound']))"
    )
    environment = {**os.environ, **media.environment("Modal"), "YT_LYRICS_DATA": str(tmp_path)}
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60
    )
    assert child.stdout == f"{len(media.song)}\n", child.stderr


def test_only_strangers_routes_are_taken_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none to Modal from Modal, whatever the environment there says."""
    for name, value in {"FETCH_ON_MODAL": "true", "MODAL_TOKEN_ID": "a", "MODAL_TOKEN_SECRET": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("YOUTUBE_COOKIES_CONTENT", LOGIN)
    settings.cache_clear()
    routes = work.anonymous("Modal")
    settings.cache_clear()
    assert [route.name for route in routes] == ["as anybody", "other clients"]
    assert {route.egress for route in routes} == {"Modal"}
