"""What the command line draws: a progress bar fed by `Progress`, and lines that are sung."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from infra.jobs.stages import Progress as Report
from infra.jobs.stages import percent
from tasks.song import Line, Song

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

FRAME = 1 / 30  # seconds
LONGEST_GAP = 1.0  # seconds of silence that the terminal waits through; the song may wait longer


def bar() -> Progress:
    return Progress(
        TextColumn("[bold]{task.fields[name]}", markup=True),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=err,
        transient=False,
    )


@contextmanager
def watching(name: str) -> Generator[Callable[[int, str], None]]:
    """A progress bar for one song, moved by a percentage and a message."""
    with bar() as progress:
        shown = progress.add_task("", total=100, name=escape(name[:40]))

        def show(percentage: int, message: str) -> None:
            progress.update(shown, completed=percentage, description=message)

        yield show


@contextmanager
def reporting(name: str) -> Generator[Report]:
    """The same, moved by the steps of a song."""
    with watching(name) as show:
        yield lambda stage, share, message: show(percent(stage, share), message)


def print_lines(song: Song) -> None:
    for line in song.lines:
        out.print(Text(f"  {stamp(line.start)}  ", style="dim") + Text(line.text))


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
    text = Text(f"  {stamp(line.start)}  ", style="dim")
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
        out.print(Text(f"{name:>12}  ", style="bold") + Text(value))
