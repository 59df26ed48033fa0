"""The models: what there is (`catalogue`), where their weights come from (`places`), which of them are in memory."""

from __future__ import annotations

from tasks.models.memory import Device, device, half, hold, on_all_threads, release, threads, torch_device
from tasks.models.offsets import OFFSETS, offset
from tasks.models.places import aligner, demucs, exists, locate, present
from tasks.models.progress import Report, nobody
from tasks.models.whisper import chosen

__all__ = [
    "OFFSETS",
    "Device",
    "Report",
    "aligner",
    "chosen",
    "demucs",
    "device",
    "exists",
    "half",
    "hold",
    "locate",
    "nobody",
    "offset",
    "on_all_threads",
    "present",
    "release",
    "threads",
    "torch_device",
]
