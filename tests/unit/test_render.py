from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.jobs.request import PIPELINE_VERSION, Format
from tasks.render import WAYS, Part, document, parts, read, render, tidy
from tasks.song import Line, Song, Word

NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)

STEP = dict.fromkeys(Format, 0.001) | {Format.LRC: 0.01, Format.ELRC: 0.01, Format.ASS: 0.01}


def holding(part: Part) -> list[Format]:
    return [fmt for fmt in Format if part in WAYS[fmt].holds]


NASTY = [
    "-->", "00:00:01,000", "<i>", "</c>", "<b", "a<b>c", "&", "&amp;", "&lt;i&gt;", "&nbsp;", "<00:00:01.000>",
    "<00:01.00>", "[00:01.00]", "[00:01.00][00:02.00]x", "[Chorus]", "[ti:x]", "<\u20600", "{", "}", "{\\k50}", "{}",
    "\\", "\\N", "\\n", "\\h", "\\{", "\\\u2060", "\\\u2060{", "{\\an8}",
    "00:00:01,000 --> 00:00:02,000", "-\u2060->", "]]>", "<!--", "<tt>", "<br/>",
    "{\u2060\\an8}", ",", "Dialogue:", "Title:",
    "WEBVTT", "NOTE", "1", "2.", "a b", "two\nlines", "two\r\n\r\nlines", "tab\tbed", "a\u2028b", "\x00nul", "\uffff",
    "\ufeffbom", "\x1bx", "\ud800", "👩‍👩‍👧",
    "♪", "❤️", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "שָׁלוֹם-world", "(שיר)", "你好，", "長い" * 30, "ﾊﾟ", "が" + "\u3099",
    "שלום", "مرحبا", "می‌خواهم", "\u202bשיר\u202c", "君の名は", "ฉันรัก", "Straße", "e\u0301",
    "ﷺ", "\u200f", "%s", "{title}", '"quoted"', "it's", "¿Qué?", "null", "",
]  # fmt: skip


qualities = st.none() | st.integers(0, 1000).map(lambda n: n / 1000)


@st.composite
def songs(draw: st.DrawFn) -> Song:
    """Songs as `in_order` leaves them: words of 0.02 s and more, sorted, never overlapping."""
    now = draw(st.sampled_from([0, 1, 59_990, 3_599_990, 6_000_000]))
    texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=8))
    rests = st.sampled_from([0, 0, 1, 5, 250, 1_994, 1_995, 2_000, 2_005, 70_000])
    lines: list[Line] = []
    for count in draw(st.lists(st.integers(1, 4), max_size=4)):
        words: list[Word] = []
        for _ in range(count):
            start = now + draw(rests)
            now = start + draw(st.integers(20, 3000))
            words.append(Word(draw(texts), start / 1000, now / 1000, draw(st.integers(0, 1000)) / 1000))
        lines.append(Line(tuple(words), draw(st.sampled_from([" ", ""])), draw(qualities)))
    name = st.none() | texts
    language = draw(st.sampled_from([None, "en", "ja", "ar"]))
    return Song(
        tuple(lines),
        language=language,
        duration=now / 1000,
        title=draw(name),
        artist=draw(name),
        video_id=draw(st.none() | st.just("dQw4w9WgXcQ")),
        engine=draw(st.sampled_from(["", "faster-whisper base"])),
        notes=draw(st.sampled_from([(), ("instrumental",)])),
        quality=draw(qualities),
    )


def sung(*texts: str, start: float = 1.0, joiner: str = " ") -> Line:
    return Line(tuple(Word(text, start + i * 0.5, start + i * 0.5 + 0.4) for i, text in enumerate(texts)), joiner)


def golden() -> Song:
    first = Line((Word("Hello", 1.0, 1.5, 0.9), Word("<world>", 1.75, 2.5, 0.8)), quality=0.8499)
    second = Line((Word("君", 3661.2, 3661.5), Word("の", 3661.5, 3662.0)), "")
    return Song((first, second), "en", 4000.0, "A Title", "An Artist", "dQw4w9WgXcQ", "whisper", ("a note",), 0.9019)


def texts(song: Song) -> list[str]:
    return [line.text for line in song.lines]


# --- every format -----------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", Format)
@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_every_format_reads_back_the_lines_it_wrote(fmt: Format, song: Song) -> None:
    assert texts(read(render(song, fmt), fmt)) == texts(tidy(song))


