"""`yt-lyrics export`: any lyrics file into any other format."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.errors import BadRequest
from infra.jobs.request import Format
from tasks.render import read, render
from tasks.song import Line, Song, Word

SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello you\n"
SONG = Song(
    (
        Line((Word("Hello", 1.0, 1.5), Word("you", 1.5, 2.5))),
        Line((Word("שלום", 4.0, 4.5), Word("world", 4.5, 5.0))),
        Line((Word("君", 6.0, 6.5), Word("の", 6.5, 7.0)), ""),
    ),
    "en", 9.0, "A Title", "An Artist",
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*words: str) -> Result:
    return CliRunner().invoke(app, ["export", *words])


def put(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def said(result: Result) -> list[str]:
    return result.stderr.splitlines()


@pytest.mark.parametrize("source", [fmt for fmt in Format if fmt is not Format.TXT])
def test_every_format_becomes_every_other(source: Format) -> None:
    put(f"song.{source}", render(SONG, source))
    result = export(f"song.{source}", "--format", ",".join(Format), "--out", "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [f"out/song.{fmt}" for fmt in Format]
    for fmt in Format:
        back = read((Path("out") / f"song.{fmt}").read_text(), fmt)
        assert [line.text for line in back.lines] == ["Hello you", "שלום world", "君の"]


def test_what_a_format_cannot_hold_is_said_in_one_sentence() -> None:
    put("song.json", render(SONG, Format.JSON))
    assert said(export("song.json", "-f", "ttml,elrc")) == []
    assert said(export("song.json", "-f", "srt,vtt,txt,lrc")) == [
        "song.json: SRT cannot hold its times of words, title, artist, language; VTT cannot hold its title, artist, "
        "language; TXT cannot hold its times, ends of lines, times of words, title, artist, language; "
        "LRC cannot hold its ends of lines, times of words."
    ]


def test_word_times_that_are_made_up_are_said_to_be(place: Path) -> None:
    put("song.srt", SRT)
    assert said(export("song.srt", "-f", "lrc")) == ["song.srt: LRC cannot hold its ends of lines."]
    assert said(export("song.srt", "-f", "ass,json")) == [
        "song.srt has no times of words; each line's time is spread over its words."
    ]
    assert said(export("song.json", "-f", "ttml", "--out", "again")) == [
        "song.json has no times of words; each line's time is spread over its words."
    ]


def test_the_file_that_is_read_is_never_written_over() -> None:
    put("song.srt", SRT)
    put("song.ass", render(SONG, Format.ASS))
    os.link("song.srt", "linked.srt")
    result = export("song.srt", "song.ass", "linked.srt", "-f", "srt")
    assert result.stdout.splitlines() == ["song (2).srt", "song (3).srt", "linked (2).srt"]
    assert Path("song.srt").read_text() == SRT
    assert export("song.ass", "-f", "txt").stdout.splitlines() == ["song.txt"]


def test_files_of_one_name_become_files_of_two() -> None:
    Path("a").mkdir()
    for name in ("song.srt", "a/song.srt"):
        put(name, SRT)
    assert export("song.srt", "a/song.srt", "-f", "vtt").stdout.splitlines() == ["song.vtt", "song (2).vtt"]
    assert export("song.srt", "-f", "vtt").stdout.splitlines() == ["song.vtt"]  # made anew, as transcribe does


@pytest.mark.parametrize("name", ["song", "song.txt", "song.sub"])
@pytest.mark.parametrize("fmt", [fmt for fmt in Format if fmt is not Format.TXT])
def test_a_name_that_says_nothing_leaves_it_to_the_content(name: str, fmt: Format) -> None:
    put(name, render(SONG, fmt))
    result = export(name, "-f", "txt", "--out", "out")
    assert (result.exit_code, Path("out/song.txt").read_text()) == (0, "Hello you\nשלום world\n君の\n")


def test_a_wrong_name_is_overruled_by_from() -> None:
    put("song.srt", render(SONG, Format.LRC))
    wrong = export("song.srt", "-f", "vtt")
    assert (wrong.exit_code, said(wrong)) == (
        1, ["Error: song.srt cannot be read as SRT: it looks like LRC, which `--from lrc` says."]
    )  # fmt: skip
    assert export("song.srt", "-f", "vtt", "--from", "lrc").exit_code == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_files_are_read_in_the_ways_that_editors_write_them(encoding: str) -> None:
    put("song.srt", "1\r\n00:00:01,000 --> 00:00:02,000\r\nDéjà vu\r\n".encode(encoding))
    result = export("song.srt", "-f", "txt")
    assert Path("song.txt").read_text() == "Déjà vu\n"
    assert ("song.srt is not in Unicode; it was read as Windows-1252." in said(result)) == (encoding == "cp1252")


def test_a_text_without_times_is_refused_where_times_are_needed() -> None:
    put("words.txt", "just words\n")
    refused = export("words.txt", "-f", "txt,srt")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert said(refused) == [
        "Error: words.txt has no times, and SRT needs them: `yt-lyrics transcribe SONG --lyrics words.txt` finds them "
        "in the song."
    ]
    assert export("words.txt", "-f", "txt", "--out", "out").exit_code == 0


def test_a_song_without_words_is_written_in_every_format_and_said_to_be_one() -> None:
    put("song.srt", "")
    result = export("song.srt", "-f", ",".join(Format), "--out", "out")
    assert (result.exit_code, said(result)) == (0, ["song.srt has no words."])
    assert len(list(Path("out").iterdir())) == len(Format)


BROKEN = {
    "sound.srt": (b"ID3\x04\x00\x81\xff" * 9, "is no text: `yt-lyrics transcribe` makes lyrics of sound"),
    "none.srt": ("nonsense", "cannot be read as SRT: nothing in it is"),
    "half.json": ('{"words": [', "cannot be read as JSON: it is broken"),
    "other.json": ('{"a": 1}', "cannot be read as JSON: it is broken"),
    "numbers.json": ('{"words": [{"word": 5, "start": 0, "end": 1}]}', "cannot be read as JSON: it is broken"),
    "endless.json": ('{"words": [{"word": "a", "start": 0, "end": 1e999}]}', "cannot be read as JSON: it is broken"),
    "deep.json": ('{"words": ' + "[" * 200_000, "cannot be read as JSON: it is broken"),
    "huge.srt": (SRT.replace("00:00:02", "9" * 400 + ":00:02"), "cannot be read as SRT: it is broken"),
    "bomb.ttml": (
        '<!DOCTYPE tt [<!ENTITY a "aaaa">]><tt/>',
        "cannot be read as TTML: it declares a document type, which is not read for safety",
    ),
    "deep.ttml": ("<tt>" + "<div>" * 20_000 + "</div>" * 20_000 + "</tt>", "cannot be read as TTML: it is broken"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_file_costs_one_sentence_and_the_others_nothing(name: str) -> None:
    content, sentence = BROKEN[name]
    put(name, content)
    put("good.srt", SRT)
    result = export(name, "good.srt", "-f", "lrc", "--out", "out")
    assert (result.exit_code, result.stdout) == (1, "out/good.lrc\n")
    assert said(result)[0].startswith(f"Error: {name} {sentence}")
    assert [path.name for path in Path("out").iterdir()] == ["good.lrc"]


def test_what_is_no_file_is_named() -> None:
    Path("folder").mkdir()
    assert said(export("nosuch.srt", "folder", "-f", "lrc")) == [
        "Error: There is no file nosuch.srt.",
        "Error: folder is a folder: name the files in it.",
    ]


def test_a_format_that_is_none_is_told_before_any_work() -> None:
    put("song.srt", SRT)
    with pytest.raises(BadRequest, match='"mp3" is no format; choose from json, srt'):
        CliRunner().invoke(app, ["export", "song.srt", "-f", "lrc,mp3"], catch_exceptions=False)
    assert [path.name for path in Path().iterdir()] == ["song.srt"]
