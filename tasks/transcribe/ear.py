"""A whisper model that hears sounds of up to half a minute: their language, or their words in time.

What makes it quick on a CPU: the encoder gets the sound and two seconds more instead of half a minute always, and its
cost grows faster than the length. What makes it right: text without whisper's own times, with which it drops and
repeats lines of songs. Nothing is drawn by lot, so the same sound has the same words.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (faster-whisper is typed in part, CTranslate2 not at all)

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.lines import UNSPACED
from tasks.song import Word
from tasks.transcribe.belief import LOOPING, POOR

if TYPE_CHECKING:
    from ctranslate2 import StorageView
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

FRAMES = 3000  # of the spectrogram, 100 in a second: what the models were trained on, and the most they hear
SILENCE = 200  # frames after a sound, by which whisper knows that it ends; without them it makes up words
LEAST = 1000  # frames; a shorter sound gets more silence, which costs next to nothing
BEAM = 5
LONG = 0.6  # how far a text pays for its length: 0 likes loops, 1 likes gaps
BEFORE, AFTER = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # signs that belong to the next word, and to the one before

Sound = NDArray[np.float32]
Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Text:
    tokens: tuple[int, ...]  # of words and signs only
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float

    @property
    def length(self) -> int:
        return len(self.tokens) + 1

    @property
    def failed(self) -> bool:
        """By whisper's own measures."""
        return self.avg_logprob <= POOR or self.compression_ratio > LOOPING


def _nothing() -> Features:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Sung:
    """What is heard in one sound."""

    text: Text
    words: tuple[Word, ...]  # timed from the sound's begin; with the space before, where there is one
    # what the encoder made of it, a row for each fiftieth of a second
    features: Features = field(default_factory=_nothing)


@dataclass(frozen=True)
class Ear:
    """A model that listens for one language, with a prompt that hints at spellings."""

    whisper: WhisperModel
    language: str = "en"  # as whisper calls it
    prompt: str | None = None

    def languages(self, sound: Sound, *, clear: bool) -> tuple[dict[str, float], Features]:
        """The likelihood of each language. Where no voice is clear, whisper has doubts only in all of its frames."""
        encoded = self._encoded([sound], 0 if clear else FRAMES)
        found = self.whisper.model.detect_language(encoded)[0]
        return {token.strip("<|>"): float(likelihood) for token, likelihood in found}, _rows(encoded)[0]

    def features(self, sound: Sound) -> Features:
        """What the encoder makes of the sound: a row for each fiftieth of a second."""
        return _rows(self._encoded([sound]))[0]

    def sung(self, sounds: Sequence[Sound]) -> list[Sung]:
        """The words of several sounds at a time."""
        return self._sung(sounds, self._encoded(sounds), timed=False)

    def again(self, sound: Sound) -> Sung:
        """A sound that whisper failed at, heard once more, the way whisper was trained to hear."""
        return self._sung([sound], self._encoded([sound], FRAMES), timed=True)[0]

    def _sung(self, sounds: Sequence[Sound], encoded: StorageView, *, timed: bool) -> list[Sung]:
        texts = self._texts(encoded, len(sounds), timed=timed)
        words = self._words(encoded, texts, sounds)
        return [Sung(*each) for each in zip(texts, words, _rows(encoded), strict=True)]

    def _encoded(self, sounds: Sequence[Sound], frames: int = 0) -> StorageView:
        from faster_whisper.audio import pad_or_trim

        features = [self.whisper.feature_extractor(sound)[..., :-1] for sound in sounds]
        longest = max(feature.shape[-1] for feature in features)
        frames = frames or min(max(longest + SILENCE, LEAST) // 2 * 2, FRAMES)  # the encoder halves it
        return self.whisper.encode(np.stack([pad_or_trim(feature, frames) for feature in features]))

    def _texts(self, encoded: StorageView, count: int, *, timed: bool) -> list[Text]:
        results = self.whisper.model.generate(
            encoded,
            [self._start(timed)] * count,
            beam_size=BEAM,
            num_hypotheses=BEAM,
            max_length=self.whisper.max_length,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
        )
        return [self._text(result) for result in results]

    def _text(self, result: Any) -> Text:
        """The best of the texts: whisper itself takes the one whose mean token is likeliest, and so likes long ones."""
        texts = [
            self._candidate(tokens, float(score), float(result.no_speech_prob))
            for tokens, score in zip(result.sequences_ids, result.scores, strict=True)
        ]
        return max(texts, key=lambda text: (text.compression_ratio <= LOOPING, text.avg_logprob * text.length**LONG))

    def _candidate(self, every: Sequence[int], score: float, no_speech_prob: float) -> Text:
        from faster_whisper.transcribe import get_compression_ratio

        tokens = tuple(token for token in every if token < self._tokenizer.eot)
        ratio = float(get_compression_ratio(self._tokenizer.decode(list(tokens))))
        return Text(tokens, score * len(every) / (len(every) + 1), no_speech_prob, ratio)

    def _words(self, encoded: StorageView, texts: Sequence[Text], sounds: Sequence[Sound]) -> list[tuple[Word, ...]]:
        segments: list[list[dict[str, Any]]] = [
            [{"seek": 0, "start": 0.0, "end": self._seconds(sound), "tokens": list(text.tokens)}]
            for text, sound in zip(texts, sounds, strict=True)
        ]
        frames = [round(self._seconds(sound) * self.whisper.frames_per_second) for sound in sounds]
        self.whisper.add_word_timestamps(segments, self._tokenizer, encoded, frames, BEFORE, AFTER, 0.0)  # pyright: ignore[reportArgumentType]
        return [self._whole([_word(word) for word in segment["words"]]) for [segment] in segments]

    def _whole(self, words: Sequence[Word]) -> tuple[Word, ...]:
        """The words as they are written: "C" and "'est" are one, as is a Thai letter with its marks."""
        whole: list[Word] = []
        for word in words:
            if whole and self._goes_on(word.text):
                before = whole.pop()
                sure = min(before.confidence, word.confidence)
                word = replace(before, text=before.text + word.text, end=word.end, confidence=sure)
            whole.append(word)
        return tuple(whole)

    def _goes_on(self, text: str) -> bool:
        """Whether no space is before it, or in languages that have none, whether it is a mark on what is before."""
        if self.language in UNSPACED:
            return unicodedata.category(text[:1] or " ").startswith("M")
        return text[:1] != " "

    def _seconds(self, sound: Sound) -> float:
        return len(sound) / self.whisper.feature_extractor.sampling_rate

    def _start(self, timed: bool) -> list[int]:
        prompt = self._tokenizer.encode(f" {self.prompt.strip()}") if self.prompt else []
        return self.whisper.get_prompt(self._tokenizer, prompt, without_timestamps=not timed)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self.whisper.model.is_multilingual
        return Tokenizer(self.whisper.hf_tokenizer, multilingual, task="transcribe", language=self.language)

    @cached_property
    def _suppressed(self) -> list[int]:
        from faster_whisper.transcribe import get_suppressed_tokens

        return list(get_suppressed_tokens(self._tokenizer, [-1]) or ())  # pyright: ignore[reportArgumentType]


def _rows(encoded: StorageView) -> Features:
    from ctranslate2 import Device

    return np.asarray(encoded.to_device(Device.cpu) if encoded.device == "cuda" else encoded, np.float32)


def _word(word: dict[str, Any]) -> Word:
    return Word(word["word"], float(word["start"]), float(word["end"]), float(word["probability"]))
