"""How near a transcription of the demo song comes to what is sung in it."""

from __future__ import annotations

import json
import re

import jiwer

from tasks.song import Song
from tests.running import DEMO

TRUTH = json.loads((DEMO / "harbor-light.json").read_text())
MARGIN = 0.5  # seconds by which instrumental parts are shrunk, for nobody knows where a word ends


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower().replace("’", "'")).split())


def error_rate(song: Song) -> float:
    truth = " ".join(line["text"] for line in TRUTH["lines"])
    return jiwer.wer(plain(truth), plain(" ".join(word.text for word in song.words)))


def invented(song: Song) -> list[str]:
    """The words in the truth's instrumental parts."""
    parts = [
        (part["start"] + MARGIN * (part["start"] > 0), part["end"] - MARGIN * (part["end"] < TRUTH["duration"]))
        for part in TRUTH["instrumental"]
    ]
    return [w.text for w in song.words if any(a < (w.start + w.end) / 2 < b for a, b in parts)]
