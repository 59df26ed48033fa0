"""A Demucs checkpoint of htdemucs' real size, made here: the real weights cannot be had without a hub.

Its network does all of the real one's work, with random weights; what comes out as the voice is the sound that went in,
so that whoever listens to it afterwards has words to hear. For figures of time and memory, never of quality.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from demucs.htdemucs import HTDemucs

NAME = "realsize"
SOURCES = ["drums", "bass", "other", "vocals"]
HTDEMUCS = {  # as htdemucs was trained
    "channels": 48,
    "growth": 2,
    "nfft": 4096,
    "depth": 4,
    "dconv_mode": 3,
    "bottom_channels": 512,
    "t_layers": 5,
    "t_heads": 8,
    "samplerate": 44_100,
    "segment": Fraction(39, 5),
}


class Echo(HTDemucs):
    def forward(self, mix: torch.Tensor) -> torch.Tensor:
        stems = 1e-4 * super().forward(mix)
        stems[:, SOURCES.index("vocals")] += mix
        return stems


def write(folder: Path, klass: type[HTDemucs] = HTDemucs) -> str:
    """A checkpoint in the folder, as Demucs' own `--repo` takes it; its name."""
    torch.manual_seed(0)
    model = klass(SOURCES, **HTDEMUCS)
    package = {"klass": klass, "args": (SOURCES,), "kwargs": HTDEMUCS, "state": model.state_dict()}
    torch.save(package, folder / f"{NAME}.th")
    return NAME
