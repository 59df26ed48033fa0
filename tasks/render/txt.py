"""Plain text: the lines, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from tasks.render.pieces import song_of
from tasks.render.way import NO_TIMES, Way
from tasks.song import Song


def write(song: Song) -> str:
    return "".join(f"{line.text}\n" for line in song.lines)


def read(text: str) -> Song:
    song = song_of(((0.0, 0.0, line) for line in text.split("\n")), str)
    return replace(song, notes=(NO_TIMES,) if song.lines else ())


TXT = Way("text/plain; charset=utf-8", write, read, frozenset())
