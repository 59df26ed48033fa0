"""Which whisper model a request means."""

from __future__ import annotations

from pathlib import Path

from infra.errors import WeightsAway
from infra.jobs.request import Preset, Request
from infra.settings import settings
from tasks.models.memory import Device, device
from tasks.models.places import locate, present
from tasks.models.progress import Report, nobody


def chosen(request: Request, report: Report = nobody, on: Device = "best") -> tuple[str, Path]:
    """The model for a request and its folder.

    A model that is named, in the request or in the settings, is that one or an error. A preset works without a
    network when the extra `offline` is installed: `low` is tiny.en for songs known to be English, else base; the
    others are large-v3-turbo where a GPU carries it, `high` also where it is on this machine already, else base.
    """
    if named := request.model or settings().whisper_model:
        return named, locate(named, report)
    if request.preset is Preset.LOW and request.language == "en":
        return "tiny.en", locate("tiny.en", report)
    wanted = request.preset is Preset.HIGH and present("large-v3-turbo")
    if wanted or (request.preset is not Preset.LOW and device(on) == "cuda"):
        try:
            return "large-v3-turbo", locate("large-v3-turbo", report)
        except WeightsAway:
            pass
    return "base", locate("base", report)
