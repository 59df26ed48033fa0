"""Where somebody sings: by the sound's own loudness, or through a band that plays all the time, by a network.

The network (`tasks/letters`) needs the ears of whisper base; where those cannot be had, loudness must do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infra.errors import DiskFull, WeightsAway
from tasks import letters, models, voice
from tasks.audio import Samples
from tasks.letters import FRAME, NONE, Floats
from tasks.models import Device, Report
from tasks.transcribe.ear import Ear
from tasks.transcribe.whisper import FasterWhisper
from tasks.voice import Span

WINDOW = round(24.0 / FRAME)  # frames that are heard at a time …
AROUND = round(1.5 / FRAME)  # … with as many before and behind, for the encoder to know where it is
SILENT = -8.0  # log-likelihood of a letter where nobody listens


def phrases(samples: Samples, report: Report, device: Device = "best") -> tuple[Span, ...]:
    """The phrases, by what can be had here."""
    loud = voice.sung(samples)
    if not loud or not voice.drowned(samples):
        return loud
    try:
        ear = ears(report, device)
    except (WeightsAway, DiskFull):
        return loud
    heard = listen(ear, samples, loud, report)
    return voice.likely(1 - np.exp(heard[:, NONE]), samples.duration)


def ears(report: Report, device: Device = "best") -> Ear:
    """Those that the network was trained on."""
    return FasterWhisper(letters.MODEL, models.locate(letters.MODEL, report), device).ear()


def listen(ear: Ear, samples: Samples, spans: Sequence[Span], report: Report) -> Floats:
    """The log-likelihood of each letter in each frame of the song; outside of the spans nobody sings."""
    frames = int(samples.duration / FRAME)
    heard = np.full((frames, len(letters.network().prior)), SILENT, np.float32)
    heard[:, NONE] = 0.0
    sung = np.zeros(frames, bool)
    for span in spans:
        sung[int(span.start / FRAME) : int(span.end / FRAME) + 1] = True
    for begin in range(0, frames, WINDOW):
        end = min(begin + WINDOW, frames)
        report(begin / max(frames, 1), "Listening for the singing")
        if sung[begin:end].any():
            heard[begin:end] = _window(ear, samples, begin, end)
    heard[~sung] = SILENT
    heard[~sung, NONE] = 0.0
    return heard


def _window(ear: Ear, samples: Samples, begin: int, end: int) -> Floats:
    first = max(begin - AROUND, 0)
    sound = samples.between(first * FRAME, (end + AROUND) * FRAME)
    found = letters.network()(ear.features(sound))[begin - first : end - first]
    return np.pad(found, ((0, end - begin - len(found)), (0, 0)), mode="edge")
