"""What of an engine's words is believed: not what it makes up where nobody sings.

Silero is nearly deaf to singing over music, but what it hears at all is a voice: a note's attack over FAINT lasts a
few hundredths of a second, and a whole instrumental holds less than half a percent of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.audio import RATE
from tasks.transcribe import Segment
from tasks.voice import SPEECH_FRAME, Span

FAINT = 0.3  # likelihood of a voice that counts as heard
SPOKEN_SHARE = 0.01  # of what is sung
SPOKEN_SECONDS = 0.5  # at least, in a song
SEGMENT_SECONDS = 0.25  # in a segment that is doubted otherwise

FEEBLE = 0.1  # mean likelihood of a segment's words, that even a song drowned in its band exceeds
POOR = -1.0  # mean log-likelihood of a segment's tokens; whisper itself calls less a failure, yet returns it
LOOPING = 2.4  # how far a text can be compressed; the same
BRACKETED = re.compile(r"\[.*]|\(.*\)|\*.*\*")  # what subtitles say about the sound
# What subtitles say where nothing is said; whisper learned it from them.
STOCK = frozenset({"you", "bye", "thank you", "thank you very much", "thanks for watching", "thank you for watching"})


def believed(segment: Segment, voice: float) -> bool:
    """Is this sung, and not a guess, "[Music]" or "Thank you."? Seconds of voice heard there speak for any of them."""
    if segment.words and sum(word.confidence for word in segment.words) < FEEBLE * len(segment.words):
        return False
    doubtful = (
        (segment.avg_logprob is not None and segment.avg_logprob <= POOR)
        or (segment.compression_ratio is not None and segment.compression_ratio > LOOPING)
        or BRACKETED.fullmatch(segment.text)
        or segment.text.lower().strip(" .!") in STOCK
    )
    return not doubtful or voice >= SEGMENT_SECONDS


def spoken(speech: NDArray[np.float32], spans: Sequence[Span]) -> bool:
    """Whether a voice is heard for certain."""
    heard = sum(voiced(speech, span) for span in spans)
    return heard >= max(SPOKEN_SECONDS, SPOKEN_SHARE * sum(span.length for span in spans))


def voiced(speech: NDArray[np.float32], span: Span) -> float:
    """Seconds of voice that Silero hears."""
    frame = SPEECH_FRAME / RATE
    return float((speech[int(span.start / frame) : int(span.end / frame) + 1] > FAINT).sum()) * frame
