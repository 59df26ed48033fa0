"""Does a song's quality tell how many of its words are wrong? Songs whose words are known, as `benchmarks.songs` makes.

    python -m benchmarks.quality --songs DIR [--parts vocals,mix6,mix0] [--fit]

A word is right when it is the truth's and begins within 0.3 s of it. Printed are rank correlations (Spearman) of
1 - quality with the share of a song's words that are not right, with its word error rate, and of each line's with the
share of its own words that are not right; and how far the quality is from the share that is right. `--fit` prints the
weights that tasks/quality.py would have from these songs.
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.score import IN_TIME, Sung, edits, from_document, from_song, score
from infra.jobs.request import Request
from tasks.gpu import sing
from tasks.quality import signs
from tasks.song import Audio, Song
from tasks.verse import plain

PARTS = ("vocals", "mix6", "mix0")
WEIGHTS = ("BIAS", "OF_WORD", "OF_LINE", "OF_SONG", "CRAMMED", "MANY_CRAMMED", "LOOPED")
GENTLE = 3.0  # of the fit: weights that little speaks for stay small


@dataclass(frozen=True, slots=True)
class Judged:
    part: str
    song: Song
    right: tuple[bool, ...]  # for each word that was heard, whether it is
    missed: float  # the share of the true words that are not right
    errors: float  # word error rate

    @property
    def lines(self) -> Iterator[tuple[float, float]]:
        """Each line's quality, and the share of its words that are not right."""
        at = 0
        for line in self.song.lines:
            own = self.right[at : at + len(line.words)]
            at += len(line.words)
            yield line.quality or 0.0, 1 - sum(own) / len(own)


def judge(part: str, song: Song, truth: dict[str, Any]) -> Judged:
    scored = score(from_song(song), from_document(truth))
    known = [Sung(plain(word["word"]), word["start"], None) for word in truth["words"]]
    heard = [Sung(plain(word.text), word.start, None) for word in song.words]
    right = [False] * len(heard)
    for theirs, ours in edits(known, heard):
        if theirs is not None and ours is not None and known[theirs].text == heard[ours].text:
            right[ours] = abs(truth["words"][theirs]["start"] - song.words[ours].start) <= IN_TIME
    return Judged(part, song, tuple(right), 1 - scored.in_time, scored.error_rate)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    ranks = np.array([_ranks(one), _ranks(other)])
    return round(float(np.corrcoef(ranks)[0, 1]), 3)


def _ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values]


def figures(some: Sequence[Judged]) -> dict[str, Any]:
    doubts = [1 - (one.song.quality or 0.0) for one in some]
    lines = [line for one in some for line in one.lines]
    return {
        "songs": len(some),
        "with_words_not_right": spearman(doubts, [one.missed for one in some]),
        "with_wer": spearman(doubts, [one.errors for one in some]),
        "mean_quality": round(1 - float(np.mean(doubts)), 3),
        "mean_right": round(1 - float(np.mean([one.missed for one in some])), 3),
        "mean_distance": round(float(np.mean([abs(d - one.missed) for d, one in zip(doubts, some, strict=True)])), 3),
        "lines": len(lines),
        "of_lines": spearman([1 - quality for quality, _ in lines], [missed for _, missed in lines]),
    }


def fitted(some: Sequence[Judged]) -> dict[str, float]:
    """The weights under which what was seen is likeliest (Newton's steps); each song counts alike."""
    rows: list[tuple[float, ...]] = []
    right: list[bool] = []
    counts: list[float] = []
    for one in some:
        rows += [(1.0, *map(float, sign)) for line in signs(one.song.lines) for sign in line]
        right += one.right
        counts += [50 / len(one.right)] * len(one.right)
    seen, true, count = np.array(rows), np.array(right, float), np.array(counts)
    weights = np.zeros(len(WEIGHTS))
    for _ in range(50):
        likely = 1 / (1 + np.exp(-seen @ weights))
        slope = seen.T @ (count * (likely - true)) + GENTLE * weights
        bend = (seen * (count * likely * (1 - likely))[:, None]).T @ seen + GENTLE * np.eye(len(weights))
        weights -= np.linalg.solve(bend, slope)
    return {name: round(float(weight), 2) for name, weight in zip(WEIGHTS, weights, strict=True)}


def sung(folder: Path, parts: Sequence[str]) -> Iterator[Judged]:
    """Each song of the folder that has words, heard with `base`; those in which nothing is heard have no quality."""
    request = Request(link="-", model="base", separate=False)
    for known in sorted(folder.rglob("*.json")):
        truth = json.loads(known.read_text())
        for part in parts:
            sounds = sorted(known.parent.glob(f"{known.stem}.{part}.*"))
            if truth.get("words") and sounds:
                song = sing(Audio(sounds[0], truth["duration"]), request)
                if song.words:
                    judged = judge(part, song, truth)
                    quality = song.quality or 0.0
                    print(f"{known.stem:32} {part:7} quality {quality:.2f}, right {1 - judged.missed:.2f}", flush=True)
                    yield judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), type=lambda text: text.split(","))
    parser.add_argument("--fit", action="store_true")
    asked = parser.parse_args()
    every = list(sung(asked.songs, asked.parts))
    if asked.fit:
        print(json.dumps(fitted(every)))
    groups = {"all": every} | {part: [one for one in every if one.part == part] for part in asked.parts}
    print(json.dumps({name: figures(some) for name, some in groups.items() if len(some) > 2}))


if __name__ == "__main__":
    main()
