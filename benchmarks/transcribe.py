"""How fast the words are heard, and how right: our step against plain faster-whisper with its defaults, by turns.

Both with `base`, int8, on every core and in memory already. The song is the demo's singing alone, four times in a row
with its pauses: as separation leaves it, and as long as a song is. Ours includes finding where the voice sings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import jiwer
import numpy as np

from infra.jobs.request import EngineName, Request
from tasks import models, transcribe, voice
from tasks.audio import Samples, decode
from tasks.song import Word
from tests.running import DEMO
from tests.score import MARGIN, TRUTH, plain

TIMES = 4
ROUNDS = 2
ASKED = Request(link="https://youtu.be/harborlight", engine=EngineName.WHISPER, model="base")

Transcriber = Callable[[Samples], list[Word]]


def ours(samples: Samples) -> list[Word]:
    spans = voice.sung(samples)
    listened = transcribe.listen(samples, voice.windows(samples, spans), ASKED, models.nobody)
    return list(voice.inside(listened.heard.words, spans))


def faster_whisper() -> Transcriber:
    """What a user of faster-whisper writes, who has told it how many cores there are."""
    from faster_whisper import WhisperModel

    on = models.device()
    kind = "float16" if on == "cuda" else "int8"
    whisper = WhisperModel(str(models.locate("base")), device=on, compute_type=kind, cpu_threads=models.threads())

    def words(samples: Samples) -> list[Word]:
        segments, _ = whisper.transcribe(samples.values, word_timestamps=True)
        return [Word(word.word.strip(), word.start, word.end) for segment in segments for word in segment.words or ()]

    return words


def error_rate(words: list[Word]) -> float:
    truth = " ".join(line["text"] for line in TRUTH["lines"])
    return jiwer.wer(" ".join([plain(truth)] * TIMES), plain(" ".join(word.text for word in words)))


def invented(words: list[Word], length: float) -> int:
    """How many words stand where nobody sings; less a margin, for nobody knows where a word ends."""
    parts = [
        (part["start"] + MARGIN + length * turn, part["end"] - MARGIN + length * turn)
        for part in TRUTH["instrumental"]
        for turn in range(TIMES)
    ]
    return sum(any(a < (word.start + word.end) / 2 < b for a, b in parts) for word in words)


def main() -> None:
    once = decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)
    song = Samples(np.tile(once.values, TIMES))
    transcribers: dict[str, Transcriber] = {"ours": ours, "plain": faster_whisper()}
    for words in transcribers.values():
        words(once)  # warm
    took: dict[str, list[float]] = {name: [] for name in transcribers}
    figures: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, words in transcribers.items():
            began = time.perf_counter()
            found = words(song)
            took[name].append(time.perf_counter() - began)
            figures[f"{name}_wer"] = round(error_rate(found), 3)
            figures[f"{name}_invented"] = invented(found, once.duration)
    best = {name: min(times) for name, times in took.items()}
    rtf = {name: round(song.duration / seconds, 1) for name, seconds in best.items()}
    result = {"ratio": round(best["plain"] / best["ours"], 2), "rtf": rtf["ours"], "plain_rtf": rtf["plain"], **figures}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
