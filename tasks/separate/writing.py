"""Sound into a FLAC file, as it comes."""

# pyright: reportUnknownMemberType=false
# (PyAV is typed in part)

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tasks.audio import Chunk

FULL_SCALE = 32768  # of 16 bits


@contextmanager
def writer(path: Path, rate: int, channels: int) -> Generator[Callable[[Chunk], None]]:
    """Takes one piece after the other. FLAC, for it keeps every sample and its place, and is written at 500 times
    the speed of sound; whoever wants a smaller file can make one of it."""
    import av

    layout = "mono" if channels == 1 else "stereo"
    with av.open(path, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout=layout, format="s16")
        written = 0

        def write(piece: Chunk) -> None:
            nonlocal written
            whole = np.rint(piece * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(whole.T).reshape(1, -1), "s16", layout)
            frame.sample_rate, frame.pts = rate, written
            written += whole.shape[1]
            container.mux(stream.encode(frame))

        yield write
        container.mux(stream.encode(None))
