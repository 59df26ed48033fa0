"""faster-whisper, kept from making things up: nothing is believed that neither it nor a speech detector is sure of."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (faster-whisper and CTranslate2 are typed in part)

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infra.errors import BadRequest, UnknownLanguage
from infra.jobs.request import Request
from tasks import models, voice
from tasks.audio import RATE, Samples, clock
from tasks.models import Report
from tasks.song import Word
from tasks.transcribe import Device, Heard
from tasks.voice import Span

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.transcribe import Segment

# Silero is nearly deaf to singing over music, but what it hears at all is a voice: a note's attack over FAINT lasts
# a few hundredths of a second, and a whole instrumental holds less than half a percent of them.
FAINT = 0.3  # likelihood of a voice that counts as heard
SPOKEN_SHARE = 0.01  # of a song
SPOKEN_SECONDS = 0.5  # at least, in a song
SEGMENT_SECONDS = 0.25  # in a segment that is doubted otherwise

EXCERPT = 10.0  # seconds of heard voice in which the language is clear
AROUND = 0.5  # seconds kept around a heard voice
VOTES = 4  # windows asked for the language where little of the voice is heard
CERTAIN = 0.5  # mean likelihood of a language; most songs at 0 dB reach it, most instrumentals do not

POOR = -1.0  # mean log-likelihood of a segment's tokens; whisper itself calls less a failure, yet returns it
LOOPING = 2.4  # how far a text can be compressed; the same
BRACKETED = re.compile(r"\[.*]|\(.*\)|\*.*\*")  # what subtitles say about the sound
# What subtitles say where nothing is said; whisper learned it from them.
STOCK = frozenset({"you", "bye", "thank you", "thank you very much", "thanks for watching", "thank you for watching"})

ISO_TO_WHISPER = {"jv": "jw", "nb": "no", "fil": "tl"}
WHISPER_TO_ISO = {"jw": "jv"}


@dataclass(frozen=True, slots=True)
class FasterWhisper:
    model: str
    folder: Path
    device: Device = "best"

    @property
    def name(self) -> str:
        return f"faster-whisper {Path(self.model).name}"

    def warm(self) -> None:
        self._loaded()
        voice.speech(Samples(np.zeros(RATE, np.float32)))

    def _loaded(self) -> WhisperModel:
        return models.load(self.folder, models.device() if self.device == "best" else "cpu")

    def listen(
        self,
        samples: Samples,
        windows: Sequence[Span],
        *,
        language: str | None,
        prompt: str | None = None,
        report: Report,
    ) -> Heard:
        report(0.0, f"Loading the model {Path(self.model).name}")
        whisper = self._loaded()
        language = _known(language, whisper, self.model)
        report(0.0, "Listening for singing")
        speech = voice.speech(samples)
        spoken = _seconds(speech) >= max(SPOKEN_SECONDS, SPOKEN_SHARE * samples.duration)
        if len(whisper.supported_languages) > 1 and not (language and spoken):
            guess, likelihood = _language(whisper, samples, windows, speech)
            if not spoken and likelihood < CERTAIN:
                return Heard((), None)
            language = language or guess
        words: list[Word] = []
        for segment in _segments(whisper, samples, windows, language or "en", prompt):
            share = float(segment.end) / samples.duration
            report(share, f"Listening: {clock(segment.end)} of {clock(samples.duration)}")
            if _believed(segment, speech):
                words.extend(_words(segment, models.offset(self.model)))
        language = language or "en"
        return Heard(tuple(words), WHISPER_TO_ISO.get(language, language) if words else None)


def ready(request: Request, report: Report, device: Device = "best") -> FasterWhisper:
    return FasterWhisper(*models.chosen(request, report), device)


def _known(language: str | None, whisper: WhisperModel, model: str) -> str | None:
    """The language as whisper calls it; none where none is asked for."""
    if language is None:
        return None
    code = ISO_TO_WHISPER.get(language, language)
    if code in whisper.supported_languages:
        return code
    if whisper.supported_languages == ["en"]:
        raise BadRequest(what=f'The model {Path(model).name} knows English only, not "{language}".')
    raise UnknownLanguage(language=language)


def _language(
    whisper: WhisperModel, samples: Samples, windows: Sequence[Span], speech: NDArray[np.float32]
) -> tuple[str, float]:
    """The language of the singing and its likelihood: of the voice that is clearly heard, or by vote of the windows."""
    voiced = _voiced(samples, speech)
    longest = sorted(windows, key=lambda window: window.length, reverse=True)[:VOTES]
    parts = [voiced] if len(voiced) >= EXCERPT * RATE else [samples.between(w.start, w.end) for w in longest]
    likelihoods: dict[str, float] = {}
    for part in parts:
        _, _, every = whisper.detect_language(part)
        for language, likelihood in every:
            likelihoods[language] = likelihoods.get(language, 0.0) + float(likelihood) * len(part)
    best = max(likelihoods, key=lambda language: likelihoods[language])
    return best, likelihoods[best] / sum(len(part) for part in parts)


def _voiced(samples: Samples, speech: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound where a voice is heard, put together."""
    around = round(AROUND * RATE / voice.SPEECH_FRAME)
    near = np.convolve(speech > FAINT, np.ones(2 * around + 1), mode="same") > 0
    return samples.values[np.repeat(near, voice.SPEECH_FRAME)[: len(samples.values)]]


def _segments(
    whisper: WhisperModel, samples: Samples, windows: Sequence[Span], language: str, prompt: str | None
) -> Iterable[Segment]:
    """Window by window, not batched: that is twice as fast and as right in its words, but loses the lines."""
    import ctranslate2

    ctranslate2.set_random_seed(0)  # where whisper has to guess, it guesses the same the next time
    segments, _ = whisper.transcribe(
        samples.values,
        language=language,
        initial_prompt=prompt,
        condition_on_previous_text=False,  # what it made up once it would make up for the rest of the song
        word_timestamps=True,
        clip_timestamps=[time for window in windows for time in (window.start, window.end)],
    )
    return segments


def _believed(segment: Segment, speech: NDArray[np.float32]) -> bool:
    """Is this sung, and not a guess, "[Music]" or "Thank you."? A voice that Silero hears speaks for any of them."""
    text = segment.text.strip()
    doubtful = (
        segment.avg_logprob <= POOR
        or segment.compression_ratio > LOOPING
        or BRACKETED.fullmatch(text)
        or text.lower().strip(" .!") in STOCK
    )
    return not doubtful or _seconds(_between(speech, segment.start, segment.end)) >= SEGMENT_SECONDS


def _words(segment: Segment, offset: float) -> list[Word]:
    timed = [(word.word.strip(" ♪♫"), word) for word in segment.words or []]
    return [
        Word(text, float(word.start), float(word.end), float(word.probability)).moved(offset)
        for text, word in timed
        if any(letter.isalnum() for letter in text)
    ]


def _between(speech: NDArray[np.float32], start: float, end: float) -> NDArray[np.float32]:
    frame = voice.SPEECH_FRAME / RATE
    return speech[int(start / frame) : int(end / frame) + 1]


def _seconds(speech: NDArray[np.float32]) -> float:
    return float((speech > FAINT).sum()) * voice.SPEECH_FRAME / RATE
