"""Kept audio and results, by key.

audio/{source}/audio.{suffix}             as it came; source: video id, web-{hash} or upload-{hash}
audio/{source}/about.json                 its title, artist and duration
transcriptions/{jobId}/results.json       the contract's document
transcriptions/{jobId}/subtitles.{format} every other format; of a race in transcriptions/{jobId}/{provider}/
stages/{fingerprint}.json                 a song that is sung and not yet published
incoming/                                 what is on its way
"""

from __future__ import annotations

from infra.settings import settings
from infra.storage.local import LocalStorage


def storage() -> LocalStorage:
    return LocalStorage(settings().data / "files")


__all__ = ["LocalStorage", "storage"]
