"""The demo song's known words in time, ours against WhisperX's own `align`, by the same small model.

Once with the lines' times (half a second added on both sides for WhisperX, which cannot look beyond them), and once
with the whole song as one segment, which is all that gpt-4o gives. One song and a model of 1.8 M parameters are an
example: what is compared is the way through, not the model.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.align import REACH, align
from tasks.align.emission import load
from tasks.audio import Samples, decode
from tasks.models import nobody
from tasks.transcribe import Heard, Segment
from tests.running import DEMO, ROOT
from tests.score import TRUTH

TINY = ROOT / "tests" / "checkpoints" / "tinyctc"
TABLES = ("abbrev_types.txt", "collocations.tab", "ortho_context.tab", "sent_starters.txt")

Times = list[tuple[float, float]]


def ours(samples: Samples, segments: Sequence[Segment]) -> Times:
    found, _ = align(samples, Heard(tuple(segments), "en"), nobody, "cpu")
    return [(word.start, word.end) for word in found.words]


def theirs(samples: Samples, segments: Sequence[Segment]) -> Times:
    from whisperx.alignment import align as whisperx_align

    asked = [
        {"text": s.text, "start": max(s.start - REACH, 0.0), "end": min(s.end + REACH, samples.duration)}
        for s in segments
    ]
    loaded = load(TINY, "cpu")
    about = {"language": "en", "dictionary": loaded.letters | {"<pad>": 0, "|": 1}, "type": "huggingface"}
    found = whisperx_align(asked, loaded.model, about, samples.values, "cpu")
    return [(word["start"], word["end"]) for word in found["word_segments"]]


def measured(samples: Samples, segments: Sequence[Segment]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    ways: dict[str, Callable[[Samples, Sequence[Segment]], Times]] = {"ours": ours, "whisperx": theirs}
    for name, way in ways.items():
        way(samples, segments)  # warm
        began = time.perf_counter()
        found = np.array(way(samples, segments))
        seconds = time.perf_counter() - began
        beside = np.abs(found - [(word["start"], word["end"]) for word in TRUTH["words"]])
        figures[name] = {
            "mean": round(beside[:, 0].mean(), 3),
            "median": round(float(np.median(beside[:, 0])), 3),
            "within_0.3": round(float((beside[:, 0] < 0.3).mean()), 3),
            "end_mean": round(beside[:, 1].mean(), 3),
            "seconds": round(seconds, 2),
        }
    return figures


def without_a_download(folder: Path) -> None:
    """WhisperX cuts sentences with tables that NLTK would fetch; empty ones do."""
    import nltk

    tables = folder / "tokenizers" / "punkt_tab" / "english"
    tables.mkdir(parents=True)
    for name in TABLES:
        (tables / name).touch()
    nltk.data.path.insert(0, str(folder))


def main() -> None:
    warnings.simplefilter("ignore")
    os.environ["ALIGN_REPO"] = str(TINY)
    lines = [Segment(line["text"], line["start"], line["end"]) for line in TRUTH["lines"]]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        without_a_download(Path(folder))
        for part in ("vocals", "mix"):
            samples = decode(DEMO / f"harbor-light.{part}.opus", max_seconds=900)
            whole = Segment(" ".join(line.text for line in lines), 0.0, samples.duration)
            figures[part] = {"lines": measured(samples, lines), "whole": measured(samples, [whole])}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