@pytest.mark.parametrize("fmt", holding(Part.TIMES))
@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_every_timed_format_reads_back_line_times_to_its_own_precision(fmt: Format, song: Song) -> None:
    back = read(render(song, fmt), fmt)
    for line, wanted in zip(back.lines, tidy(song).lines, strict=True):
        assert line.start == pytest.approx(wanted.start, abs=STEP[fmt])
        if Part.ENDS in WAYS[fmt].holds:
            assert line.end == pytest.approx(wanted.end, abs=STEP[fmt])
        else:  # it ends where the next line begins, unless a long pause follows
            assert wanted.end - STEP[fmt] <= line.end <= wanted.end + 2.0 + STEP[fmt]


@pytest.mark.parametrize("fmt", holding(Part.TIMES))
@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_in_every_format_a_line_ends_before_the_next_begins(fmt: Format, song: Song) -> None:
    lines = read(render(song, fmt), fmt).lines
    assert all(line.start < line.end for line in lines)
    assert all(line.end <= following.start for line, following in pairwise(lines))


@pytest.mark.parametrize("fmt", holding(Part.WORDS))
@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_every_format_with_words_reads_back_each_word_and_its_times(fmt: Format, song: Song) -> None:
    back, wanted = read(render(song, fmt), fmt).words, tidy(song).words
    assert [word.text for word in back] == [word.text for word in wanted]
    for word, original in zip(back, wanted, strict=True):
        assert (word.start, word.end) == pytest.approx((original.start, original.end), abs=STEP[fmt])
        assert word.start < word.end


@pytest.mark.parametrize("part", [Part.TITLE, Part.ARTIST, Part.LANGUAGE])
@given(song=songs())
@settings(max_examples=40, deadline=None)
def test_formats_with_a_header_read_back_what_it_names(part: Part, song: Song) -> None:
    for fmt in holding(part):
        assert getattr(read(render(song, fmt), fmt), part.value) == getattr(tidy(song), part.value)


@pytest.mark.parametrize("fmt", Format)
@given(song=songs())
@settings(max_examples=40, deadline=None)
def test_what_comes_back_is_what_the_format_holds_and_no_more(fmt: Format, song: Song) -> None:
    back = parts(read(render(song, fmt), fmt))
    timed = {Part.TIMES, Part.ENDS, Part.WORDS}
    assert back - timed == (parts(tidy(song)) & WAYS[fmt].holds) - timed
    if tidy(song).lines:
        assert back & {Part.TIMES, Part.WORDS} == WAYS[fmt].holds & {Part.TIMES, Part.WORDS}


@given(song=songs(), way=st.permutations(holding(Part.WORDS)))
@settings(max_examples=60, deadline=None)
def test_a_song_that_goes_through_every_format_with_words_keeps_them(song: Song, way: list[Format]) -> None:
    there = song
    for fmt in way:
        there = read(render(there, fmt), fmt)
    assert texts(there) == texts(tidy(song))
    for word, original in zip(there.words, tidy(song).words, strict=True):
        assert (word.start, word.end) == pytest.approx((original.start, original.end), abs=0.011)


@pytest.mark.parametrize("fmt", Format)
@given(song=songs())
@settings(max_examples=40, deadline=None)
def test_what_was_read_is_written_again_the_same(fmt: Format, song: Song) -> None:
    once = render(song, fmt, processed_at=NOW)
    assert render(read(once, fmt), fmt, processed_at=NOW) == once
    once.encode()


@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_json_reads_back_the_whole_song(song: Song) -> None:
    def joined(line: Line) -> Line:  # one word has no joiner to tell
        return line if line.joiner.join("ab") != " ".join("ab") and len(line.words) > 1 else replace(line, joiner=" ")

    wanted = tidy(song)
    back = read(render(song, Format.JSON), Format.JSON)
    assert back == replace(wanted, lines=tuple(map(joined, wanted.lines)))


@pytest.mark.parametrize("fmt", Format)
@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_survive_at_every_place_of_a_line(fmt: Format, text: str) -> None:
    song = Song((sung(text, "b", text), sung(text, text, start=4.0, joiner=""), sung("a", text, start=6.0)), "en", 9.0)
    assert texts(read(render(song, fmt), fmt)) == texts(tidy(song))


@pytest.mark.parametrize("fmt", Format)
@pytest.mark.parametrize("lines", [(), (Line(()),), (sung(" ", "\n"),)], ids=["no lines", "no words", "only spaces"])
def test_a_song_without_words_is_valid_in_every_format(fmt: Format, lines: tuple[Line, ...]) -> None:
    assert read(render(Song(lines), fmt), fmt).lines == ()


