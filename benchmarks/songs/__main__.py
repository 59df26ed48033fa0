"""python -m benchmarks.songs --out DIR [--seed N] [--set dev,held,more] [--only NAME,…] [--voices DIR]"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.songs.catalogue import SETS
from benchmarks.songs.recorded import plans
from benchmarks.songs.song import make
from benchmarks.songs.voices import Missing


def main(
    out: Annotated[Path, typer.Option(help="Where a folder for each set is made.")],
    seed: Annotated[int, typer.Option(help="Another one makes other melodies of the same songs.")] = 0,
    sets: Annotated[str, typer.Option("--set", help="Which sets, by commas.")] = ",".join(SETS),
    voices: Annotated[
        Path | None, typer.Option(help="Recordings with their words in time: a set of their own.")
    ] = None,
    only: Annotated[str, typer.Option(help="Which songs, by commas; all if empty.")] = "",
) -> None:
    """Make the songs whose words and times are known."""
    chosen = {name: SETS[name] for name in sets.split(",") if name in SETS} | (
        {"voices": tuple(plans(voices))} if voices else {}
    )
    wanted = [
        (name, plan)
        for name, planned in chosen.items()
        for plan in planned
        if plan.name in (only or plan.name).split(",")
    ]
    if not wanted:
        sys.exit(f"There is no song of this name; the sets are {', '.join(SETS)}.")
    began = time.perf_counter()
    for nth, (name, plan) in enumerate(wanted, 1):
        try:
            truth = make(plan, out / name, seed)
        except Missing as missing:
            sys.exit(str(missing))
        print(f"{nth}/{len(wanted)} {truth.relative_to(out)}", flush=True)
    print(json.dumps({"songs": len(wanted), "seconds": round(time.perf_counter() - began, 1)}))


if __name__ == "__main__":
    typer.run(main)
