"""Kept audio: what was fetched once is not fetched again; and kept songs: what was sung is not sung again."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import MissingFile, disk_writes
from infra.jobs.request import Format
from infra.links import Link
from infra.settings import settings
from infra.storage import LocalStorage, Storage, here, on_this_machine
from tasks.render import read, render
from tasks.song import Audio, Chapter, Song

CHUNK = 1 << 20  # bytes
GB = 10**9  # bytes


def source_of(link: Link) -> str:
    """What the link leads to, as a name: two links to the same song share it."""
    if link.kind == "youtube":
        return link.id
    if link.kind == "upload":
        return Path(link.key).stem
    return "web-" + hashlib.sha256(link.url.encode()).hexdigest()[:32]


class About(BaseModel):
    """What stands beside kept audio."""

    model_config = ConfigDict(frozen=True)

    key: str
    title: str | None = None
    artist: str | None = None
    duration: float = 0.0
    thumbnail: str | None = None
    chapters: tuple[Chapter, ...] = ()


def keep(store: Storage, source: str, audio: Audio, job: str | None = None) -> tuple[str, Audio]:
    """Move the fetched file into the storage; its key, and the audio as it stands there."""
    key = f"audio/{source}/audio{audio.path.suffix.lower()}"
    store.keep(key, audio.path, job=job)
    known = {name: getattr(audio, name) for name in About.model_fields if name != "key"}
    about = About(key=key, **known)
    store.put(_about(source), about.model_dump_json().encode(), job=job)
    return key, _audio(store, source, about)


def kept(store: Storage, source: str) -> tuple[str, Audio] | None:
    """The key and audio kept of this source, if any.

    The system before this one kept sound on Cloudinary and nothing about it: how long it is must be heard.
    """
    try:
        about = About.model_validate_json(store.read(_about(source)))
    except (MissingFile, ValidationError):
        about = About(key=f"audio/{source}/audio")
    if not store.exists(about.key):
        return None
    store.touch(about.key)  # what is used stays
    return about.key, _audio(store, source, about)


def trim_audio(spare: Collection[str]) -> list[str]:
    """Let go of the audio that nobody used for longest, down to MAX_AUDIO_GB; what went. Keys to spare are needed."""
    most = settings().max_audio_gb
    if most is None:
        return []
    return [key for store in on_this_machine() for key in store.trim("audio", most * GB, spare)]


def keep_upload(store: Storage, file: Path, name: str) -> str:
    """Keep a file that a user brought, under what it holds; its key. The file itself stays."""
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
    source_name = f"upload-{digest.hexdigest()[:32]}"
    key = f"audio/{source_name}/audio{safe_suffix(name)}"
    if not store.exists(key):
        with here().incoming() as place, disk_writes(key):
            store.keep(key, Path(shutil.copyfile(file, place / "copy")))
    store.put(_about(source_name), About(key=key, title=Path(name).stem).model_dump_json().encode())
    return source_name


def stems_place(audio_key: str) -> Path:
    """The folder for the voice and the music of kept audio: on this machine, whatever storage is set."""
    model = re.sub(r"[^\w.-]", "_", settings().demucs_model)
    return here().path(f"{audio_key.rpartition('/')[0]}/stems-{model}")


def keep_song(store: LocalStorage, fingerprint: str, song: Song) -> None:
    """A run that dies while it publishes, and the job's next attempt, go on from here."""
    store.put(_stage(fingerprint), render(song, Format.JSON).encode())


def kept_song(store: LocalStorage, fingerprint: str) -> Song | None:
    """None, too, for one that another version kept and this one cannot read."""
    try:
        return read(store.read(_stage(fingerprint)).decode(), Format.JSON)
    except (MissingFile, ValueError, LookupError, TypeError, AttributeError):
        return None


def forget_song(store: LocalStorage, fingerprint: str) -> None:
    """It is published."""
    store.remove(_stage(fingerprint))


def _stage(fingerprint: str) -> str:
    return f"stages/{fingerprint}.json"


def _about(source: str) -> str:
    return f"audio/{source}/about.json"


def safe_suffix(name: str) -> str:
    """The end of a file name, if it is one that a media file may carry."""
    suffix = Path(name).suffix.lower()
    return suffix if 1 < len(suffix) <= 6 and suffix[1:].isascii() and suffix[1:].isalnum() else ".bin"


def _audio(store: Storage, source: str, about: About) -> Audio:
    known = about.model_dump(exclude={"key", "chapters"})
    video_id = None if source.startswith(("web-", "upload-")) else source
    return Audio(path=store.file(about.key), video_id=video_id, chapters=about.chapters, **known)
