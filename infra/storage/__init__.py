"""Kept audio and results, by key.

audio/{videoId}/audio.opus            what was downloaded, with audio/{videoId}/about.json
uploads/{sha256}{suffix}              what was uploaded
transcriptions/{jobId}/results.json   results, as every format
"""

from __future__ import annotations

from infra.settings import settings
from infra.storage.local import LocalStorage


def storage() -> LocalStorage:
    return LocalStorage(settings().data / "files")


__all__ = ["LocalStorage", "storage"]
