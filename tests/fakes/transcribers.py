"""Groq's and OpenAI's transcription on loopback: they know the demo song, and hear of it what they are sent.

with TranscriberServer() as server:
    server.environment()                        keys and addresses, as the settings take them
    server.asked                                every request, in order: Asked(engine, fields, seconds, …)
    server.fault("groq", Fault(status=503))     what the engine's next request meets
    server.limits["groq"] = Limits(requests=2)  from when on it answers 429, or how large a file may be

The real SDKs talk to it. A file is decoded, and each run of its samples is looked for in the song's: a word is heard
where all of it arrived in one run, at the time where it is in the file. What is lost is not heard, what is sent twice
is heard twice, and what is no part of the song is counted as `strange`.
By hand: `python -m tests.fakes.transcribers` prints the variables and serves until interrupted.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Self

import av
import numpy as np

from tasks.audio import RATE, decode

DEMO = Path(__file__).parents[2] / "flows" / "demo"
Engine = Literal["groq", "openai"]
PATHS: dict[str, Engine] = {"/openai/v1/audio/transcriptions": "groq", "/v1/audio/transcriptions": "openai"}
KEYS: dict[Engine, str] = {"groq": "gsk_of-the-fake", "openai": "sk-of-the-fake"}
MODELS: dict[Engine, dict[str, set[str]]] = {  # and the formats that each one answers in
    "groq": {name: {"json", "verbose_json"} for name in ("whisper-large-v3-turbo", "whisper-large-v3")},
    "openai": {
        "whisper-1": {"json", "verbose_json"},
        "gpt-4o-transcribe": {"json"},
        "gpt-4o-mini-transcribe": {"json"},
    },
}
PROMPT = 896  # characters that Groq takes
KEY = 400  # samples by which a run is found in the song
WHOLE = 0.95  # of a word's samples, without which it is not understood


@dataclass(frozen=True)
class Fault:
    status: int = 0  # answered instead; 0 hears what was sent
    message: str = "Something went wrong"
    code: str | None = None
    retry_after: str | None = None
    body: bytes | None = None  # answered instead, with status 200
    type: str = "application/json"
    ends_after: int | None = None  # bytes, after which the connection breaks although more was promised
    lost: bool = False  # heard, and the connection breaks before the answer
    hangs: bool = False  # heard, and no answer comes
    change: dict[str, Any] = field(default_factory=dict)  # fields of the answer that are others; None leaves one out


@dataclass
class Limits:
    megabytes: float = 25.0
    requests: float = float("inf")
    seconds: float = float("inf")
    retry_after: str = "3600"


@dataclass(frozen=True)
class Run:
    """Samples of the song that arrived as they are."""

    song: int
    file: int
    length: int


@dataclass(frozen=True)
class Asked:
    engine: Engine
    fields: dict[str, str]  # lists as commas join them
    key: str
    size: int = 0  # bytes of the file
    seconds: float = 0.0
    runs: tuple[Run, ...] = ()
    strange: int = 0  # samples that are no part of the song

    @property
    def model(self) -> str:
        return self.fields.get("model", "")


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after = status, message, code, retry_after


class TranscriberServer:
    def __init__(self, song: Path = DEMO / "harbor-light.vocals.opus") -> None:
        self.song = _int16(decode(song, max_seconds=3600).values)
        self.truth = json.loads((DEMO / "harbor-light.json").read_text())
        self.asked: list[Asked] = []
        self.limits: dict[Engine, Limits] = defaultdict(Limits)
        self.stopping = threading.Event()
        self._faults: dict[Engine, deque[Fault]] = defaultdict(deque)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"transcribers": self}))
        self._server.daemon_threads = False  # so that closing waits for them
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="fake transcribers")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self, *engines: Engine) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._server.server_port}"
        keys = {f"{engine.upper()}_API_KEY": KEYS[engine] for engine in engines or KEYS}
        return {"GROQ_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1", **keys}

    def fault(self, engine: Engine, *faults: Fault) -> None:
        self._faults[engine].extend(faults)

    def met(self, engine: Engine) -> Fault:
        return self._faults[engine].popleft() if self._faults[engine] else Fault()

    def forget(self) -> None:
        """As it was at first."""
        self.asked.clear()
        self.limits.clear()
        self._faults.clear()

    # --- what is refused ----------------------------------------------------------------------

    def check(self, asked: Asked) -> None:
        engine, fields, limits = asked.engine, asked.fields, self.limits[asked.engine]
        if asked.key != KEYS[engine]:
            raise Refused(401, f"Incorrect API key provided: {asked.key[:4]}***", "invalid_api_key")
        if asked.size > limits.megabytes * 1_000_000:
            raise Refused(413, "Request Entity Too Large", "request_too_large")
        if asked.model not in MODELS[engine]:
            raise Refused(404, f"The model `{asked.model}` does not exist", "model_not_found")
        if fields.get("response_format", "json") not in MODELS[engine][asked.model]:
            told = f"response_format '{fields['response_format']}' is not compatible with model '{asked.model}'"
            raise Refused(400, f"{told}. Use 'json' or 'text' instead.", "unsupported_value")
        if engine == "groq" and len(fields.get("prompt", "")) > PROMPT:
            raise Refused(400, f"prompt must be at most {PROMPT} characters")
        if limits.requests < 1 or limits.seconds < asked.seconds:
            raise Refused(
                429, "Rate limit reached on seconds of audio per hour", "rate_limit_exceeded", limits.retry_after
            )
        limits.requests -= 1
        limits.seconds -= asked.seconds

    # --- what is heard ------------------------------------------------------------------------

    def heard(self, asked: Asked) -> dict[str, Any]:
        lines = list(self._lines(asked.runs))
        words = [word for line in lines for word in line]
        text = " ".join(word["word"] for word in words)
        if asked.fields.get("response_format") != "verbose_json":
            credit = [{"token": word["word"], "logprob": -0.25, "bytes": []} for word in words]
            return {"text": text, **({"logprobs": credit} if "logprobs" in asked.fields.get("include", "") else {})}
        asks = asked.fields.get("timestamp_granularities", "segment").split(",")
        language = "English" if asked.engine == "groq" else "english"
        whole = {"task": "transcribe", "language": language, "duration": asked.seconds, "text": text}
        if "segment" in asks:
            whole["segments"] = [_segment(i, line) for i, line in enumerate(lines)]
        if "word" in asks:
            whole["words"] = words if asked.engine == "groq" else [_bare(word) for word in words]
        return whole

    def _lines(self, runs: tuple[Run, ...]) -> Iterator[list[dict[str, Any]]]:
        """The words that arrived, in lines, at their times in the file."""
        for run in runs:
            lines: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for word in self.truth["words"]:
                start, end = word["start"] * RATE, word["end"] * RATE
                arrived = min(end, run.song + run.length) - max(start, run.song)
                if arrived >= WHOLE * (end - start):
                    at = (run.file - run.song) / RATE
                    times = {"start": round(word["start"] + at, 3), "end": round(word["end"] + at, 3)}
                    lines[word["line"]].append({"word": word["word"], **times})
            yield from lines.values()

    def arrived(self, sound: np.ndarray) -> tuple[tuple[Run, ...], int]:
        """The runs of the song's samples in a file, and how many of its samples are none of them."""
        song, runs, strange, at = self.song.tobytes(), list[Run](), 0, 0
        while (rest := np.flatnonzero(sound[at:])).size:
            at += int(rest[0])  # silence is between runs
            place = song.find(sound[at : at + KEY].tobytes())
            if place < 0 or place % 2:
                strange, at = strange + KEY, at + KEY
                continue
            n = min(len(sound) - at, len(self.song) - place // 2)
            other = np.flatnonzero(sound[at : at + n] != self.song[place // 2 : place // 2 + n])
            run = Run(place // 2, at, int(other[0]) if other.size else n)
            runs.append(run)
            at += run.length
        return tuple(runs), strange


def _int16(values: np.ndarray) -> np.ndarray:
    return np.round(values.clip(-1, 1) * 32767).astype(np.int16)


def _decoded(file: bytes) -> np.ndarray:
    try:
        with av.open(BytesIO(file)) as container:
            stream = container.streams.audio[0]
            if (stream.codec_context.name, stream.rate, stream.channels) != ("flac", RATE, 1):
                raise Refused(400, "this fake hears FLAC of one channel at 16 kHz only")
            return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])
    except (av.FFmpegError, IndexError):
        raise Refused(400, "file must be one of the following types: [flac mp3 mp4 …]") from None


def _segment(id: int, words: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": id,
        "seek": 0,
        "start": words[0]["start"],
        "end": words[-1]["end"],
        "text": " " + " ".join(word["word"] for word in words),
        "tokens": [],
        "temperature": 0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.2,
        "no_speech_prob": 0.01,
    }


def _bare(word: dict[str, Any]) -> dict[str, Any]:
    """OpenAI leaves the punctuation off."""
    return {**word, "word": word["word"].strip(",.")}


class _Handler(BaseHTTPRequestHandler):
    transcribers: TranscriberServer
    timeout = 10  # seconds, so that no client keeps the server from closing

    def do_POST(self) -> None:
        server, engine = self.transcribers, PATHS[self.path]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields, file = self._form(body)
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = server.met(engine)
        try:
            sound = _decoded(file)
            runs, strange = server.arrived(sound)
            asked = Asked(engine, fields, key, len(file), len(sound) / RATE, runs, strange)
            server.asked.append(asked)
            if fault.status:
                raise Refused(fault.status, fault.message, fault.code, fault.retry_after)
            server.check(asked)
        except Refused as refused:
            return self._refuse(refused)
        answer = {**server.heard(asked), **fault.change}
        told = {name: value for name, value in answer.items() if value is not None}
        if fault.hangs:
            server.stopping.wait(5)
        if fault.lost or fault.hangs:
            return None
        return self._send(200, json.dumps(told).encode() if fault.body is None else fault.body, {}, fault)

    def _refuse(self, refused: Refused) -> None:
        error = {"message": refused.message, "type": "invalid_request_error", "param": None, "code": refused.code}
        headers = {"retry-after": refused.retry_after} if refused.retry_after is not None else {}
        self._send(refused.status, json.dumps({"error": error}).encode(), headers, Fault())

    def _send(self, status: int, content: bytes, headers: dict[str, str], fault: Fault) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": fault.type, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content[: fault.ends_after])

    def _form(self, body: bytes) -> tuple[dict[str, str], bytes]:
        """The fields, lists as commas join them, and the file."""
        fields: dict[str, str] = {}
        file = b""
        boundary = b"--" + self.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        for piece in body.split(boundary)[1:-1]:
            head, _, content = piece.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
            told = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
            if told["name"] == "file":
                file = content
            else:
                name, value = told["name"].removesuffix("[]"), content.decode()
                fields[name] = f"{fields[name]},{value}" if name in fields else value
        return fields, file

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    with TranscriberServer() as server, suppress(KeyboardInterrupt):
        for name, value in server.environment().items():
            print(f"export {name}='{value}'", flush=True)
        server.stopping.wait()


if __name__ == "__main__":
    main()