@pytest.mark.parametrize("fmt", Format)
def test_files_from_windows_with_a_byte_order_mark_are_read(fmt: Format) -> None:
    text = "\ufeff" + render(golden(), fmt).replace("\n", "\r\n")
    assert texts(read(text, fmt)) == ["Hello <world>", "君の"]


@pytest.mark.parametrize("fmt", Format)
def test_words_out_of_order_or_without_length_still_render(fmt: Format) -> None:
    line = Line((Word("late", 5.0, 5.0), Word("early", 1.0, 0.5), Word("over", 2.0, 9.0)))
    assert texts(read(render(Song((line, line)), fmt), fmt))


# --- JSON ---------------------------------------------------------------------------------------


def test_the_json_is_the_contracts_document() -> None:
    made = document(golden(), processed_at=NOW)
    hello = {"word": "Hello", "start": 1.0, "end": 1.5, "confidence": 0.9}
    assert made["words"][0] == hello
    assert made["lines"][0]["words"][0] == hello
    assert made["lines"][0] | {"words": []} == {
        "text": "Hello <world>", "start": 1.0, "end": 2.5, "quality": 0.85, "words": []
    }  # fmt: skip
    assert made["pipeline"] == PIPELINE_VERSION
    assert made["plain"] == "Hello <world>\n君の"
    assert made["srt"] == render(golden(), Format.SRT)
    assert made["metadata"] == {
        "title": "A Title",
        "artist": "An Artist",
        "videoId": "dQw4w9WgXcQ",
        "duration": 4000.0,
        "quality": 0.902,
        "processedAt": "2026-11-21T08:30:00.000Z",
    }
    assert (made["language"], made["engine"], made["notes"]) == ("en", "whisper", ["a note"])
    assert json.loads(render(golden(), Format.JSON, processed_at=NOW)) == made


def test_json_times_have_three_decimals() -> None:
    [word] = document(Song((Line((Word("a", 1.00049, 2.123456, 0.98765),)),)))["words"]
    assert word == {"word": "a", "start": 1.0, "end": 2.123, "confidence": 0.988}


def test_processed_at_is_told_in_utc_and_is_now_by_default() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5)))
    assert document(golden(), processed_at=there)["metadata"]["processedAt"] == "2026-11-21T08:30:00.000Z"
    assert datetime.fromisoformat(document(golden())["metadata"]["processedAt"]) > NOW - timedelta(days=3650)


def test_a_document_of_the_older_system_is_read_without_lines() -> None:
    old = {"words": [{"word": "Hello.", "start": 0, "end": 1}, {"word": "You", "start": 3, "end": 4}], "metadata": {}}
    assert [word.text for word in read(json.dumps(old), Format.JSON).words] == ["Hello.", "You"]


# --- golden files -------------------------------------------------------------------------------


def test_srt_is_numbered_from_one() -> None:
    assert render(golden(), Format.SRT) == (
        "1\n00:00:01,000 --> 00:00:02,500\nHello <\u2060world>\n\n2\n01:01:01,200 --> 01:01:02,000\n君の\n"
    )


def test_vtt_times_each_word_and_its_end_where_silence_follows() -> None:
    assert render(golden(), Format.VTT) == (
        "WEBVTT\n\n"
        "00:00:01.000 --> 00:00:02.500\n"
        "<00:00:01.000><c>Hello</c> <00:00:01.500><00:00:01.750><c>&lt;world&gt;</c>\n\n"
        "01:01:01.200 --> 01:01:02.000\n"
        "<01:01:01.200><c>君</c><01:01:01.500><c>の</c>\n"
    )


def test_lrc_clears_the_screen_for_long_pauses() -> None:
    assert render(golden(), Format.LRC) == (
        "[ti:A Title]\n[ar:An Artist]\n[la:en]\n[length:66:40.00]\n[re:yt-lyrics]\n"
        "[00:01.00]Hello <world>\n[00:02.50]\n[61:01.20]君の\n[61:02.00]\n"
    )


def test_enhanced_lrc_times_each_word() -> None:
    rows = render(golden(), Format.ELRC).splitlines()
    assert rows[5:] == [
        "[00:01.00]<00:01.00>Hello <00:01.50><00:01.75><world><00:02.50>",
        "[00:02.50]",
        "[61:01.20]<61:01.20>君<61:01.50>の<61:02.00>",
        "[61:02.00]",
    ]


