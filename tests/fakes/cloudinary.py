"""Cloudinary on loopback: its Upload API, its delivery with a CDN that remembers, and how both refuse.

with CloudinaryServer() as cloudinary:
    cloudinary.url                                     what CLOUDINARY_URL names; also cloudinary.environment()
    cloudinary.assets["raw", "transcriptions/1/…"]     what was uploaded
    cloudinary.hold("video", "audio/x/audio", b"…")    what somebody uploaded before
    cloudinary.fault("upload", Fault(status=420))      what the next such request meets: upload, destroy, HEAD or GET
    cloudinary.asked                                   every request, in order

Real SDKs talk to it: signatures are verified. The Admin API has used up its calls: who asks it is answered 420.
By hand: `python -m tests.fakes.cloudinary` prints CLOUDINARY_URL and serves until interrupted.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

CLOUD, KEY, SECRET = "demo-songs", "123456789012345", "Zx9-secret_of_the-fake0"
FRESH = 3600.0  # seconds for which a signature is good
UNSIGNED = {"file", "cloud_name", "resource_type", "api_key", "signature"}
ADMIN = "Rate Limit Exceeded. Limit of 500 api operations reached."


@dataclass(frozen=True)
class Asset:
    content: bytes
    format: str
    version: int
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0  # bytes of its file


@dataclass(frozen=True)
class Fault:
    status: int = 0  # answered instead; 0 does what was asked
    message: str = "General Error"
    page: bool = False  # the error is a page of some proxy's, not JSON
    lost: bool = False  # what was asked is done, the connection breaks before the answer
    hangs: bool = False  # what was asked is done, and no answer comes
    ends_after: int | None = None  # bytes, after which the connection breaks although more was promised
    promises: bool = True  # how long the body is


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class CloudinaryServer:
    def __init__(self) -> None:
        self.assets: dict[tuple[str, str], Asset] = {}  # by resource type and public id
        self.asked: list[Asked] = []
        self.most_bytes = 100_000_000  # in one request
        self.stopping = threading.Event()
        self._cdn: dict[str, Asset] = {}  # by the path that it was asked for
        self._parts: dict[str, bytearray] = defaultdict(bytearray)  # of uploads in chunks
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._last_version = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cloudinary": self}))
        self._server.daemon_threads = False  # so that closing waits for them
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="fake Cloudinary")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return self.named()

    def named(self, key: str = KEY, secret: str = SECRET) -> str:
        """CLOUDINARY_URL with these credentials."""
        where = f"upload_prefix=http://{self.host}&secure=false&cname={self.host}"
        return f"cloudinary://{key}:{secret}@{CLOUD}?{where}"

    def environment(self) -> dict[str, str]:
        return {"CLOUDINARY_URL": self.url}

    def fault(self, what: str, *faults: Fault) -> None:
        self._faults[what].extend(faults)

    def met(self, what: str) -> Fault:
        return self._faults[what].popleft() if self._faults[what] else Fault()

    def requests(self, what: str) -> list[Asked]:
        """Those to that call of the Upload API, or of that method on delivery links."""
        return [asked for asked in self.asked if _kind(asked.method, asked.path) == what]

    def hold(self, kind: str, id: str, content: bytes, format: str = "") -> Asset:
        asset = self.assets[kind, id] = Asset(content, format, self._next_version())
        return asset

    # --- the Upload API -----------------------------------------------------------------------

    def call(self, kind: str, action: str, params: Mapping[str, str], file: Part, headers: Mapping[str, str]) -> Any:
        _verify(params)
        id = params.get("public_id", "")
        if not re.fullmatch(r"[^?&#\\%<>+]{1,255}", id) or id != id.strip(" /"):
            raise Refused(400, f"public_id ({id}) is invalid")
        if action == "destroy":
            gone = self.assets.pop((kind, id), None)
            self._forget(kind, id, params)
            return {"result": "ok" if gone else "not found"}
        return self._upload(kind, id, params, file, headers)

    def _upload(
        self, kind: str, id: str, params: Mapping[str, str], file: Part, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        if len(file.content) > self.most_bytes:
            raise Refused(400, f"File size too large. Got {len(file.content)}. Maximum is {self.most_bytes}.")
        content = self._assembled(file.content, headers)
        if content is None:
            return {"done": False, "public_id": id, "resource_type": kind, "bytes": len(file.content)}
        if not content:
            raise Refused(400, "Empty file")
        tags = tuple(filter(None, params.get("tags", "").split(",")))
        format = "" if kind == "raw" else file.name.rpartition(".")[2]
        asset = self.assets[kind, id] = Asset(content, format, self._next_version(), tags)
        self._forget(kind, id, params)
        return {
            "public_id": id,
            "version": asset.version,
            "signature": hashlib.sha1(f"public_id={id}&version={asset.version}{SECRET}".encode()).hexdigest(),
            "resource_type": kind,
            "type": "upload",
            "tags": list(tags),
            "bytes": len(content),
            "etag": hashlib.md5(content).hexdigest(),
            **({"format": format} if format else {}),
        }

    def _assembled(self, content: bytes, headers: Mapping[str, str]) -> bytes | None:
        """The whole file, once its last chunk has come."""
        if "content-range" not in headers:
            return content
        first, last, total = map(int, re.findall(r"\d+", headers["content-range"]))
        parts = self._parts[headers["x-unique-upload-id"]]
        if len(parts) != first or len(content) != last - first + 1:
            raise Refused(400, "Invalid chunk: the chunks of an upload follow each other")
        parts += content
        return bytes(self._parts.pop(headers["x-unique-upload-id"])) if last + 1 == total else None

    def _next_version(self) -> int:
        self._last_version = max(int(time.time()), self._last_version + 1)
        return self._last_version

    def _forget(self, kind: str, id: str, params: Mapping[str, str]) -> None:
        """What the CDN has of it, if that is wanted; of links into folders only those with a version, as really."""
        if params.get("invalidate") in ("1", "true", "True"):
            known = re.compile(rf"/{CLOUD}/{kind}/upload/v\d+/{re.escape(id)}(\.\w+)?")
            self._cdn = {path: asset for path, asset in self._cdn.items() if not known.fullmatch(path)}

    # --- delivery -----------------------------------------------------------------------------

    def delivered(self, path: str) -> Asset:
        path = unquote(path)
        if path not in self._cdn:
            self._cdn[path] = self._original(path)
        return self._cdn[path]

    def _original(self, path: str) -> Asset:
        """Whatever version a link names, the newest is delivered."""
        found = re.fullmatch(rf"/{CLOUD}/(\w+)/upload/(?:v\d+/)?(.+)", path)
        if found is None:
            raise Refused(404, "Resource not found")
        kind, id = found[1], found[2]
        if asset := self.assets.get((kind, id)):
            return asset
        stem, _, format = id.rpartition(".")
        asset = self.assets.get((kind, stem))
        if asset is None:
            raise Refused(404, f"Resource not found - {id}")
        if asset.format != format:
            raise Refused(400, f"Invalid extension in transformation: {format}")  # really: converts media
        return asset


@dataclass(frozen=True)
class Part:
    name: str = ""
    content: bytes = b""


def _verify(params: Mapping[str, str]) -> None:
    if params.get("api_key") != KEY:
        raise Refused(401, f"Unknown API key {params.get('api_key')}")
    signed = sorted(f"{k}={v}".replace("&", "%26") for k, v in params.items() if v and k not in UNSIGNED)
    text = "&".join(signed)
    given = params.get("signature", "")
    if given != hashlib.sha1((text + SECRET).encode()).hexdigest():
        raise Refused(401, f"Invalid Signature {given}. String to sign - '{text}'.")
    age = time.time() - int(params["timestamp"])
    if abs(age) > FRESH:
        raise Refused(400, f"Stale request - reported time is {params['timestamp']} which is more than 1 hour ago")


def _kind(method: str, path: str) -> str:
    api = re.fullmatch(rf"/v1_1/{CLOUD}/(?:raw|video|image)/(upload|destroy)", path)
    return api[1] if api and method == "POST" else "admin" if path.startswith("/v1_1/") else method


class _Handler(BaseHTTPRequestHandler):
    cloudinary: CloudinaryServer
    timeout = 10  # seconds, so that no client keeps the server from closing

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        params, file = self._form(body)
        self._met(params, file)

    def do_GET(self) -> None:
        self._met({}, Part())

    do_HEAD = do_PUT = do_DELETE = do_GET

    def _met(self, params: dict[str, str], file: Part) -> None:
        server, path = self.cloudinary, urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.asked.append(Asked(self.command, path, params, headers, len(file.content)))
        what = _kind(self.command, path)
        fault = server.met(what)
        try:
            if fault.status:
                raise Refused(fault.status, fault.message)
            if what == "admin":
                raise Refused(420, ADMIN)
            answer: Any = None
            if what in ("upload", "destroy"):
                kind, action = path.split("/")[-2:]
                answer = json.dumps(server.call(kind, action, params, file, headers)).encode()
            asset = server.delivered(path) if answer is None else None
        except Refused as refused:
            return self._refuse(refused, fault, api=path.startswith("/v1_1/"))
        if fault.hangs:
            server.stopping.wait()
        if fault.lost or fault.hangs:
            return None
        if asset is None:
            return self._send(200, answer, {"Content-Type": "application/json"}, fault)
        return self._deliver(path, asset, fault)

    def _refuse(self, refused: Refused, fault: Fault, *, api: bool) -> None:
        error = {"error": {"message": refused.message}}
        content = f"<html>{refused.message}</html>".encode() if fault.page else json.dumps(error).encode() * api
        type = "text/html" if fault.page else "application/json"
        self._send(refused.status, content, {"Content-Type": type, "X-Cld-Error": refused.message}, Fault())

    def _deliver(self, path: str, asset: Asset, fault: Fault) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        whole = len(asset.content)
        start, end = (int(asked[1]), min(int(asked[2] or whole) + 1, whole)) if asked else (0, whole)
        named = path if "." in path.rpartition("/")[2] else f"x.{asset.format}"
        headers = {
            "Content-Type": mimetypes.guess_type(named)[0] or "application/octet-stream",
            "Access-Control-Allow-Origin": "*",
            "Accept-Ranges": "bytes",
            "ETag": f'"{hashlib.md5(asset.content).hexdigest()}"',
        }
        if asked:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{whole}"
        self._send(206 if asked else 200, asset.content[start:end], headers, fault)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], fault: Fault) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if fault.promises:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content[: fault.ends_after])

    def _form(self, body: bytes) -> tuple[dict[str, str], Part]:
        """The fields, lists as commas join them, and the file."""
        type = self.headers.get("Content-Type", "")
        if "boundary=" not in type:
            return dict(parse_qsl(body.decode())), Part()
        params: dict[str, str] = {}
        file = Part()
        boundary = b"--" + type.partition("boundary=")[2].strip('"').encode()
        for piece in body.split(boundary)[1:-1]:
            head, _, content = piece.removeprefix(b"\r\n").removesuffix(b"\r\n").partition(b"\r\n\r\n")
            told = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
            if told["name"] == "file":
                file = Part(told.get("filename", ""), content)
            else:
                name, value = told["name"].removesuffix("[]"), content.decode()
                params[name] = f"{params[name]},{value}" if name in params else value
        return params, file

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    with CloudinaryServer() as cloudinary, suppress(KeyboardInterrupt):
        print(f"export CLOUDINARY_URL='{cloudinary.url}'", flush=True)
        cloudinary.stopping.wait()


if __name__ == "__main__":
    main()
