"""What a hosted engine answers, as dict or object, and where in the song it belongs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.song import Word
from tasks.transcribe import Segment
from tasks.transcribe.reel import Reel

AROUND = " ♪♫"  # of a word
UNKNOWN = 0.5  # confidence where the engine says nothing of its own

Number = Annotated[float, Field(allow_inf_nan=False)]


class Nonsense(Exception):
    """The answer is not what the engine promises."""


class _Part(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class TimedWord(_Part):
    word: str
    start: Number
    end: Number


class TimedSegment(_Part):
    text: str
    start: Number
    end: Number
    avg_logprob: Number | None = None
    no_speech_prob: Number | None = None
    compression_ratio: Number | None = None


class Token(_Part):
    logprob: Number


class Answer(_Part):
    text: str
    language: str | None = None
    segments: tuple[TimedSegment, ...] | None = None
    words: tuple[TimedWord, ...] | None = None
    logprobs: tuple[Token, ...] | None = None  # of gpt-4o's, which tell no times

    @classmethod
    def read(cls, answer: object, *, timed: bool) -> Self:
        """What an engine said that should tell when things are sung, or need not."""
        try:
            read = cls.model_validate(answer)
        except ValidationError:
            raise Nonsense from None
        if timed and _says(read.text) and not (read.segments or read.words):
            raise Nonsense
        return read

    def segments_of(self, reel: Reel, offset: float) -> list[Segment]:
        """The segments in the song's time; one for the whole reel where the engine tells no times."""
        if not _says(self.text):
            return []
        segments = self.segments or (self._whole(reel),)
        if not self.words:
            return [_placed(segment, (), reel, offset) for segment in segments if _says(segment.text)]
        own: list[list[TimedWord]] = [[] for _ in segments]
        for word in _as_written(self.words, self.text):
            own[_nearest(segments, (word.start + word.end) / 2)].append(word)
        return [_placed(segment, words, reel, offset) for segment, words in zip(segments, own, strict=True) if words]

    def _whole(self, reel: Reel) -> TimedSegment:
        tokens = [token.logprob for token in self.logprobs or ()]
        mean = sum(tokens) / len(tokens) if tokens else None
        return TimedSegment(text=self.text, start=0.0, end=reel.seconds, avg_logprob=mean)


def _placed(segment: TimedSegment, words: Sequence[TimedWord], reel: Reel, offset: float) -> Segment:
    """The segment where it is sung. It may reach over several pieces of the reel, a word may not."""
    # Hosted words come without a likelihood, so each gets its segment's: the mean one of its tokens. What the engine
    # says of silence stays out of it: that is of half a minute, and high wherever there is music.
    sure = UNKNOWN if segment.avg_logprob is None else min(math.exp(min(segment.avg_logprob, 0.0)), 1.0)
    timed: list[Word] = []
    for word in words:
        span = reel.span(word.start + offset, word.end + offset)
        timed.append(Word(word.word.strip(AROUND), span.start, max(span.start, span.end), sure))
    return Segment(
        segment.text.strip(),
        timed[0].start if timed else reel.time(segment.start),
        timed[-1].end if timed else reel.time(segment.end),
        tuple(timed),
        segment.avg_logprob,
        segment.no_speech_prob,
        segment.compression_ratio,
    )


def _as_written(words: Sequence[TimedWord], text: str) -> list[TimedWord]:
    """The words with the punctuation of the text, which OpenAI leaves off; those that are only signs fall out."""
    heard = [word for word in words if _says(word.word)]
    written = text.split()
    matcher = SequenceMatcher(None, [_plain(word.word) for word in heard], [_plain(word) for word in written], False)
    texts = {a + i: written[b + i] for a, b, size in matcher.get_matching_blocks() for i in range(size)}
    return [word.model_copy(update={"word": texts.get(i, word.word)}) for i, word in enumerate(heard)]


def _nearest(segments: Sequence[TimedSegment], time: float) -> int:
    return min(range(len(segments)), key=lambda i: max(segments[i].start - time, time - segments[i].end, 0.0))


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _says(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
