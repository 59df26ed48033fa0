"""Many songs at once, from the command line: a file of links or a playlist, watched and told as a whole."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.table import Table

from flows import terminal
from flows.client import Api, file_named, is_link
from infra.errors import BadRequest

STDIN = "-"
UNFINISHED = ("error", "cancelled")


def links_in(name: str) -> list[str]:
    """A link a line; what stands behind a # is for people."""
    try:
        text = sys.stdin.read() if name == STDIN else file_named(name).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest(
            what=f"{name} is not a text: give a file with one link a line, or the link of a playlist."
        ) from None
    lines = (line.strip() for line in text.splitlines())
    found = [line.partition(" #")[0].rstrip() for line in lines if line and not line.startswith("#")]
    if not found:
        raise BadRequest(what=f"There is no link in {'the input' if name == STDIN else name}.")
    return found


def submit(service: Api, source: str, *, wait: bool, **options: str | int | None) -> None:
    songs = {"playlist": source} if is_link(source) else {"links": links_in(source)}
    answer = service.submit_batch(songs, **options)
    id: str = answer["batchId"]
    terminal.say(id)
    if twice := answer.get("twice"):
        terminal.err.print(f"{twice} of the links lead to songs that others of them lead to, too")
    if not wait:
        return
    with terminal.watching("All songs") as show:
        batch = service.follow_batch(id, show)
    tell(service, batch)


def show(service: Api, id: str, *, cancel: bool = False, retry: bool = False) -> None:
    if cancel:
        service.cancel_batch(id)
    if retry:
        service.retry_batch(id)
    batch = service.batch(id, limit=1)
    name = batch.get("title") or batch.get("playlist") or "a list of links"
    terminal.sentences([("batch", name), ("status", f"{batch['status']}, {batch['pct']} %")])
    terminal.sentences([("message", batch["message"])])
    terminal.out.print(table_of(service.songs(id)))


def tell(service: Api, batch: dict[str, Any]) -> None:
    """What became of each song; exit 1 if one of them is not done."""
    terminal.out.print(table_of(service.songs(batch["batchId"])))
    if batch["status"] == "error":
        raise BadRequest(what=batch["message"])
    terminal.err.print(batch["message"])
    if any(batch["counts"][status] for status in UNFINISHED) or batch["status"] in UNFINISHED:
        raise typer.Exit(1)


def table_of(songs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("song", "status", "what it says"):
        table.add_column(column, overflow="fold")
    for song in songs:
        name = terminal.readable(song.get("title") or song["youtubeUrl"])
        done = song["status"] == "completed"
        said = "" if done else song.get("error") or song.get("statusMessage", "")
        table.add_row(name, song["status"], terminal.readable(said))
    return table
