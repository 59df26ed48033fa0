"""Bad input through the API: each ends with one sentence, none hangs."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from tests.fakes.media import MediaServer, Video
from tests.running import DEMO, RunningStack, eventually

REFUSED_LINKS = {
    "": "Paste a link",
    "not a link": "not a link",
    "https://example.com/song.mp3": "example.com",
    "http://localhost/song.mp3": "private address",
    "http://127.0.0.1:1/song.mp3": "private address",
    "http://192.168.1.1/song.mp3": "private address",
    "http://169.254.169.254/latest/meta-data/": "private address",
    "http://[::1]/song.mp3": "private address",
    "http://2130706433/song.mp3": "private address",
    "file:///etc/passwd": "not a link",
    "/etc/passwd": "not a link",
    "https://www.youtube.com/playlist?list=PL1234567890": "playlist",
    "https://www.youtube.com/@somebody": "channel",
}


@pytest.mark.parametrize(("link", "words"), REFUSED_LINKS.items())
def test_a_link_that_cannot_be_fetched_is_refused_at_once(stack: RunningStack, link: str, words: str) -> None:
    answer = httpx.post(f"{stack.url}/api/jobs", json={"youtubeUrl": link}, timeout=30)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"{}",
        b'{"youtubeUrl": 1}',
        b'{"youtubeUrl": null}',
        b"\xff\xfe",
        b'{"youtubeUrl": []}',
    ],
)
def test_a_body_that_makes_no_sense_is_refused(stack: RunningStack, body: bytes) -> None:
    answer = httpx.post(f"{stack.url}/api/jobs", content=body, headers={"content-type": "application/json"}, timeout=30)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("options", [{"preset": "best"}, {"language": "English!"}, {"language": 5}])
def test_an_option_that_is_unknown_is_refused(stack: RunningStack, options: dict[str, Any]) -> None:
    asked = {"youtubeUrl": "https://youtu.be/harborlight", **options}
    answer = httpx.post(f"{stack.url}/api/jobs", json=asked, timeout=30)
    assert answer.status_code == 400
    assert next(iter(options)) in answer.json()["error"]


def test_what_does_not_exist_is_answered_in_the_contracts_words(stack: RunningStack) -> None:
    for path in ("", "/progress", "/steps", "/result", "/files"):
        answer = httpx.get(f"{stack.url}/api/jobs/nothing{path}", timeout=30)
        assert (answer.status_code, answer.json()) == (404, {"error": "Job not found"})
    assert httpx.delete(f"{stack.url}/api/jobs/nothing", timeout=30).status_code == 404
    assert set(httpx.get(f"{stack.url}/api/nothing", timeout=30).json()) == {"error"}
    assert httpx.get(f"{stack.url}/api/jobs?limit=0", timeout=30).status_code == 400
    assert httpx.get(f"{stack.url}/api/jobs?status=lost", timeout=30).status_code == 400


def silence(path: Path, seconds: float, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * round(rate * seconds)))
    return path


def video_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def ended(stack: RunningStack, media: MediaServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All of these sent at once, each at its end."""
    folder = tmp_path_factory.mktemp("bad")
    random = np.random.default_rng(1).bytes(50_000)
    sent = {
        "private": stack.submit(youtubeUrl="https://youtu.be/privatevid0"),
        "live": stack.submit(youtubeUrl="https://youtu.be/livenow0000"),
        "upcoming": stack.submit(youtubeUrl="https://youtu.be/upcoming000"),
        "too long video": stack.submit(youtubeUrl="https://youtu.be/longsong999"),
        "redirect to private": stack.submit(youtubeUrl=media.at("/redirect?to=http://169.254.169.254/x.mp3")),
        "not there": stack.submit(youtubeUrl=media.at("/status/404")),
        "empty": stack.upload(written(folder / "empty.mp3", b"")),
        "corrupt": stack.upload(written(folder / "corrupt.mp3", random)),
        "video only": stack.upload(video_only(folder / "video.mp4")),
        "too short": stack.upload(silence(folder / "short.wav", 0.2)),
        "too long": stack.upload(silence(folder / "long.wav", 2 * 3600, rate=1000)),
        "silent": stack.upload(silence(folder / "silent.wav", 20)),
        "instrumental": stack.upload(DEMO / "harbor-light.backing.opus"),
        "odd name": stack.upload(silence(folder / "s.wav", 21), name="-ünïcødé 歌 \u202e.wav"),
        "long name": stack.upload(silence(folder / "t.wav", 22), name="x" * 251 + ".wav"),
    }
    return {what: stack.ended(id, within=240) for what, id in sent.items()}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("private", "Private video"),
        ("live", "live stream"),
        ("upcoming", "live stream"),
        ("too long video", "the limit here is 15:00"),
        ("redirect to private", "private address"),
        ("not there", "404"),
        ("empty", "not an audio or video file"),
        ("corrupt", "not an audio or video file"),
        ("video only", "no sound track"),
        ("too short", "0.2 s long"),
        ("too long", "the limit here is 15:00"),
    ],
)
def test_a_song_that_cannot_be_made_ends_with_its_sentence(ended: dict[str, Any], what: str, words: str) -> None:
    job = ended[what]
    assert job["status"] == "error"
    assert words in job["error"]
    assert "\n" not in job["error"]
    assert job["errorKind"] == "permanent"


