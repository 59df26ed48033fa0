"""Every format stands wherever formats are listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.jobs.request import Format
from infra.storage import content_type
from tasks import render as rendering
from tasks.render import CONTENT_TYPES, WAYS, render
from tasks.render.signs import SUFFIXES, looks_like
from tasks.song import Line, Song, Word

ROOT = Path(__file__).parents[2]
SONG = Song((Line((Word("Harbor", 1.0, 1.5), Word("light", 1.5, 2.0))),), "en", 3.0, title="Harbor Light")

every_format = pytest.mark.parametrize("fmt", Format)


def test_every_format_has_a_way_and_a_content_type_with_its_charset() -> None:
    assert set(WAYS) == set(Format) == set(CONTENT_TYPES)
    assert all(kind.endswith("; charset=utf-8") for kind in CONTENT_TYPES.values())


@every_format
def test_every_format_is_served_as_a_text_that_a_browser_shows(fmt: Format) -> None:
    assert re.match(r"text/|application/(json|x-subrip)$", content_type(f"transcriptions/x/subtitles.{fmt}"))


@every_format
def test_every_format_is_known_by_its_suffix_and_by_what_stands_in_it(fmt: Format) -> None:
    assert SUFFIXES[f".{fmt}"] is fmt
    assert looks_like(render(SONG, fmt)) is fmt
    assert looks_like("\ufeff" + render(SONG, fmt)) is fmt


@every_format
def test_every_format_has_a_name_on_the_page(fmt: Format) -> None:
    assert re.search(rf'^  {fmt}: \["', (ROOT / "infra/api/page/song.js").read_text(), re.MULTILINE)


@every_format
@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_every_format_has_a_line_in_the_documents(fmt: Format, page: str) -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / page).read_text(), re.MULTILINE)
    assert any(f"`{fmt}`" in row for row in rows)


@every_format
def test_every_format_is_among_the_files_that_operators_find(fmt: Format) -> None:
    assert re.search(rf"(results|subtitles[^;]*)`?\.{fmt}`", (ROOT / "docs/operating.md").read_text())


@every_format
def test_every_format_says_of_itself_what_it_holds(fmt: Format) -> None:
    assert re.search(rf"^    {fmt} ", rendering.__doc__ or "", re.MULTILINE)
