"""What the command line draws: a progress bar fed by `Progress`, and lines that are sung."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from infra.jobs.stages import Progress as Report
from infra.jobs.stages import Stage, percent
from tasks.song import Line, Song

Show = Callable[[int, str], None]

FRAME = 1 / 30  # seconds
UNWRAPPED = 1000  # columns of what is no terminal: one sentence, one line
MOVING = re.compile(r":? \d\S* (of|MB) .*")  # Listening: 0:12 of 0:55; Downloading 1.5 MB at 2.0 MB/s
LONGEST_GAP = 1.0  # seconds of silence that the terminal waits through; the song may wait longer


def console(*, stderr: bool) -> Console:
    """File names and messages hold brackets and colons: nothing in them is markup."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = UNWRAPPED
    return made


out, err = console(stderr=False), console(stderr=True)


def bar() -> Progress:
    whole, cut = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.fields[name]}", style="bold", markup=False, table_column=Column(no_wrap=True, max_width=30)),
        BarColumn(bar_width=20),
        TaskProgressColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TextColumn("{task.description}", markup=False, table_column=cut),
        console=err,
        expand=True,
    )


@contextmanager
def watching(name: str) -> Generator[Show]:
    """The progress of one song, moved by a percentage and a message: a bar, or in a log one line a step."""
    name = " ".join(readable(name).split())
    if not err.is_terminal:
        yield lines_of(name)
        return
    with bar() as progress:
        shown = progress.add_task("", total=100, name=name)

        def show(percentage: int, message: str) -> None:
            progress.update(shown, completed=percentage, description=message)

        try:
            yield show
        except BaseException:
            progress.live.transient = True
            raise


def lines_of(name: str) -> Show:
    told = ""

    def show(percentage: int, message: str) -> None:
        nonlocal told
        step = MOVING.sub("", message)
        if step and step != told:
            told = step
            err.print(f"{percentage:3} %  {name}  {step}")

    return show


@contextmanager
def reporting(name: str) -> Generator[Report]:
    """The same, moved by the steps of a song."""
    with watching(name) as show:

        def report(stage: Stage, share: float, message: str, *, step: bool = False) -> None:
            show(percent(stage, share), message)

        yield report
        show(100, "Done")


def readable(text: str) -> str:
    """What a terminal can show: a file's name may hold bytes that are no text, or that move the cursor."""
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cs") and c != "\n" else c for c in text)


def say(text: str) -> None:
    """One line, whole: for paths and addresses that are copied."""
    out.print(Text(readable(text)), soft_wrap=True)


def print_lines(song: Song) -> None:
    for line in song.lines:
        out.print(Text.assemble((f"  {stamp(line.start)}  ", "dim"), line.text))


def sing(song: Song, speed: float) -> None:
    """Each line fills word by word as it is sung; long instrumental parts are cut short."""
    clock = 0.0
    for line in song.lines:
        clock = max(clock, line.start - LONGEST_GAP)
        with Live(console=out, refresh_per_second=30, transient=False) as live:
            while clock < line.end:
                live.update(_sung(line.joiner, line, clock))
                time.sleep(FRAME)
                clock += FRAME * speed
            live.update(_sung(line.joiner, line, line.end))


def _sung(joiner: str, line: Line, now: float) -> Text:
    text = Text.assemble((f"  {stamp(line.start)}  ", "dim"))
    for place, word in enumerate(line.words):
        style = "bold cyan" if word.end <= now else "bold white on cyan" if word.start <= now else "dim"
        text.append(("" if place == 0 else joiner), style="none")
        text.append(word.text, style=style)
    return text


def stamp(seconds: float) -> str:
    minutes, rest = divmod(max(seconds, 0.0), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def sentences(rows: Sequence[tuple[str, str]]) -> None:
    for name, value in rows:
        out.print(Text.assemble((f"{name:>12}  ", "bold"), value), soft_wrap=True)
