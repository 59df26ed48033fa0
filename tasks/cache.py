"""Kept audio: what was fetched once is not fetched again; and kept songs: what was sung is not sung again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from infra.errors import disk_writes
from infra.jobs.request import Format
from infra.links import Link
from infra.storage import LocalStorage
from tasks.render import read, render
from tasks.song import Audio, Song

CHUNK = 1 << 20  # bytes


def source_of(link: Link) -> str:
    """What the link leads to, as a name: two links to the same song share it."""
    if link.kind == "youtube":
        return link.id
    if link.kind == "upload":
        return Path(link.key).stem
    return "web-" + hashlib.sha256(link.url.encode()).hexdigest()[:32]


def keep(store: LocalStorage, source: str, audio: Audio) -> tuple[str, Audio]:
    """Move the fetched file into the storage; its key, and the audio as it stands there."""
    key = f"audio/{source}/audio{audio.path.suffix.lower()}"
    store.keep(key, audio.path)
    about = {"key": key, "title": audio.title, "artist": audio.artist, "duration": audio.duration}
    store.put(f"audio/{source}/about.json", json.dumps(about).encode())
    return key, _audio(store, source, about)


def kept(store: LocalStorage, source: str) -> tuple[str, Audio] | None:
    """The key and audio kept of this source, if any."""
    try:
        about = json.loads(store.path(f"audio/{source}/about.json").read_bytes())
        key: str = about["key"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    if not store.exists(key):
        return None
    store.touch(key)  # what is used stays
    return key, _audio(store, source, about)


def keep_upload(store: LocalStorage, file: Path, name: str) -> str:
    """Keep a file that a user brought, under what it holds; its key. The file itself stays."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    title = Path(name).stem
    source_name = f"upload-{digest.hexdigest()[:32]}"
    key = f"audio/{source_name}/audio{safe_suffix(name)}"
    if not store.exists(key):
        with store.writing(key) as partial, disk_writes(key), file.open("rb") as source, partial.open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
    about = {"key": key, "title": title, "artist": None, "duration": 0.0}
    store.put(f"audio/{source_name}/about.json", json.dumps(about).encode())
    return source_name


def keep_song(store: LocalStorage, fingerprint: str, song: Song) -> None:
    """A run that dies while it publishes, and the job's next attempt, go on from here."""
    store.put(_stage(fingerprint), render(song, Format.JSON).encode())


def kept_song(store: LocalStorage, fingerprint: str) -> Song | None:
    """None, too, for one that another version kept and this one cannot read."""
    try:
        return read(store.path(_stage(fingerprint)).read_text(encoding="utf-8"), Format.JSON)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def forget_song(store: LocalStorage, fingerprint: str) -> None:
    """It is published."""
    store.remove(_stage(fingerprint))


def _stage(fingerprint: str) -> str:
    return f"stages/{fingerprint}.json"


def safe_suffix(name: str) -> str:
    """The end of a file name, if it is one that a media file may carry."""
    suffix = Path(name).suffix.lower()
    return suffix if 1 < len(suffix) <= 6 and suffix[1:].isascii() and suffix[1:].isalnum() else ".bin"


def _audio(store: LocalStorage, source: str, about: Mapping[str, object]) -> Audio:
    duration = about.get("duration")
    title, artist = about.get("title"), about.get("artist")
    return Audio(
        path=store.path(str(about["key"])),
        duration=float(duration) if isinstance(duration, int | float) else 0.0,
        title=str(title) if title else None,
        artist=str(artist) if artist else None,
        video_id=None if source.startswith(("web-", "upload-")) else source,
    )
