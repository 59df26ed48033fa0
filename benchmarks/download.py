"""A download by the ladder's first route against plain yt-dlp, of the same file on loopback, in one process by turns.

Both ask the player first and take what it offers as it comes; ours reports to nobody, but asks the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from yt_dlp import YoutubeDL

from infra import links
from infra.jobs.stages import silent
from infra.settings import settings
from tasks.download import download
from tasks.download.routes import ladder
from tests.fakes.media import Answer, MediaServer, Video

SIZE = 64 * 10**6  # bytes
ROUNDS = 31
ID = "benchmarked"


def ours(folder: Path) -> None:
    route = ladder(settings())[0]
    download(links.parse(f"https://youtu.be/{ID}", ()), folder, silent, route)


def plain(folder: Path) -> None:
    options = {"format": "bestaudio/best", "quiet": True, "noprogress": True, "no_warnings": True}
    with YoutubeDL({**options, "outtmpl": str(folder / "%(id)s.%(ext)s")}) as youtube:
        youtube.download([f"https://www.youtube.com/watch?v={ID}"])


def seconds(work: Callable[[Path], None]) -> float:
    with tempfile.TemporaryDirectory(prefix="ytl-") as folder:
        began = time.perf_counter()
        work(Path(folder))
        took = time.perf_counter() - began
        [file] = Path(folder).iterdir()
        assert file.stat().st_size == SIZE
    return took


def measured(media: MediaServer) -> dict[str, list[float]]:
    media.answer("/large.webm", Answer(os.urandom(SIZE)))
    media.video(ID, Video(audio="/large.webm"))
    took: dict[str, list[float]] = {"ours": [], "ytdlp": []}
    for number in range(ROUNDS + 1):
        turns = [("ours", ours), ("ytdlp", plain)]
        for name, work in turns if number % 2 else reversed(turns):  # so that neither always comes second
            took[name].append(seconds(work))
    return took


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ytl-") as data, MediaServer() as media, media.as_youtube():
        os.environ["YT_LYRICS_DATA"] = data
        settings.cache_clear()
        took = measured(media)
    speed = {name: SIZE / 10**6 / statistics.median(times[1:]) for name, times in took.items()}
    result = {"ours_mb_s": speed["ours"], "ytdlp_mb_s": speed["ytdlp"], "ratio": speed["ours"] / speed["ytdlp"]}
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
