"""Files on Cloudinary, through its SDK, and copies of them on this machine.

Whether a file is there is a HEAD on its delivery link, never a call of the Admin API: that allows 500 calls an hour on
a free account, delivery any number.

Audio is of Cloudinary's resource type `video`; its public id has no suffix, and a link without one delivers it as it
came. Everything else is `raw`, with the suffix in the public id. These are the ids of the system before this one, so
what that kept is found.

The CDN keeps copies for up to 30 days. A link that an upload gives names its version; any other says v1, which is no
version, but lets the CDN forget its copy when the file is written anew or removed: for that it wants some number.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx

from infra.errors import BadRequest, MissingFile, StorageAway, StorageRefused, UserError
from infra.once import Once
from infra.storage.keys import content_type, parts
from infra.storage.local import LocalStorage

TIMEOUT = 60.0  # seconds without a byte
LOOK = 15.0  # seconds for an answer without content
CHUNKED_ABOVE = 100_000_000  # bytes that Cloudinary takes in one request
CHUNK = 20_000_000  # bytes; at least 5 MB
SHOWN = 200  # characters of Cloudinary's words that a user reads

TAG = "yt-lyrics"
NO_VERSION = 1
FOR_NOTHING = "yt-lyrics/doctor"  # a public id that nothing has

# What the SDK would otherwise take from a configuration of its own, which it reads from the environment.
CALL = {
    "upload_prefix": None,
    "oauth_token": None,
    "upload_preset": None,
    "signature_algorithm": "sha1",
    "signature_version": 2,
}
DELIVERY = {
    "secure": True,
    "private_cdn": False,
    "cname": None,
    "secure_distribution": None,
    "cdn_subdomain": None,
    "secure_cdn_subdomain": None,
    "force_version": True,
    "shorten": False,
    "sign_url": False,
    "long_url_signature": False,
    "use_root_path": False,
    "auth_token": False,
}

_PUBLIC_ID = re.compile(r"(?!https?:)[^?&#\\%<>+\x00-\x1f\x7f]{1,255}")
_AUDIO = re.compile(r"(audio/[^/]+/audio)(\.[A-Za-z0-9]+)?")
_DELIVERED = re.compile(r".*?/(video|raw)/upload/(?:s--[\w-]+--/)?(?:v\d+/)?(.+)")

log = logging.getLogger("storage")


class Asset(NamedTuple):
    kind: str  # Cloudinary's resource type
    id: str  # its public id
    suffix: str = ""  # of its link, where the public id has none


def asset(key: str) -> Asset:
    """What the key is called there."""
    audio = _AUDIO.fullmatch(key)
    media = content_type(key).startswith(("audio/", "video/"))
    found = Asset("video", audio[1], (audio[2] or "") if media else "") if audio else Asset("raw", key)
    whole = "/".join(parts(key)) == key and all(part == part.strip() for part in parts(key))
    if not whole or not _PUBLIC_ID.fullmatch(found.id):
        raise StorageRefused(reason=f'"{key[:SHOWN]}" is no name of a file there')
    return found


@dataclass(frozen=True)
class CloudinaryStorage:
    account: Mapping[str, Any] = field(repr=False)  # as `account` reads it
    copies: LocalStorage
    chunked_above: int = CHUNKED_ABOVE
    chunk: int = CHUNK
    timeout: float = TIMEOUT

    @classmethod
    def at(cls, url: str, copies: Path) -> Self:
        return cls(account(url), LocalStorage(copies))

    @property
    def cloud(self) -> str:
        return str(self.account["cloud_name"])

    def exists(self, key: str) -> bool:
        return answers(self._link(asset(key)._replace(suffix="")))

    def url(self, key: str) -> str:
        return self._link(asset(key))

    def key(self, url: str) -> str | None:
        found = _DELIVERED.fullmatch(urlsplit(url).path)
        try:
            known = asset(unquote(found[2])) if found else None
        except (UserError, UnicodeError):
            return None
        if found is None or known is None or known.kind != found[1]:
            return None
        ours = urlsplit(self._link(known))
        same = ours.netloc == urlsplit(url).netloc and found[0].startswith(ours.path.partition("/upload/")[0])
        return known.id + known.suffix if same else None

    def key_of(self, file: Path) -> str | None:
        """The key of a file that `file` gave."""
        return self.copies.key_of(file)

    def put(self, key: str, content: bytes, *, job: str | None = None) -> str:
        return self._upload("upload", key, (Path(key).name, content), job)

    def keep(self, key: str, file: Path, *, job: str | None = None) -> str:
        """Upload a finished file; it becomes the copy on this machine."""
        if file.stat().st_size > self.chunked_above:
            link = self._upload("upload_large", key, str(file), job, chunk_size=self.chunk)
        else:
            link = self._upload("upload", key, str(file), job)
        self.copies.keep(key, file)
        return link

    def read(self, key: str) -> bytes:
        with self._delivered(key) as answer:
            return answer.read()

    def file(self, key: str) -> Path:
        """The copy on this machine, fetched whole or not at all."""
        if not self.copies.exists(key):
            with self._delivered(key) as answer, self.copies.writing(key) as partial:
                size = 0
                with partial.open("wb") as target:
                    for piece in answer.iter_raw():
                        size += target.write(piece)
                if str(size) != answer.headers.get("Content-Length", str(size)):
                    raise StorageAway(reason="it sent a part of the file only")
        self.copies.touch(key)
        return self.copies.file(key)

    def remove(self, key: str) -> None:
        kind, id, _ = asset(key)
        self._ask("destroy", id, resource_type=kind, invalidate=True)
        self.copies.remove(key)

    def touch(self, key: str) -> None:
        """Cloudinary counts no uses; the copy's are what its place on this machine depends on."""
        self.copies.touch(key)

    def check(self) -> None:
        """Raises what any call would raise that is signed; this one is free, and removes what is not there."""
        self._ask("destroy", FOR_NOTHING, resource_type="raw")

    # --- one call each ------------------------------------------------------------------------

    def _link(self, asset: Asset, version: int = NO_VERSION) -> str:
        delivery = {name: self.account[name] for name in ("cloud_name", "api_secret", "signature_algorithm", *DELIVERY)}
        suffix = asset.suffix.removeprefix(".") or None
        url, _ = _sdk("utils").cloudinary_url(
            asset.id, resource_type=asset.kind, format=suffix, version=version, **delivery
        )
        return url

    def _upload(self, call: str, key: str, content: Any, job: str | None, **options: Any) -> str:
        """Overwrites: what is sent twice, because the answer to the first was lost, is there once."""
        there = asset(key)
        told = self._ask(
            call,
            content,
            public_id=there.id,
            resource_type=there.kind,
            filename=Path(key).name,
            tags=[TAG, f"job-{job}"] if job else [TAG],
            overwrite=True,
            invalidate=True,
            **options,
        )
        if not isinstance(told.get("version"), int):
            raise StorageAway(reason="it answered nonsense")
        return self._link(there, told["version"])

    def _ask(self, call: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        api = {name: self.account[name] for name in ("cloud_name", "api_key", "api_secret", *CALL)}
        try:
            return getattr(_sdk("uploader"), call)(*arguments, timeout=self.timeout, **api, **options)
        except _sdk("exceptions").Error as error:
            failure = self._failure(type(error).__name__, str(error))
        raise failure  # outside of the block: the SDK's error, which may repeat a signature, does not hang on to it

    def _failure(self, kind: str, message: str) -> UserError:
        shown = self._shown(message)
        log.warning("Cloudinary: %s: %s", kind, shown)
        match kind:
            case "AuthorizationRequired":
                return StorageRefused(reason="it does not accept the cloud, key and secret in CLOUDINARY_URL")
            case "RateLimited":
                return StorageAway(reason="it takes no more calls for a while")
            case "GeneralError":
                return StorageAway(reason="it failed")
            case "Error":  # no answer, or one that the SDK has no class for
                return _unclear(shown)
            case _:
                return StorageRefused(reason=shown)

    def _shown(self, message: str) -> str:
        """Cloudinary's words, one line, without what is secret."""
        for secret in ("api_secret", "api_key"):
            message = message.replace(self.account[secret], "…")
        message = re.sub(r"\b[0-9a-f]{40,64}\b", "…", message)
        return " ".join(message.split())[:SHOWN].rstrip(". ") or "it gives no reason"

    @contextmanager
    def _delivered(self, key: str) -> Generator[httpx.Response]:
        """The file as it was uploaded, while it arrives."""
        url = self._link(asset(key)._replace(suffix=""))
        with (
            _connected(),
            _client().stream("GET", url, timeout=self.timeout, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if not _found(answer):
                raise MissingFile(name=key)
            yield answer


def account(url: str) -> dict[str, Any]:
    """What CLOUDINARY_URL says, as the SDK reads it; delivery is over https unless it says secure=false."""
    try:
        where = urlsplit(url)
        cloud = where.hostname or ""
    except ValueError:  # its message repeats what it was given
        where, cloud = urlsplit(""), ""
    if where.scheme != "cloudinary" or not (where.username and where.password and re.fullmatch(r"[\w-]+", cloud)):
        raise BadRequest(what="The setting CLOUDINARY_URL is wrong: it must read cloudinary://KEY:SECRET@CLOUD.")
    known: dict[str, Any] = {**CALL, **DELIVERY}
    if own := where.path.strip("/"):
        known |= {"private_cdn": True, "secure_distribution": own}
    truths = {"true": True, "false": False}
    asked = {name: truths.get(value, value) for name, value in parse_qsl(where.query) if name in known}
    return {**known, **asked, "cloud_name": cloud, "api_key": where.username, "api_secret": where.password}


def answers(url: str) -> bool:
    """Whether there is a file behind the link; on any CDN, since an account may have had another name before."""
    with _connected():
        return _found(_client().head(url, timeout=LOOK))


def _found(answer: httpx.Response) -> bool:
    """Cloudinary says in a header why it delivers nothing."""
    status = answer.status_code
    if status in (408, 420, 425, 429) or status >= 500:
        raise StorageAway(reason=f"it answered {status}")
    if answer.is_success or status in (404, 410):
        return answer.is_success
    reason = answer.headers.get("x-cld-error", "").rstrip(". ")[:SHOWN]
    raise StorageRefused(reason=reason or f"it answered {status}")


def _unclear(message: str) -> UserError:
    """An error by its words alone: those of the connection, or of an answer with a status of its own."""
    found = re.match(r"Error parsing server response \((\d{3})\)", message)
    status = int(found[1]) if found else 0
    if status == 413 or "too large" in message.lower():
        return StorageRefused(reason="the file is too large for this account")
    if 400 <= status < 500 and status not in (408, 420, 425, 429):
        return StorageRefused(reason=f"it answered {status}")
    if status:
        return StorageAway(reason=f"it answered {status}")
    return StorageAway(reason="it does not answer" if "timed out" in message.lower() else "the connection failed")


@contextmanager
def _connected() -> Generator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise StorageAway(reason="it does not answer") from error
    except httpx.HTTPError as error:
        raise StorageAway(reason="the connection failed") from error


@Once
def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT)


def _sdk(module: str) -> Any:
    """Imported at first use: it reads CLOUDINARY_URL itself by then, and dies of one that `account` refuses."""
    return import_module(f"cloudinary.{module}")
