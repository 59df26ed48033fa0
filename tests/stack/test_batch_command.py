"""Many songs by one command, through a whole stack."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import Settings
from tests.running import ROOT, RunningStack

ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
QUICK = ("--preset", "low", "--model", "tiny.en", "--language", "en")


def cli(*words: str | Path, given: str = "", url: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    own = {
        name: value for name, value in os.environ.items() if name.upper() not in map(str.upper, Settings.model_fields)
    }
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, words)],
        cwd=ROOT,
        env=own | {"YT_LYRICS_URL": url},
        input=given,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_file_of_links_is_made_song_by_song_and_told_as_a_table(stack: RunningStack, tmp_path: Path) -> None:
    file = tmp_path / "links.txt"
    file.write_text(
        "# a good one, a private one, and no link\nhttps://youtu.be/harborlight\nyoutu.be/privatevid0\nno link\n"
    )
    done = cli("submit", "--batch", file, "--wait", *QUICK, url=stack.url)
    assert done.returncode == 1, done.stdout + done.stderr
    id, header, *rows = done.stdout.splitlines()
    assert re.fullmatch(ID, id)
    assert header.split() == ["song", "status", "what", "it", "says"]
    good, private, bad = (" ".join(row.split()) for row in rows)
    assert good == "Harbor Light completed"
    assert re.search(r"privatevid0 error YouTube does not give out this video: Private video", private)
    assert re.match(r'no link error "no link" is not a link to a YouTube video\.', bad)
    assert "1 of 3 songs are done, 2 failed" in done.stderr
    shown = cli("jobs", "--batch", id, url=stack.url)
    assert shown.returncode == 0, shown.stderr
    assert "completed, 100 %" in shown.stdout
    assert [line.split() for line in shown.stdout.splitlines()[-3:]] == [row.split() for row in rows]


def test_a_playlist_is_made_from_its_link(stack: RunningStack) -> None:
    playlist = "https://www.youtube.com/playlist?list=PLoneharbour00"
    done = cli("submit", "--batch", playlist, "--wait", *QUICK, url=stack.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Harbor Light +completed", done.stdout)
    assert "1 of 1 song is done" in done.stderr


def test_a_playlist_that_cannot_be_had_is_one_sentence(stack: RunningStack) -> None:
    playlist = "https://www.youtube.com/playlist?list=PLprivatelist0"
    done = cli("submit", "--batch", playlist, "--wait", url=stack.url)
    assert done.returncode == 1
    sentence = "Error: YouTube does not give out this playlist: This playlist is private."
    assert done.stderr.splitlines()[-1] == sentence
    assert "Traceback" not in done.stderr


def test_links_are_read_from_the_input_and_a_batch_can_be_cancelled(stack: RunningStack) -> None:
    sent = cli("submit", "--batch", "-", *QUICK, given="youtu.be/slowsound00\nyoutu.be/slowsound00\n", url=stack.url)
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr.strip() == "1 of the links lead to songs that others of them lead to, too"
    cancelled = cli("jobs", "--batch", sent.stdout.strip(), "--cancel", url=stack.url)
    assert cancelled.returncode == 0, cancelled.stderr
    assert "cancelled, 100 %" in cancelled.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit"], "Give links or files, or many of them with --batch."),
        (["submit", "youtu.be/harborlight", "--batch", "x"], "Give links or files, or many of them with --batch."),
        (["submit", "--batch", "no-such-file.txt"], "There is no file no-such-file.txt."),
        (["submit", "--batch", "-"], "There is no link in the input."),
        (["jobs", "--batch", "x"], "No service answers at http://127.0.0.1:9; start one with `yt-lyrics up`."),
    ],
)
def test_what_cannot_be_sent_is_one_sentence(words: list[str], sentence: str) -> None:
    done = cli(*words)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (1, f"Error: {sentence}", "")


def test_help_teaches_with_an_example() -> None:
    done = cli("submit", "--help")
    assert "yt-lyrics submit --batch links.txt --wait" in " ".join(done.stdout.split())
