"""The models as `yt-lyrics models` shows, downloads and checks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from flows import terminal
from infra.errors import BadRequest
from tasks.models import hub, places, sums, wheels
from tasks.models.catalogue import CATALOGUE, Weights


def chosen(names: Sequence[str]) -> list[Weights]:
    for name in names:
        if name not in CATALOGUE:
            raise BadRequest(what=f'No model "{name}" is known: `yt-lyrics models` lists them all.')
    return [CATALOGUE[name] for name in names]


def every() -> list[Weights]:
    return list(CATALOGUE.values())


def ready() -> list[Weights]:
    """Those on this machine."""
    return [weights for weights in every() if places.here(weights)]


def table(models: Sequence[Weights]) -> Table:
    shown = Table(box=None, header_style="bold")
    for column in ("model", "kind", "about MB", "licence", "where"):
        shown.add_column(column, justify="right" if column == "about MB" else "left", overflow="fold")
    for weights in models:
        size = "?" if weights.megabytes is None else str(weights.megabytes)
        shown.add_row(weights.name, weights.kind.value, size, weights.licence, _where(weights))
    return shown


def _where(weights: Weights) -> Text:
    if folder := places.here(weights):
        return Text(str(folder), "green")
    if wheels.joinable(weights.name):
        return Text("in packages of the extra offline, joined at first use", "green")
    return Text(f"to be fetched: {hub.endpoint()}/{weights.repository}", "dim")


def download(name: str) -> None:
    (weights,) = chosen([name])
    with terminal.watching(name) as show:
        folder = places.fetched(weights, lambda share, message, step=False: show(round(100 * share), message))
        show(100, "Ready")
    terminal.say(str(folder))


def check(name: str) -> None:
    """Whether the files are what they were when they came; raises if one is not."""
    (weights,) = chosen([name])
    folder = places.here(weights)
    if folder is None:
        raise BadRequest(what=f"{name} is not on this machine: `yt-lyrics models {name} --download` fetches it.")
    files = sums.kept(folder)
    if not files:
        terminal.say(f"{name}: not checked, for {folder} was not filled by yt-lyrics and holds no {sums.SUMS}")
        return
    with terminal.watching(name) as show:
        bad = _damaged(folder, show)
    if bad:
        raise BadRequest(
            what=f"{name} is damaged ({', '.join(bad)}): delete {folder}, then "
            f"`yt-lyrics models {name} --download` fetches it anew."
        )
    terminal.say(f"{name}: as it came, {len(files)} files in {folder}")


def _damaged(folder: Path, show: terminal.Show) -> list[str]:
    total = sum(file.stat().st_size for file in folder.iterdir())
    done = 0

    def read(size: int) -> None:
        nonlocal done
        done += size
        show(round(100 * done / total), f"Reading: {done >> 20} of {total >> 20} MB")

    return list(sums.damaged(folder, read))
