"""Groq: whisper's largest models, two hundred times as fast as they are sung, for next to nothing."""

from __future__ import annotations

from infra.jobs.request import Preset, Request
from infra.quota import Quota
from infra.settings import settings
from tasks.models import Device, Report
from tasks.transcribe.hosted import CONNECT, Call, Hosted, Limits, NoAnswer, Refusal, given, was_sent
from tasks.transcribe.order import Offer

TURBO, LARGE = "whisper-large-v3-turbo", "whisper-large-v3"

OFFER = Offer("Groq", "groq_api_key", {Preset.LOW: TURBO, Preset.REGULAR: TURBO, Preset.HIGH: LARGE})

SECONDS = 600.0  # in a file: 19 MB before FLAC shrinks it, and what is lost if an answer is
PROMPT = 896  # characters; with more it answers 400
LEAST = 10.0  # seconds that a shorter file is billed for


def ready(request: Request, report: Report, device: Device = "best") -> Hosted:
    ours = settings()
    quota = Quota(ours.groq_seconds_an_hour, ours.groq_seconds_a_day)
    limits = Limits(ours.groq_megabytes, SECONDS, quota, PROMPT, LEAST)
    return Hosted(OFFER, request.model or OFFER.models[request.preset], "groq", limits, _send)


async def _send(call: Call) -> object:
    import groq

    client = groq.AsyncGroq(
        api_key=given(OFFER),
        base_url=settings().groq_base_url,
        max_retries=0,
        timeout=groq.Timeout(call.deadline, connect=CONNECT),
    )
    async with client:
        try:
            return await client.audio.transcriptions.create(
                file=("song.flac", call.sound, "audio/flac"),
                model=call.model,
                language=call.language or groq.omit,
                prompt=call.prompt or groq.omit,
                response_format="verbose_json",
                timestamp_granularities=["word", "segment"],  # the one without the other drops the segments' credit
                temperature=0.0,  # it raises it by itself where it is not sure
            )
        except groq.APIStatusError as error:
            raise Refusal.of(error.response) from error
        except groq.APIConnectionError as error:
            raise NoAnswer(sent=was_sent(error)) from error
