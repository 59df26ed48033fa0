"""The karaoke as libass draws it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from numpy.typing import NDArray

from infra.jobs.request import Format
from tasks.render import render
from tasks.song import Line, Song, Word

WIDTH, HEIGHT = 640, 360
GOLD, WHITE = (255, 200, 0), (255, 255, 255)

Frame = NDArray[np.int16]  # rows, columns, red green blue


@cache
def draws() -> bool:
    """Whether there is an ffmpeg with libass, and a font."""
    try:
        ffmpeg = get_ffmpeg_exe()
    except RuntimeError:
        return False
    filters = subprocess.run([ffmpeg, "-hide_banner", "-filters"], capture_output=True, text=True, check=False).stdout
    return " ass " in filters and any(Path("/usr/share/fonts").rglob("*.?tf"))


pytestmark = pytest.mark.skipif(not draws(), reason="no ffmpeg with libass, or no fonts")


def frames(song: Song, times: Sequence[int], folder: Path) -> list[Frame]:
    """What stands on a black screen at these seconds."""
    (folder / "song.ass").write_text(render(song, Format.ASS))
    chosen = "+".join(f"eq(t,{time})" for time in times)
    video = f"color=black:s={WIDTH}x{HEIGHT}:r=1:d={max(times) + 1}"
    command = [get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", video, "-vf", f"ass=song.ass,select='{chosen}'"]
    raw = [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    drawn = subprocess.run(raw, cwd=folder, capture_output=True, check=True, timeout=60).stdout
    return list(np.frombuffer(drawn, np.uint8).astype(np.int16).reshape(-1, HEIGHT, WIDTH, 3))


def places(frame: Frame, colour: tuple[int, int, int]) -> NDArray[np.intp]:
    """Rows and columns of this colour."""
    return np.argwhere(np.abs(frame - np.array(colour)).max(axis=2) < 40)


def line(text: str, start: float) -> Line:
    """A word each second."""
    return Line(tuple(Word(word, start + n, start + n + 1) for n, word in enumerate(text.split())))


def test_a_line_fills_from_the_left_while_it_is_sung(tmp_path: Path) -> None:
    shown = frames(Song((line("harbor light is burning low", 2),)), range(1, 7), tmp_path)
    gold = [places(frame, GOLD) for frame in shown]
    sizes = [len(found) for found in gold]
    assert sizes[:2] == [0, 0]
    assert all(before < after for before, after in pairwise(sizes[1:]))
    for found, frame in zip(gold[2:], shown[2:], strict=True):
        assert found[:, 1].max() <= places(frame, WHITE)[:, 1].min() + 2  # the sung part lies left of the rest


def test_hebrew_turns_word_by_word_from_the_right(tmp_path: Path) -> None:
    shown = frames(Song((line("שלום עולם טוב", 2),)), range(2, 5), tmp_path)
    gold = [places(frame, GOLD) for frame in shown]
    assert 0 < len(gold[0]) < len(gold[1]) < len(gold[2])
    assert gold[0][:, 1].min() > gold[1][:, 1].min() > gold[2][:, 1].min()
    assert gold[0][:, 1].min() > places(shown[0], WHITE)[:, 1].max() - 2


def test_the_next_line_waits_below_half_transparent(tmp_path: Path) -> None:
    song = Song((line("one two three four", 2), line("five six seven eight", 6)))
    [frame] = frames(song, [4], tmp_path)
    rows = np.flatnonzero(frame.max(axis=2).max(axis=1) > 100)
    gap = rows[:-1][np.diff(rows) > 4]
    assert len(gap) == 1
    assert frame[: gap[0] + 1].max() > 240
    assert 100 < frame[gap[0] + 1 :].max() < 200


def test_a_long_line_wraps_and_stays_on_the_screen(tmp_path: Path) -> None:
    long = line("a letter folded in my coat tells of every single thing that nobody has ever dared to say at all", 1)
    [below] = frames(Song((line("one", 0), long)), [2], tmp_path)
    ink = np.argwhere(below.max(axis=2) > 100)
    assert ink[:, 0].max() < HEIGHT - 5
    assert ink[:, 1].min() > 10
    assert ink[:, 1].max() < WIDTH - 10
