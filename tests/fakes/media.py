"""A loopback server with songs and with everything that goes wrong on the way to them; also YouTube's player.

    with MediaServer() as media:
        media.url                                            http://127.0.0.1:PORT; also media.host, media.port
        media.at("/harbor-light.opus")                       the demo song; with ranges, as real servers give them
        media.at("/status/404")                              any status
        media.at("/redirect?to=http://10.0.0.1/")            any redirect, also to itself
        media.at("/truncated.opus"), media.at("/endless.opus"), media.at("/slow.opus?rate=100000")
        media.answer("/mine.mp3", Answer(b"…"))              whatever else a test needs
        media.video("myownvideo1", Video(title="Mine"))      a video of its own; VIDEOS are there from the start
        media.video("tomembers00", Video(reason="Members only", plays_for=lambda asker: asker.signed_in))
        media.limit("here", "botcheck")                      or "ratelimit", or None: for every video, until changed

yt-dlp talks to it instead of to YouTube where its plugin is found and FAKE_YOUTUBE names the server. In this process:
`with media.as_youtube():`. In a child process: `env={**os.environ, **media.environment()}`.
FAKE_YOUTUBE_EGRESS is the address that it sees such a process at: "here", if not set.
It is a provider of PO tokens too: POT_PROVIDER_URL may name it.
By hand: `python -m tests.fakes.media` prints those variables and serves until interrupted.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from tests.fakes import playlists

ROOT = Path(__file__).parents[2]
DEMO_SONG = ROOT / "flows" / "demo" / "harbor-light.mix.opus"
PLUGIN = ROOT / "tests" / "fakes" / "youtube"  # what PYTHONPATH must hold for yt-dlp to find the plugin
CHUNK = 1 << 14  # bytes
TOKEN = "dG9rZW4tb2YtdGhlLWZha2U="  # the one PO token that this provider knows

Limit = Literal["botcheck", "ratelimit"]


@dataclass(frozen=True)
class Answer:
    """What the server says to a GET."""

    body: bytes = b""
    status: int = 200
    type: str = "audio/ogg"
    location: str | None = None  # where a redirect leads to
    ends_after: int | None = None  # bytes, after which the connection breaks although more was promised
    rate: float | None = None  # bytes a second
    endless: bool = False  # the body again and again, no length promised
    refused_from: int | None = None  # bytes, from which on a range is forbidden
    needs_token: bool = False  # forbidden without a PO token


def as_json(what: object, **more: Any) -> Answer:
    return Answer(json.dumps(what).encode(), type="application/json", **more)


@dataclass(frozen=True)
class Asker:
    """Who asks the player, as YouTube sees it."""

    client: str = ""
    egress: str = "here"
    signed_in: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        login = SimpleCookie(headers.get("cookie", "")).keys() >= {"LOGIN_INFO", "SAPISID"}
        return cls(headers.get("x-client", ""), headers.get("x-egress", "here"), login)

    @property
    def limited_as(self) -> str:
        return f"{self.egress}, signed in" if self.signed_in else self.egress


@dataclass(frozen=True)
class Video:
    """A video as YouTube's player knows it. `status` and `reason` are YouTube's; without a reason it plays."""

    title: str = "Harbor Light"
    artist: str | None = None
    duration: float = 60.0
    status: str = "OK"
    reason: str | None = None
    subreason: str | None = None
    live: str | None = None  # isLive, isUpcoming or isPostLiveDvr, as the player's flags are called
    audio: str = "/harbor-light.opus"  # the path of its sound on this server
    http: int = 200  # what the player itself answers
    error_screen: dict[str, Any] = field(default_factory=dict)
    plays_for: Callable[[Asker], bool] | None = None  # others get the reason; without one, no sound
    chapters: tuple[tuple[str, str], ...] = ()  # when each begins, as 1:23, and its title
    drm: bool = False
    silent: bool = False  # no format at all
    instead: bool = False  # of another video
    rate: float | None = None  # bytes a second of the player's answer
    rotates: bool = False  # a login is no longer valid once this video was looked at

    def seen_by(self, asker: Asker) -> Video:
        if self.plays_for is None:
            return self
        if self.plays_for(asker):
            return replace(self, status="OK", reason=None, subreason=None, live=None, http=200, error_screen={})
        return self if self.reason else replace(self, audio="/status/403")

    def player_response(self, id: str, server: str, size: int) -> dict[str, Any]:
        details: dict[str, Any] = {
            "videoId": "instead0000" if self.instead else id,
            "title": self.title,
            "lengthSeconds": str(round(self.duration)),
            "isLiveContent": self.live is not None,
            "shortDescription": self._description(),
            "thumbnail": {
                "thumbnails": [
                    {"url": f"{server}/{id}-{width}.jpg", "width": width, "height": width * 3 // 4}
                    for width in (120, 480, 320)
                ]
            },
        }
        if self.live:
            details[self.live] = True
        status: dict[str, Any] = {"status": self.status, "reason": self.reason, "errorScreen": self.error_screen}
        if self.subreason:
            message = {"reason": {"simpleText": self.reason}, "subreason": {"simpleText": self.subreason}}
            status["errorScreen"] = {"playerErrorMessageRenderer": message}
        streams = [] if self.reason or self.drm or self.silent else [self._stream(server, size)]
        return {
            "videoDetails": details,
            "playabilityStatus": status,
            "streamingData": {
                "adaptiveFormats": streams,
                **({"licenseInfos": [{"drmFamily": "WIDEVINE"}]} if self.drm else {}),
            },
        }

    def _description(self) -> str:
        """The words from which yt-dlp learns an artist; YouTube writes them under music."""
        chapters = "\n".join(f"{start} {title}" for start, title in self.chapters)
        if self.artist is None:
            return f"A song.\n\n{chapters}"
        credits = f"{self.title} · {self.artist}\n\nAn Album\n\n℗ 2026 Fakes"
        return f"Provided to YouTube by Fakes\n\n{credits}\n\n{chapters}\n\nAuto-generated by YouTube."

    def _stream(self, server: str, size: int) -> dict[str, Any]:
        return {
            "itag": 251,
            "url": server + self.audio,
            "mimeType": 'audio/webm; codecs="opus"',
            "bitrate": 96_000,
            "audioQuality": "AUDIO_QUALITY_MEDIUM",
            "audioSampleRate": "48000",
            "audioChannels": 2,
            "contentLength": str(size) if size else None,
            "approxDurationMs": str(round(self.duration * 1000)),
        }


# One for each way in which YouTube says no, by an id that says which.
VIDEOS = {
    "harborlight": Video(artist="The Demo Singers"),
    "longsong999": Video(title="A very long song", duration=7 * 3600),
    "privatevid0": Video(
        status="LOGIN_REQUIRED", reason="Private video. Sign in if you've been granted access to this video"
    ),
    "removedvid0": Video(
        status="ERROR", reason="Video unavailable", subreason="This video has been removed by the uploader"
    ),
    "terminated0": Video(
        status="ERROR",
        reason="Video unavailable",
        subreason="This video is no longer available because the YouTube account associated with this video has been "
        "terminated.",
    ),
    "copyright00": Video(
        status="ERROR",
        reason="Video unavailable",
        subreason="This video is no longer available due to a copyright claim by Somebody",
    ),
    "membersonly": Video(
        status="UNPLAYABLE",
        reason="Join this channel to get access to members-only content like this video, and other exclusive perks.",
        plays_for=lambda asker: asker.signed_in,
    ),
    "membersdrm0": Video(status="UNPLAYABLE", reason="Join this channel to get access to members-only content."),
    "agechecked0": Video(
        status="LOGIN_REQUIRED",
        reason="Sign in to confirm your age. This video may be inappropriate for some users.",
        plays_for=lambda asker: asker.signed_in,
    ),
    "musicpremiu": Video(status="UNPLAYABLE", reason="This video is only available to Music Premium members"),
    "geoblocked0": Video(
        status="UNPLAYABLE",
        reason="Video unavailable",
        subreason="The uploader has not made this video available in your country",
        plays_for=lambda asker: asker.egress != "here",
    ),
    "drmprotect0": Video(title="Only for their own players", drm=True),
    "notembedded": Video(
        status="UNPLAYABLE",
        reason="Video unavailable",
        subreason="Playback on other websites has been disabled by the video owner",
    ),
    "otherplayer": Video(title="What YouTube plays instead", instead=True),
    "noformats00": Video(title="Seen, not heard", silent=True),
    "pleasesign0": Video(status="LOGIN_REQUIRED", reason="Please sign in", plays_for=lambda asker: asker.signed_in),
    "strangenews": Video(status="ERROR", reason="The hamster is asleep"),
    "onlytrailer": Video(
        status="UNPLAYABLE",
        reason="This video requires payment to watch.",
        error_screen={"playerLegacyDesktopYpcTrailerRenderer": {"trailerVideoId": "harborlight"}},
    ),
    "botcheck000": Video(
        status="LOGIN_REQUIRED",
        reason="Sign in to confirm you’re not a bot. This helps protect our community. Learn more",
    ),
    "captcha0000": Video(
        status="ERROR", reason="Please complete the check", error_screen={"playerCaptchaViewModel": {"shown": True}}
    ),
    "ratelimited": Video(status="ERROR", reason="This content isn't available, try again later"),
    "toomany4290": Video(http=429),
    "player40300": Video(http=403),
    "playerdown0": Video(http=503),
    "livenow0000": Video(title="Live now", live="isLive"),
    "upcoming000": Video(
        status="LIVE_STREAM_OFFLINE", reason="This live event will begin in 5 hours.", live="isUpcoming"
    ),
    "premiere000": Video(status="LIVE_STREAM_OFFLINE", reason="Premieres in 3 days", live="isUpcoming"),
    "justended00": Video(title="Live a minute ago", live="isPostLiveDvr"),
    "sound403000": Video(audio="/status/403"),
    "expiredlink": Video(audio="/harbor-light.opus?expire=1"),
    "midstream40": Video(audio="/midstream.opus"),
    "otherclient": Video(plays_for=lambda asker: asker.client not in ("visionos", "web")),
    "tokenneeded": Video(audio="/token.opus"),
    "onlysignedn": Video(plays_for=lambda asker: asker.signed_in),
    "onlyelsewhr": Video(plays_for=lambda asker: asker.egress != "here"),
    "rotatedjar0": Video(title="The login is gone", rotates=True),
    "withchapter": Video(chapters=(("0:00", "Verse"), ("0:20", "Chorus"), ("0:45", "Coda"))),
    "sound429000": Video(audio="/status/429"),
    "trickleplay": Video(rate=20),
    "tricklesoun": Video(audio="/slow.opus?rate=20"),
    "sound500000": Video(audio="/status/500"),
    "truncated00": Video(audio="/truncated.opus"),
    "endless0000": Video(audio="/endless.opus"),
    "slowsound00": Video(audio="/slow.opus?rate=200000"),
}
LIMITS: dict[Limit, Video] = {"botcheck": VIDEOS["botcheck000"], "ratelimit": VIDEOS["ratelimited"]}


class MediaServer:
    def __init__(self, song: Path = DEMO_SONG, host: str = "127.0.0.1", port: int = 0) -> None:
        self.song = song.read_bytes()
        self.host = host
        self.videos = dict(VIDEOS)
        self.playlists = dict(playlists.PLAYLISTS)
        self.answers = {
            "/harbor-light.opus": Answer(self.song),
            "/truncated.opus": Answer(self.song, ends_after=len(self.song) // 3),
            "/endless.opus": Answer(self.song, endless=True),
            "/slow.opus": Answer(self.song),
            "/midstream.opus": Answer(self.song, ends_after=len(self.song) // 3, refused_from=1),
            "/token.opus": Answer(self.song, needs_token=True),
            "/ping": Answer(
                json.dumps({"version": version("bgutil-ytdlp-pot-provider")}).encode(), type="application/json"
            ),
            "/get_pot": Answer(json.dumps({"poToken": TOKEN}).encode(), type="application/json"),
        }
        self.limits: dict[str, Limit] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []  # path and headers of each request, in their order
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"media": self}))
        self._server.daemon_threads = False  # so that closing waits for them
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake media server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def at(self, path: str) -> str:
        return self.url + path

    def answer(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.at(path)

    def video(self, id: str, video: Video) -> str:
        """Make it known; its link, as a user would paste it."""
        assert re.fullmatch(r"[\w-]{11}", id, re.ASCII), "YouTube's ids have 11 characters"
        self.videos[id] = video
        return f"https://youtu.be/{id}"

    def limit(self, egress: str, what: Limit | None) -> None:
        """What YouTube says to all who ask from there; `here, signed in` are those who have a login."""
        if what is None:
            self.limits.pop(egress, None)
        else:
            self.limits[egress] = what

    def environment(self, egress: str = "here") -> dict[str, str]:
        """What a child process needs so that its yt-dlp takes this server for YouTube."""
        path = [str(PLUGIN), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"FAKE_YOUTUBE": self.url, "FAKE_YOUTUBE_EGRESS": egress, "PYTHONPATH": os.pathsep.join(path)}

    @contextmanager
    def as_youtube(self) -> Iterator[Self]:
        """yt-dlp in this process takes this server for YouTube."""
        install_plugin()
        before = os.environ.get("FAKE_YOUTUBE")
        os.environ["FAKE_YOUTUBE"] = self.url
        try:
            yield self
        finally:
            os.environ.pop("FAKE_YOUTUBE")
            if before is not None:
                os.environ["FAKE_YOUTUBE"] = before

    def find(self, target: str, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(target)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if found := re.fullmatch(r"/video/(.{11})\.json", parts.path):
            return self._player(found[1], Asker.of(headers))
        if found := re.fullmatch(r"/session/(.{11})", parts.path):
            return Answer(b"rotated" if self._video(found[1]).rotates else b"valid", type="text/plain")
        if parts.path.startswith("/youtubei/"):
            call = parts.path.removeprefix("/youtubei/")
            status, body = playlists.answer(self.playlists, call, json.loads(asked["asked"]))
            return Answer(body, status=status, type="application/json")
        if found := re.fullmatch(r"/status/(\d{3})", parts.path):
            return Answer(b"a page in words", status=int(found[1]), type="text/plain")
        if parts.path == "/redirect":
            return Answer(status=302, location=asked["to"])
        answer = self.answers.get(parts.path, Answer(status=404))
        expired = float(asked.get("expire", "inf")) < time.time()
        if expired or (answer.needs_token and asked.get("pot") != TOKEN):
            return Answer(status=403, type="text/plain")
        return Answer(answer.body, rate=float(asked["rate"])) if "rate" in asked else answer

    def _video(self, id: str) -> Video:
        return self.videos.get(id, Video(status="ERROR", reason="Video unavailable"))

    def _player(self, id: str, asker: Asker) -> Answer:
        limit = self.limits.get(asker.limited_as)
        video = LIMITS[limit] if limit else self._video(id).seen_by(asker)
        sound = self.answers.get(urlsplit(video.audio).path, Answer())
        size = 0 if sound.endless else len(sound.body)
        return as_json(video.player_response(id, self.url, size), status=video.http, rate=video.rate)


def install_plugin() -> None:
    """Let the yt-dlp of this process find the plugin, even if it has looked for plugins before."""
    if str(PLUGIN) in sys.path:
        return
    sys.path.append(str(PLUGIN))
    import yt_dlp.extractor  # noqa: F401  (makes the kinds of plugins known)
    from yt_dlp.plugins import load_all_plugins

    importlib.invalidate_caches()
    load_all_plugins()


class _Handler(BaseHTTPRequestHandler):
    media: MediaServer
    timeout = 10  # seconds, so that no client keeps the server from closing

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.media.asked.append((self.path, headers))
        answer = self.media.find(self.path, headers)
        # A client that has had enough closes the connection.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._say(answer)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def _say(self, answer: Answer) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, len(answer.body)
        if asked and answer.status == 200 and not answer.endless:
            start, end = int(asked[1]), min(int(asked[2] or end) + 1, end)
            if answer.refused_from is not None and start >= answer.refused_from:
                answer = Answer(status=403)
                start, end = 0, 0
        ranged = asked is not None and answer.status == 200 and not answer.endless
        self.send_response(206 if ranged else answer.status)
        self.send_header("Content-Type", answer.type)
        if answer.location is not None:
            self.send_header("Location", answer.location)
        if not answer.endless:
            self.send_header("Content-Length", str(end - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(answer.body)}")
        self.end_headers()
        self._send(answer, start, end if answer.ends_after is None else min(end, answer.ends_after))

    def _send(self, answer: Answer, start: int, end: int) -> None:
        step = min(CHUNK, max(1, int(answer.rate / 20))) if answer.rate else CHUNK
        while not self.media.stopping.is_set():
            for at in range(start, end, step):
                piece = answer.body[at : min(at + step, end)]
                self.wfile.write(piece)
                if answer.rate and self.media.stopping.wait(len(piece) / answer.rate):
                    return
            if not answer.endless:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    with MediaServer(port=int(os.environ.get("PORT", "0"))) as media, suppress(KeyboardInterrupt):
        for name, value in media.environment().items():
            print(f"export {name}={value}", flush=True)
        for id in media.videos:
            print(f"# https://youtu.be/{id}", flush=True)
        media.stopping.wait()


if __name__ == "__main__":
    main()
