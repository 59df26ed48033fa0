"""The demo song's words and speed, ours against plain faster-whisper with its defaults, both with `base` and warm.

Two songs are an example and no proof: the evaluation over many songs belongs to a later issue.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from benchmarks.transcribe import Transcriber, faster_whisper
from infra.jobs.request import Request
from tasks.audio import decode
from tasks.gpu import sing
from tasks.song import Audio, Line, Song
from tests.running import DEMO
from tests.score import TRUTH, error_rate, invented

ASKED = Request(link="https://youtu.be/harborlight", model="base")


def ours(audio: Audio) -> Song:
    return sing(audio, ASKED)


def plain(transcriber: Transcriber, audio: Audio) -> Song:
    """What a user of faster-whisper writes."""
    words = transcriber(decode(audio.path, max_seconds=900))
    return Song(lines=(Line(tuple(words)),) if words else ())


def measured(part: str) -> dict[str, Any]:
    audio = Audio(DEMO / f"harbor-light.{part}.opus", TRUTH["duration"])
    figures: dict[str, Any] = {}
    plainly = partial(plain, faster_whisper())
    seconds: dict[str, float] = {}
    for name, transcribe in (("ours", ours), ("plain", plainly)):
        transcribe(audio)  # warm
        began = time.perf_counter()
        song = transcribe(audio)
        seconds[name] = time.perf_counter() - began
        figures[f"{name}_wer"] = round(error_rate(song), 3)
        figures[f"{name}_invented"] = len(invented(song))
        figures[f"{name}_rtf"] = round(TRUTH["duration"] / seconds[name], 1)
    figures["ratio"] = round(seconds["plain"] / seconds["ours"], 2)
    return figures


def main() -> None:
    print(json.dumps({part: measured(part) for part in ("vocals", "mix", "backing")}))


if __name__ == "__main__":
    main()
