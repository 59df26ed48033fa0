"""Words, times and lines of songs whose words are known: ours against others, by turns, with the same weights.

    python -m benchmarks.songs --out DIR
    python -m benchmarks.words --songs DIR [--only ID,…] [--engines ours,plain,stable-ts,whisperx]
                               [--parts vocals,mix6,mix0,backing] [--known] [--write]
    python -m benchmarks.words --jamendo DIR

All hear with `base`, int8 on a CPU, on every core, in memory already; nothing is separated. The others run as their
users run them, with their defaults. One that is not installed is left out, and said so. `--known` adds ours with the
true words given; `--write` puts the table into docs/quality.md and the plot beside it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.align import without_a_download
from benchmarks.score import Lyrics, Score, Sung, from_song, score
from benchmarks.songs.known import BACKING, Known, jamendo, made
from infra.errors import OtherLyrics, UserError
from infra.jobs.request import Request
from tasks import models
from tasks.audio import decode
from tasks.gpu import sing
from tasks.song import Audio
from tests.running import ROOT

MODEL = "base"
ASKED = Request(link="-", model=MODEL, separate=False)
PARTS = ("vocals", "mix6", "mix0", BACKING)
LONGEST = 3600.0  # seconds
BATCH = 8  # of whisperx' windows, its own default
PAGE = ROOT / "docs" / "quality.md"
PLOT = ROOT / "docs" / "images" / "words.png"
WIDTH = 150  # characters that the table needs
BEGIN, END = "<!-- words: python -m benchmarks.words --write -->", "<!-- /words -->"
COLUMNS = ("wer", "invented", "onset_mean", "onset_median", "in_time", "line_f1", "senseless", "rtf")
HEADS = (
    "word errors",
    "invented",
    "onset, mean s",
    "median s",
    "right within 0.3 s",
    "line F1",
    "senseless",
    "× real time",
)

Engine = Callable[[Known], Lyrics]


@dataclass(slots=True)
class Tally:
    """Of one engine on one part of all songs."""

    score: Score = field(default_factory=Score)
    songs: int = 0
    heard: float = 0.0  # seconds of sound
    took: float = 0.0  # seconds

    def figures(self) -> dict[str, Any]:
        return {**self.score.figures(), "songs": self.songs, "rtf": round(self.heard / self.took, 1)}


def ours(song: Known, *, known: bool = False) -> Lyrics:
    text = "\n".join(line.text for line in song.truth.lines) if known else None
    try:
        return from_song(sing(Audio(song.path, song.truth.duration), ASKED.but(lyrics=text)))
    except OtherLyrics:  # which they are not: none of their words is right
        return _lyrics(())


def plain() -> Engine:
    """faster-whisper as it comes."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(models.locate(MODEL)), device="cpu", compute_type="int8", cpu_threads=models.threads())

    def words(song: Known) -> Lyrics:
        segments, _ = whisper.transcribe(_samples(song), word_timestamps=True)
        return _lyrics((segment.text, segment.start, segment.end, segment.words or ()) for segment in segments)

    return words


def stable_ts() -> Engine:
    """stable-ts over faster-whisper, as it comes."""
    import stable_whisper

    whisper = stable_whisper.load_faster_whisper(
        str(models.locate(MODEL)), device="cpu", compute_type="int8", cpu_threads=models.threads()
    )

    def words(song: Known) -> Lyrics:
        found = whisper.transcribe(_samples(song), verbose=None)
        return _lyrics((segment.text, segment.start, segment.end, segment.words) for segment in found.segments)

    return words


def whisperx() -> Engine:
    """whisperx' pipeline with its own speech detector, and its alignment for the languages that have a model here."""
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # its detector would tell its makers of each song
    import whisperx as wx

    threads = models.threads()
    pipeline = wx.load_model(str(models.locate(MODEL)), "cpu", compute_type="int8", threads=threads)
    folder = tempfile.TemporaryDirectory(prefix="ytl-words-")
    without_a_download(Path(folder.name))

    def words(song: Known, kept: object = folder) -> Lyrics:
        samples = _samples(song)
        found = pipeline.transcribe(samples, batch_size=BATCH)
        if (aligner := _aligner(found["language"])) and found["segments"]:
            found = wx.align(found["segments"], *aligner, samples, "cpu")
        lines = [Sung(segment["text"], segment["start"], segment["end"]) for segment in found["segments"]]
        timed = [word for segment in found["segments"] for word in segment.get("words", ())]
        texts = timed or [{"word": text} for line in lines for text in line.text.split()]
        return Lyrics(tuple(Sung(w["word"], w.get("start"), w.get("end")) for w in texts), tuple(lines))

    return words


@cache
def _aligner(language: str) -> tuple[Any, dict[str, Any]] | None:
    import whisperx as wx

    try:
        folder = models.aligner(language)
    except UserError:
        return None
    return wx.load_align_model(language, "cpu", model_name=str(folder)) if folder else None


ENGINES: dict[str, Callable[[], Engine]] = {
    "ours": lambda: ours,
    "plain": plain,
    "stable-ts": stable_ts,
    "whisperx": whisperx,
    "known": lambda: partial(ours, known=True),
}
SHOWN = {
    "ours": "yt-lyrics",
    "plain": "faster-whisper",
    "stable-ts": "stable-ts",
    "whisperx": "whisperx",
    "known": "yt-lyrics, words given",
}


def _samples(song: Known) -> Any:
    return decode(song.path, max_seconds=LONGEST).values


