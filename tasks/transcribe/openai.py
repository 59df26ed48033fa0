"""OpenAI: gpt-4o's transcribers, which tell words but no times, and whisper-1, which tells both."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from infra.jobs.request import Preset, Request
from infra.quota import Quota
from infra.settings import settings
from tasks.models import Device, Report
from tasks.transcribe.hosted import CONNECT, Call, Hosted, Limits, NoAnswer, Refusal, given, was_sent
from tasks.transcribe.order import Offer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

WHISPER, LARGE, SMALL = "whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"

OFFER = Offer("OpenAI", "openai_api_key", {Preset.LOW: SMALL, Preset.REGULAR: WHISPER, Preset.HIGH: LARGE}, dear=True)

MEGABYTES = 25.0  # in a file
SECONDS = 600.0  # in a file; see tasks/transcribe/groq.py
UNTIMED_SECONDS = 120.0  # the same where no times are told: the less sound, the less an aligner has to guess
PROMPT = 896  # characters; whisper-1 forgets what is before its last 224 tokens, and does not say so


def ready(request: Request, report: Report, device: Device = "best") -> Hosted:
    quota = Quota(a_day=settings().openai_seconds_a_day)
    whisper = Hosted(OFFER, WHISPER, "openai", Limits(MEGABYTES, SECONDS, quota, PROMPT), _send)
    model = request.model or OFFER.models[request.preset]
    if model == WHISPER:
        return whisper
    return Hosted(OFFER, model, "openai", Limits(MEGABYTES, UNTIMED_SECONDS, quota, PROMPT), _send_untimed, ear=whisper)


async def _send(call: Call) -> object:
    import openai

    async with _asking(call) as client:
        return await client.audio.transcriptions.create(
            file=("song.flac", call.sound, "audio/flac"),
            model=call.model,
            language=call.language or openai.omit,
            prompt=call.prompt or openai.omit,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            temperature=0.0,  # it raises it by itself where it is not sure
        )


async def _send_untimed(call: Call) -> object:
    import openai

    async with _asking(call) as client:
        return await client.audio.transcriptions.create(
            file=("song.flac", call.sound, "audio/flac"),
            model=call.model,
            language=call.language or openai.omit,
            prompt=call.prompt or openai.omit,
            response_format="json",
            include=["logprobs"],  # its only credit
            temperature=0.0,
        )


@asynccontextmanager
async def _asking(call: Call) -> AsyncGenerator[AsyncOpenAI]:
    import openai

    ours = settings()
    client = openai.AsyncOpenAI(
        api_key=given(OFFER),
        base_url=ours.openai_base_url,
        max_retries=0,
        timeout=openai.Timeout(call.deadline, connect=CONNECT),
    )
    async with client:
        try:
            yield client
        except openai.APIStatusError as error:
            raise Refusal.of(error.response) from error
        except openai.APIConnectionError as error:
            raise NoAnswer(sent=was_sent(error)) from error
