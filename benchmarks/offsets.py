"""How many seconds to add to each model's words so that half of them begin early and half late.

    python -m benchmarks.offsets [FOLDER] [--models base tiny.en]

On the demo song, and on the songs of a folder: NAME.json with their truth, NAME.vocals.* or NAME.* with their sound.
Whisper models hear the song; the alignment model of ALIGN_REPO, where that is set, gets its lines. The step is
measured as it is, with what it adds already: the figure is what `tasks/models/offsets.py` should say.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from infra.jobs.request import EngineName, Request
from infra.settings import settings
from tasks import align, models, transcribe, voice
from tasks.audio import Samples, decode
from tasks.song import Word
from tasks.transcribe import Heard, Segment
from tests.running import DEMO
from tests.score import plain


@dataclass(frozen=True, slots=True)
class Known:
    """A song whose words and times are known."""

    samples: Samples
    truth: dict[str, Any]

    @property
    def language(self) -> str:
        return self.truth["language"]


def songs(folders: Iterable[Path]) -> list[Known]:
    found: list[Known] = []
    for told in sorted(path for folder in folders for path in folder.glob("*.json")):
        sounds = [*told.parent.glob(f"{told.stem}.vocals.*"), *told.parent.glob(f"{told.stem}.*")]
        sound = next(path for path in sounds if path != told)
        found.append(Known(decode(sound, max_seconds=3600), json.loads(told.read_text())))
    return found


def whisper(song: Known, model: str) -> Sequence[Word]:
    request = Request(link="-", engine=EngineName.WHISPER, model=model, language=song.language)
    windows = voice.windows(song.samples, voice.sung(song.samples))
    return transcribe.listen(song.samples, windows, request, models.nobody).heard.words


def aligner(song: Known, _: str) -> Sequence[Word]:
    lines = tuple(Segment(line["text"], line["start"], line["end"]) for line in song.truth["lines"])
    return align.align(song.samples, Heard(lines, song.language), models.nobody)[0].words


def late(words: Sequence[Word], truth: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds by which each word that was understood begins too late."""
    heard, true = [plain(word.text) for word in words], [plain(word["word"]) for word in truth]
    blocks = SequenceMatcher(None, heard, true, autojunk=False).get_matching_blocks()
    pairs = [(block.a + i, block.b + i) for block in blocks for i in range(block.size)]
    return [words[a].start - truth[b]["start"] for a, b in pairs]


def offset(model: str, hear: Callable[[Known, str], Sequence[Word]], known: Sequence[Known]) -> float:
    off = [seconds for song in known for seconds in late(hear(song, model), song.truth["words"])]
    print(f"{model}: {len(off)} words, half of them within {statistics.median(map(abs, off)):.3f} s as it is")
    return round(models.offset(model) - statistics.median(off), 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--models", nargs="+", default=["base", "tiny.en"])
    asked = parser.parse_args()
    known = songs([DEMO, *([asked.folder] if asked.folder else [])])
    result: dict[str, float] = {}
    for model in asked.models:
        understood = [song for song in known if song.language == "en" or not model.endswith(".en")]
        result[model] = offset(model, whisper, understood)
    aligners = {song.language: models.aligner(song.language) for song in known} if settings().align_repo else {}
    for folder in sorted({folder.resolve() for folder in aligners.values() if folder}):
        understood = [song for song in known if (own := aligners[song.language]) and own.resolve() == folder]
        result[folder.name] = offset(str(folder), aligner, understood)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
