"""Kept audio and results, by key.

audio/{source}/audio.{suffix}             as it came; source: video id, web-{hash} or upload-{hash}
audio/{source}/about.json                 its title, artist and duration
audio/{source}/stems-{model}/{stem}.flac   the voice and the music by themselves; always on this machine
transcriptions/{jobId}/{stem}.flac         the same, where the job asked for them
transcriptions/{jobId}/results.json       the contract's document
transcriptions/{jobId}/subtitles.{format} every other format; of a race in transcriptions/{jobId}/{provider}/

They stand on Cloudinary where CLOUDINARY_URL is set, else in a folder. On this machine, whatever is set:

stages/{fingerprint}.json                 a song that is sung and not yet published
incoming/                                 what is on its way
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

from infra.errors import MissingFile, StorageRefused
from infra.settings import settings
from infra.storage.cloudinary import CloudinaryStorage, answers
from infra.storage.keys import content_type
from infra.storage.local import LocalStorage


class Storage(Protocol):
    """Kept audio and results, by key."""

    def exists(self, key: str) -> bool: ...

    def url(self, key: str) -> str:
        """The delivery link of a file that is there."""
        ...

    def key(self, url: str) -> str | None:
        """The key behind one of its links."""
        ...

    def key_of(self, file: Path) -> str | None:
        """The key of a file that `file` gave."""
        ...

    def put(self, key: str, content: bytes, *, job: str | None = None) -> str:
        """Its link; on Cloudinary with its version."""
        ...

    def keep(self, key: str, file: Path, *, job: str | None = None) -> str:
        """Moves the file in; its link."""
        ...

    def read(self, key: str) -> bytes: ...

    def file(self, key: str) -> Path:
        """The file on this machine, fetched there first if need be."""
        ...

    def remove(self, key: str) -> None: ...

    def touch(self, key: str) -> None:
        """The file is used now."""
        ...


def storage() -> Storage:
    there = on_cloudinary()
    return here() if there is None else there


def here() -> LocalStorage:
    """This machine's folder: what is on its way or between two stages, and what the API serves under /files/."""
    return LocalStorage(settings().data / "files")


def on_cloudinary() -> CloudinaryStorage | None:
    url = settings().cloudinary_url
    return _cloudinary(url.get_secret_value(), settings().data / "cache" / "files") if url else None


@cache
def _cloudinary(url: str, copies: Path) -> CloudinaryStorage:
    return CloudinaryStorage.at(url, copies)


def on_this_machine() -> list[LocalStorage]:
    """The folders that may hold audio here: what is kept, and copies of what Cloudinary keeps."""
    there = on_cloudinary()
    return [here(), *([there.copies] if there else [])]


def there(url: str) -> bool:
    """Whether a link that we gave leads to a file, whatever was set when we gave it."""
    key = here().key(url)
    try:
        return here().exists(key) if key else url.startswith(("http://", "https://")) and answers(url)
    except (MissingFile, StorageRefused):
        return False


def link(key: str) -> str | None:
    """The link to show for a file. A local one is looked for; Cloudinary is not asked, each look would be a request."""
    if here().exists(key):
        return here().url(key)
    store = on_cloudinary()
    return store.url(key) if store else None


__all__ = [
    "CloudinaryStorage",
    "LocalStorage",
    "Storage",
    "content_type",
    "here",
    "link",
    "on_cloudinary",
    "on_this_machine",
    "storage",
    "there",
]
