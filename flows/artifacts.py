"""What Prefect's page shows of a run on a song: its progress while it runs, then the lines and where the results are.

Each artifact costs Prefect ~10 ms. What keeps one from being shown costs the song nothing but a short wait: Prefect's
own functions for this try again for a minute.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.runtime import flow_run

from infra import engine
from infra.errors import EngineAway
from infra.jobs.run import Run
from infra.jobs.stages import Stage, percent
from infra.settings import settings
from tasks.audio import clock
from tasks.publish import Published
from tasks.song import Song

PATIENCE = 2.0  # seconds for Prefect's answer
PAUSE = 1.0  # seconds between two moves of a bar
DOUBT = 30.0  # seconds without a move after one that Prefect did not take
SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")  # of Markdown


class Bar:
    """A song's progress as a bar on the run's page. `report` is the run's own, which also moves the bar.

    A run that is over within a second shows none.
    """

    def __init__(self, run: Run, doing: str) -> None:
        self._run = run
        self._doing = f"{doing} {_escaped(run.job.title or run.job.id)}"
        self._id: str | None = None
        self._next_move = time.monotonic() + PAUSE

    def report(self, stage: Stage, share: float, message: str, *, step: bool = False) -> None:
        self._run.report(stage, share, message, step=step)
        if time.monotonic() >= self._next_move:
            taken = self._move(float(percent(stage, share)))
            self._next_move = time.monotonic() + (PAUSE if taken else DOUBT)

    def done(self) -> None:
        if self._id:
            self._move(100.0)

    def _move(self, to: float) -> bool:
        if self._id:
            return _call("PATCH", f"/artifacts/{self._id}", {"data": to}) is not None
        self._id = _make(f"progress-{self._run.job.id}", "progress", to, self._doing)
        return self._id is not None


def show_song(job: str, song: Song, published: Published) -> None:
    """The lines as a table, with the quality and every format; and a link to the result document."""
    lines = [{"time": clock(line.start), "line": line.text} for line in song.lines]
    formats = " · ".join(f"[{name}]({absolute(url)})" for name, url in published.files.items())
    quality = "no words" if song.quality is None else f"quality {song.quality:.0%}"
    about = f"**{_escaped(song.title or 'The song')}**: {quality}, by {song.engine}. [Sing along]({page_of(job)})"
    _make(f"lines-{job}", "table", json.dumps(lines), f"{about} · {formats}")
    document = absolute(published.results_url)
    _make(f"results-{job}", "markdown", f"[{document}]({document})", "The result document")


def show_report(key: str, title: str, said: Mapping[str, Sequence[str]]) -> None:
    """What a scheduled flow did, heading by heading."""
    parts = [f"## {name}\n" + "\n".join(f"- {_escaped(line)}" for line in lines) for name, lines in said.items()]
    _make(key, "markdown", "\n\n".join([f"# {title}", *parts]), title)


def page_of(job: str) -> str:
    return absolute(f"/#job={job}")


def absolute(url: str) -> str:
    """Our own links carry no address, which may change between starts."""
    base = settings().public_url or f"http://127.0.0.1:{settings().port or 8000}"
    return base.rstrip("/") + url if url.startswith("/") else url


def _make(key: str, kind: str, data: Any, description: str) -> str | None:
    """The artifact's id; None without a flow run, and without a Prefect that takes it."""
    if flow_run.id is None:
        return None
    clean = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    asked = {"key": clean, "type": kind, "data": data, "description": description, "flow_run_id": str(flow_run.id)}
    made = _call("POST", "/artifacts/", asked)
    return made["id"] if made else None


def _call(method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Prefect's answer, empty where it has nothing to say; None where it did not take it."""
    try:
        return engine.call(method, path, body, timeout=PATIENCE) or {}
    except EngineAway:
        return None


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)