def _lyrics(segments: Any) -> Lyrics:
    """What whisper's children give: segments with words, both with text, start and end."""
    lines, words = list[Sung](), list[Sung]()
    for text, start, end, heard in segments:
        lines.append(Sung(text.strip(), float(start), float(end)))  # numpy's, with some
        words += [Sung(word.word.strip(), float(word.start), float(word.end)) for word in heard]
    return Lyrics(tuple(words), tuple(lines))


def ready(names: Sequence[str], console: Console) -> dict[str, Engine]:
    engines: dict[str, Engine] = {}
    for name in names:
        try:
            engines[name] = ENGINES[name]()
        except ImportError as missing:
            console.print(f"{name} is left out: {missing.name} is not installed.")
    return engines


def measured(songs: Sequence[Known], engines: dict[str, Engine], console: Console) -> dict[str, dict[str, Tally]]:
    """By engine, then part."""
    tallies: dict[str, dict[str, Tally]] = {name: defaultdict(Tally) for name in engines}
    for engine in engines.values():
        engine(songs[0])  # warm
    for nth, song in enumerate(songs, 1):
        said: list[str] = []
        for name, engine in engines.items():
            if name == "known" and not song.truth.words:
                continue
            began = time.perf_counter()
            heard = engine(song)
            tally = tallies[name][song.part]
            took = time.perf_counter() - began
            tally.took += took
            tally.heard += song.truth.duration
            tally.songs += 1
            one = score(heard, song.truth)
            tally.score += one
            said.append(f"{name} {one.error_rate:.2f} in {took:.0f} s")
        console.print(f"{nth}/{len(songs)} {song.name} {song.part}: {', '.join(said)}", highlight=False)
    return tallies


def rows(tallies: dict[str, dict[str, Tally]]) -> list[tuple[str, ...]]:
    """Part, engine, figures: as shown."""
    parts = list(dict.fromkeys(part for by_part in tallies.values() for part in by_part))
    return [
        (part, SHOWN[name], *(_shown(part, column, by_part[part].figures()[column]) for column in COLUMNS))
        for part in parts
        for name, by_part in tallies.items()
        if part in by_part
    ]


def _shown(part: str, column: str, value: Any) -> str:
    if value is None or (part == BACKING and column not in ("invented", "senseless", "rtf")):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.1f}" if column == "rtf" else f"{value:.3f}"


def table(shown: Sequence[Sequence[str]]) -> Table:
    found = Table("part", "engine", *HEADS)
    for row in shown:
        found.add_row(*row)
    return found


def write(shown: Sequence[Sequence[str]], about: str) -> None:
    """The table, between its marks in the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    heads = ("part", "engine", *HEADS)
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *shown)]
    PAGE.write_text(f"{before}{BEGIN}\n{about}\n\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")


def plot(tallies: dict[str, dict[str, Tally]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = {"word errors": "wer", "right within 0.3 s": "in_time", "line F1": "line_f1"}
    figure, axes = pyplot.subplots(1, len(drawn), figsize=(11, 3.6), layout="constrained")
    for axis, (title, column) in zip(axes, drawn.items(), strict=True):
        for nth, (name, by_part) in enumerate(tallies.items()):
            parts = [part for part in by_part if part != BACKING]
            places = [place + nth / (len(tallies) + 1) for place in range(len(parts))]
            heights = [by_part[part].figures()[column] for part in parts]
            axis.bar(places, heights, 1 / (len(tallies) + 1), label=SHOWN[name], align="edge")
            axis.set_xticks([place + 0.4 for place in range(len(parts))], parts)
        axis.set_title(title)
        axis.set_ylim(0, 1)
        axis.grid(axis="y", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(tallies), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.words", description=(__doc__ or "").partition("\n")[0])
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--songs", type=Path, help="what python -m benchmarks.songs has made")
    where.add_argument("--jamendo", type=Path, help="a clone of JamendoLyrics, with its sound")
    parser.add_argument("--only", default="", help="names of songs, by commas")
    parser.add_argument("--engines", default="ours,plain,stable-ts,whisperx", help="by commas")
    parser.add_argument("--parts", default=",".join(PARTS), help="by commas")
    parser.add_argument("--known", action="store_true", help="also ours with the true words given")
    parser.add_argument("--write", action="store_true", help="the table and the plot, into docs")
    options = parser.parse_args()
    if unknown := set(options.engines.split(",")) - set(ENGINES):
        parser.error(f"there is no engine {', '.join(sorted(unknown))}; there are {', '.join(ENGINES)}")
    return options


def main() -> None:
    warnings.simplefilter("ignore")  # other people's,
    logging.disable(logging.INFO)  # as these
    options, console = asked(), Console(soft_wrap=True)
    console.width = max(console.width, WIDTH)
    songs = list(jamendo(options.jamendo) if options.jamendo else made(options.songs, options.parts.split(",")))
    songs = [song for song in songs if song.name in (options.only or song.name).split(",")]
    if not songs:
        raise SystemExit("There is no song with known words.")
    engines = ready([*options.engines.split(","), *["known"] * options.known], console)
    tallies = measured(songs, engines, console)
    shown = rows(tallies)
    console.print(table(shown))
    if options.write:
        names = {song.name for song in songs}
        write(shown, f"{len(names)} songs, {sum(t.words for t in _truths(songs))} words sung.")
        plot(tallies, PLOT)
    print(json.dumps({name: {part: tally.figures() for part, tally in by.items()} for name, by in tallies.items()}))


def _truths(songs: Sequence[Known]) -> list[Score]:
    one_each = {song.name: song.truth for song in songs if song.part != BACKING}
    return [score(truth, truth) for truth in one_each.values()]


if __name__ == "__main__":
    main()
