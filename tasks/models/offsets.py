"""By how much each model is early or late: by a constant, measured on songs with known times, kept as data."""

from __future__ import annotations

from pathlib import Path

# Seconds to add to the times of a model's words. `python -m benchmarks.offsets` measures them: on our own two songs
# base 0.14 to 0.16, tiny.en -0.16, and of the aligners tinyctc 0.016, less than one of its frames, which is left alone.
# Ten synthetic and ten real songs that are not ours said 0.09 and 0.116 for base, -0.115 for tiny.en: many songs count
# for more than two. Others: unmeasured.
OFFSETS = {"base": 0.12, "tiny.en": -0.13}


def offset(model: str) -> float:
    """By the model's name, or that of its folder."""
    return OFFSETS.get(Path(model).name, 0.0)
