"""What a caller asks for: a link and how its song is wanted."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PIPELINE_VERSION = 3  # raised when the same audio would now give other words


class Preset(StrEnum):
    LOW = "low"
    REGULAR = "regular"
    HIGH = "high"


class Format(StrEnum):
    JSON = "json"
    SRT = "srt"
    LRC = "lrc"
    ELRC = "elrc"  # LRC with a time for each word
    VTT = "vtt"
    ASS = "ass"
    TTML = "ttml"
    TXT = "txt"


class Provider(StrEnum):
    """Who does the GPU stage: each is a deployment of the flow `transcribe`."""

    CUDA = "cuda"  # this installation's own workers; on the CPU where they have no GPU
    CPU = "cpu"
    MODAL = "modal"
    RUNPOD = "runpod"


HERE = (Provider.CUDA, Provider.CPU)  # on machines that share our storage


class EngineName(StrEnum):
    """Who hears the words."""

    GROQ = "groq"
    OPENAI = "openai"
    WHISPER = "faster-whisper"  # on the machine that does the work


class Queue(StrEnum):
    """The work queues of each pool, the first one served first."""

    PEOPLE = "people"
    BATCH = "batch"
    NIGHTLY = "nightly"


LONGEST_LYRICS = 20_000  # characters; a long rap has half of them

HOW = frozenset({"link", "provider", "race"})  # what a request says of the way, not of the words


class Request(BaseModel):
    """One song, as its caller wants it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    link: str = Field(min_length=1, max_length=4096, description="YouTube link, allowed link, or upload:KEY")
    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$", description="ISO 639-1 code; heard if absent")
    preset: Preset = Field(default=Preset.REGULAR, description="low is fastest, high is best")
    engine: EngineName | None = Field(default=None, description="who hears the words; the preset's order if absent")
    model: str | None = Field(
        default=None, max_length=255, description="the engine's model by name, instead of the preset's"
    )
    prompt: str | None = Field(
        default=None, max_length=800, description="names and words as they are spelt in the song"
    )
    lyrics: str | None = Field(
        default=None, max_length=LONGEST_LYRICS, description="the song's words, line by line: timed instead of guessed"
    )
    separate: bool | None = Field(
        default=None, description="whether the voice is separated from the music first; where it can be, if absent"
    )
    align: bool | None = Field(default=None, description="whether words are aligned again that have times already")
    stems: bool | None = Field(default=None, description="whether the voice and the music are offered as files")
    provider: Provider | None = Field(default=None, description="who does the GPU stage; chosen by history if absent")
    race: int = Field(default=1, ge=1, le=2, description="how many providers do it at once; the first to finish wins")

    @field_validator("align", "stems", mode="after")
    @classmethod
    def _not_asked_for(cls, value: bool | None) -> bool | None:
        """No, which is as good as nothing said: it makes no other song of it."""
        return value or None

    @field_validator("lyrics", mode="after")
    @classmethod
    def _nothing_written(cls, value: str | None) -> str | None:
        return value if value and value.strip() else None

    @model_validator(mode="after")
    def _check_stems(self) -> Self:
        if self.stems and self.separate is False:
            raise ValueError("stems are made by separating the voice, which this request forbids")
        if self.stems and self.provider not in (None, *HERE):
            raise ValueError(f"stems are made on this installation's own machines, not on {self.provider}")
        return self

    def fingerprint(self, source: str) -> str:
        """The same for two requests that must give the same result: same source, options, pipeline."""
        # What is not asked for is left out, so that an option which a later version adds finds earlier results.
        options = self.model_dump(mode="json", exclude=set(HOW), exclude_none=True)
        text = json.dumps([PIPELINE_VERSION, source, options], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def but(self, **changes: object) -> Self:
        return self.model_validate({**self.model_dump(), **changes})