def events(song: Song) -> list[str]:
    return [row for row in render(song, Format.ASS).splitlines() if row.startswith("Dialogue")]


def test_ass_fills_each_word_and_shows_the_line_before_it_is_sung() -> None:
    early = r"{\fad(200,0)\2a&H70&\t(600,1000,\2a&H00&)}"
    earlier = r"{\fad(200,0)\2a&H70&\t(3600,4000,\2a&H00&)}"
    assert events(golden()) == [
        f"Dialogue: 0,0:00:00.00,0:00:02.50,Upper,,0,0,0,,{early}" + r"{\k100}{\kf50}Hello {\k25}{\kf75}<world>",
        f"Dialogue: 0,1:00:57.20,1:01:02.00,Upper,,0,0,0,,{earlier}" + r"{\k400}{\kf30}君{\kf50}の",
    ]


def test_ass_turns_right_to_left_words_at_once_since_players_fill_from_the_left() -> None:
    assert r"{\k40}שלום {\k10}{\kf40}you" in render(Song((sung("שלום", "you"),)), Format.ASS)


def test_ass_shows_two_lines_in_turn_and_the_first_above_after_a_pause() -> None:
    song = Song((sung("a", start=1.0), sung("b", start=1.5), sung("c", start=2.5), sung("d", start=20.0)))
    assert [row.split(",")[1:4] for row in events(song)] == [
        ["0:00:00.00", "0:00:01.40", "Upper"],
        ["0:00:00.00", "0:00:01.90", "Lower"],
        ["0:00:01.40", "0:00:02.90", "Upper"],
        ["0:00:16.00", "0:00:20.40", "Upper"],
    ]


@given(song=songs())
@settings(max_examples=60, deadline=None)
def test_no_two_lines_of_ass_stand_at_one_place_together(song: Song) -> None:
    free = {"Upper": "", "Lower": ""}
    for row in events(song):
        _, start, end, place, *_ = row.split(",")
        assert free[place] <= start < end
        free[place] = end


def test_ass_breaks_long_lines_without_spaces_which_players_do_not() -> None:
    [row] = events(Song((sung(*"君の名前を呼ぶ声が聞こえるから夜空に輝く星のように", joiner=""),)))
    assert (
        re.sub(r"\{[^}]*\}", "", row.split(",,")[-1]) == "君の名前を呼ぶ声が聞こえる\u2060\\Nから夜空に輝く星のように"
    )


def test_ttml_is_well_formed_and_times_each_word() -> None:
    assert render(golden(), Format.TTML) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata" '
        'xmlns:tts="http://www.w3.org/ns/ttml#styling" xmlns:itunes="http://music.apple.com/lyric-ttml-internal" '
        'itunes:timing="Word" xml:lang="en">\n'
        "  <head>\n    <metadata>\n"
        "      <ttm:title>A Title</ttm:title>\n"
        '      <ttm:agent type="other" xml:id="v1"><ttm:name type="full">An Artist</ttm:name></ttm:agent>\n'
        "    </metadata>\n  </head>\n"
        '  <body dur="01:06:40.000">\n    <div>\n'
        '      <p begin="00:00:01.000" end="00:00:02.500" itunes:key="L1">'
        '<span begin="00:00:01.000" end="00:00:01.500">Hello</span> '
        '<span begin="00:00:01.750" end="00:00:02.500">&lt;world&gt;</span></p>\n'
        '      <p begin="01:01:01.200" end="01:01:02.000" itunes:key="L2">'
        '<span begin="01:01:01.200" end="01:01:01.500">君</span>'
        '<span begin="01:01:01.500" end="01:01:02.000">の</span></p>\n'
        "    </div>\n  </body>\n</tt>\n"
    )


def test_ttml_says_which_lines_run_from_the_right() -> None:
    rows = render(Song((sung("you", "שלום"), sung("(שלום", "you)", start=4.0))), Format.TTML).splitlines()
    latin, hebrew = (row for row in rows if "<p " in row)
    assert "rtl" not in latin
    assert ' tts:direction="rtl" tts:unicodeBidi="embed"><span' in hebrew


def test_txt_is_the_lines_and_nothing_else() -> None:
    assert render(golden(), Format.TXT) == "Hello <world>\n君の\n"


def test_lrc_minutes_run_on_beyond_a_hundred() -> None:
    text = render(Song((sung("far", start=7265.5),), duration=7300.0), Format.LRC)
    assert "[121:05.50]far" in text
    assert read(text, Format.LRC).lines[0].start == 7265.5