@pytest.mark.parametrize("what", ["silent", "instrumental", "odd name", "long name"])
def test_a_song_that_nobody_sings_ends_completed_and_says_so(ended: dict[str, Any], what: str) -> None:
    job = ended[what]
    assert job["status"] == "completed", job
    assert "No singing" in job["statusMessage"]
    document = httpx.get(job["resultUrl"], timeout=30).json()
    assert document["words"] == []
    assert document["notes"]


def test_an_odd_file_name_is_the_songs_title(ended: dict[str, Any]) -> None:
    assert ended["odd name"]["title"].startswith("-ünïcødé 歌")


def test_a_result_that_is_not_there_is_said_in_the_contracts_words(stack: RunningStack, ended: dict[str, Any]) -> None:
    id = ended["private"]["jobId"]
    answer = httpx.get(f"{stack.url}/api/jobs/{id}/result", timeout=30)
    assert (answer.status_code, answer.json()) == (400, {"error": "Result not ready"})


def test_a_cancelled_job_stays_cancelled_and_its_run_ends(stack: RunningStack, media: MediaServer) -> None:
    id = stack.submit(youtubeUrl="https://youtu.be/slowsound00")
    eventually(lambda: stack.job(id)["status"] == "processing", what="the start of the job")
    assert httpx.delete(f"{stack.url}/api/jobs/{id}", timeout=30).json() == {"status": "cancelled"}
    assert stack.job(id)["status"] == "cancelled"
    run = httpx.post(
        f"{stack.addresses.prefect_api}/flow_runs/filter",
        json={"flow_runs": {"name": {"any_": [f"fetch {id}", f"{id[:8]}-1"]}}},
        timeout=30,
    ).json()[0]["id"]

    def over() -> bool:
        state = httpx.get(f"{stack.addresses.prefect_api}/flow_runs/{run}", timeout=30).json()["state_type"]
        return state in ("CANCELLED", "COMPLETED", "FAILED", "CRASHED")

    eventually(over, within=60, what="the end of the cancelled run")
    assert stack.job(id)["status"] == "cancelled"
    again = httpx.delete(f"{stack.url}/api/jobs/{id}", timeout=30)
    assert again.status_code == 409
    assert "ended already" in again.json()["error"]
    eventually(lambda: not list((stack.data / "files").rglob("*.part")), what="that nothing half is left")


def test_a_job_that_failed_can_be_tried_again(stack: RunningStack, ended: dict[str, Any], media: MediaServer) -> None:
    link = media.video("retriedvid0", Video(http=503))
    id = stack.submit(youtubeUrl=link)
    first = stack.ended(id, within=120)
    assert (first["status"], first["errorKind"]) == ("error", "passing")
    media.video("retriedvid0", Video(title="Here again"))
    assert httpx.post(f"{stack.url}/api/jobs/{id}/retry", timeout=30).status_code == 201
    second = stack.ended(id)
    assert (second["status"], second["attempt"], second["title"]) == ("completed", 2, "Here again")
    assert httpx.post(f"{stack.url}/api/jobs/{id}/retry", timeout=30).status_code == 409
