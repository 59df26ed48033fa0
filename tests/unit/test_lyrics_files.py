"""A song's words as people keep them in files."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.lyrics import LARGEST, decoded, lyrics_in
from infra.errors import BadRequest

TEXT = "Café — ¿mañana?\nWhere the river ends"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_a_file_is_read_as_editors_write_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "words.txt").write_bytes(TEXT.encode(encoding))
    assert lyrics_in(str(tmp_path / "words.txt"), songs=1) == TEXT


def test_a_dash_reads_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
    assert lyrics_in("-", songs=1) == TEXT


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "There are no words in "),
        (b" \n\t\n", "There are no words in "),
        (b"\xff\xfb\x90\x00\x00\x81\x8d", "is not a text with a song's words."),
        (b"la " * LARGEST, "is not a text with a song's words."),
    ],
)
def test_what_holds_no_words_is_said(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(BadRequest, match=sentence):
        lyrics_in(str(tmp_path / "words.txt"), songs=1)


@pytest.mark.parametrize("songs", [0, 2])
def test_lyrics_are_one_songs(songs: int) -> None:
    with pytest.raises(BadRequest, match="give one song"):
        lyrics_in("words.txt", songs=songs)


@given(st.binary(max_size=200))
def test_whatever_a_file_holds_is_text_or_none(content: bytes) -> None:
    text = decoded(content)
    assert text is None or "\0" not in text
