"""How near a transcription of the demo song comes to what is sung in it."""

from __future__ import annotations

import json

from benchmarks import score
from tasks.song import Song
from tests.running import DEMO

TRUTH = json.loads((DEMO / "harbor-light.json").read_text())
MARGIN = score.MARGIN


def plain(text: str) -> str:
    return " ".join(score.plain(text))


def error_rate(song: Song) -> float:
    return score.score(score.from_song(song), score.from_document(TRUTH)).error_rate


def invented(song: Song) -> list[str]:
    """The words in the truth's instrumental parts."""
    return score.invented(score.from_song(song), score.from_document(TRUTH))
