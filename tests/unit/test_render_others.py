"""Lyrics and subtitles as other programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.export import BROKEN
from infra.jobs.request import Format
from tasks.render import NO_TIMES, WORDS_SPREAD, Unreadable, read, render, tidy
from tasks.song import Song


def texts(song: Song) -> list[str]:
    return [line.text for line in song.lines]


def lines(song: Song) -> list[tuple[str, float, float]]:
    return [(line.text, line.start, line.end) for line in song.lines]


def words(song: Song) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in song.words]


# --- SRT ----------------------------------------------------------------------------------------


def test_words_read_from_srt_share_their_lines_time_and_the_song_says_so() -> None:
    song = read("1\n00:00:01,000 --> 00:00:02,000\n<i>ab cd</i>\nefgh\n", Format.SRT)
    assert words(song) == [("ab", 1.0, 1.25), ("cd", 1.25, 1.5), ("efgh", 1.5, 2.0)]
    assert song.notes == (WORDS_SPREAD,)


def test_a_line_without_spaces_is_spread_over_its_characters() -> None:
    [line] = read("1\n00:00:01,000 --> 00:00:04,000\n「君の、名」\n", Format.SRT).lines
    assert [word.text for word in line.words] == ["「君", "の、", "名」"]
    assert (line.text, line.joiner) == ("「君の、名」", "")


def test_srt_without_numbers_blank_rows_or_a_last_line_break_is_read() -> None:
    first = "00:00:01.5 --> 00:00:02,000  X1:0 X2:9\n{\\an8}<font color=red>one</font>\n"
    text = f"{first}2\n100:00:03,000 --> 100:00:04,000\n2"
    assert lines(read(text, Format.SRT)) == [("one", 1.5, 2.0), ("2", 360003.0, 360004.0)]


def test_a_blank_row_inside_a_text_of_srt_does_not_end_it() -> None:
    song = read("1\n00:00:01,000 --> 00:00:02,000\none\n \ntwo\n\n\n2\n00:00:03,000 --> 00:00:04,000\n\n", Format.SRT)
    assert texts(song) == ["one two"]


# --- VTT ----------------------------------------------------------------------------------------


def test_youtubes_captions_are_read_with_their_first_word_untagged() -> None:
    text = (
        "WEBVTT\nKind: captions\n\nNOTE hello\n\nid\n00:01.000 --> 00:03.000 align:start\n"
        "one<00:00:01.500><c> two</c><00:00:02.000><c.red> three</c>\n"
    )
    song = read(text, Format.VTT)
    assert words(song) == [("one", 1, 1.5), ("two", 1.5, 2), ("three", 2, 3)]
    assert texts(song) == ["one two three"]


def test_youtubes_rolling_captions_are_read_once() -> None:
    where = " align:start position:0%\n"
    text = (
        f"WEBVTT\n\n00:00:01.000 --> 00:00:02.000{where} \nla<00:00:01.500><c> la</c>\n\n"
        f"00:00:02.000 --> 00:00:02.010{where}la la\n \n\n"
        f"00:00:02.010 --> 00:00:03.000{where}la la\nla<00:00:02.500><c> la</c>\n\n"
        f"00:00:03.000 --> 00:00:03.010{where}la la\n \n\n"
    )
    assert lines(read(text, Format.VTT)) == [("la la", 1.0, 2.0), ("la la", 2.01, 3.0)]


def test_a_chorus_that_no_caption_rolls_is_kept() -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\nla la\n\n00:02.000 --> 00:03.000\nla la\nla la\n"
    assert texts(read(text, Format.VTT)) == ["la la", "la la la la"]


def test_notes_styles_regions_and_voices_of_vtt_are_no_words() -> None:
    text = (
        "WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:fred\n\nNOTE\n00:01.000 --> 00:02.000\nno\n\n"
        "verse 1\n00:01.000 --> 00:02.000 line:0 size:50%\n<v.loud Ann>Fish &amp; <b>chips</b></v>\n\n"
        "00:03.000 --> 00:04.000\n<ruby>漢<rt>かん</rt></ruby>字\n"
    )
    assert texts(read(text, Format.VTT)) == ["Fish & chips", "漢字"]


# --- LRC ----------------------------------------------------------------------------------------


def test_an_lrc_line_at_several_times_is_read_at_each() -> None:
    song = read("[ar: Someone ]\n[00:10.00][00:02.5]again\n[00:04.00]once\n[00:12.00]\n", Format.LRC)
    assert lines(song) == [("again", 2.5, 4.0), ("once", 4.0, 10.0), ("again", 10.0, 12.0)]
    assert song.artist == "Someone"


@pytest.mark.parametrize(("offset", "start"), [("+250", 1.75), ("-500", 2.5), ("9000", 0.0), ("x", 2.0)])
def test_an_offset_of_lrc_makes_it_sooner_by_milliseconds(offset: str, start: float) -> None:
    [line] = read(f"[offset:{offset}]\n[00:02.000]<00:02.000>one <00:02.500>two<00:03.000>", Format.ELRC).lines
    assert line.start == start


def test_words_of_a_repeated_lrc_line_move_with_it() -> None:
    song = read("[00:20.00][00:01.00] <00:01.00> one <00:01.50> two <00:02.00>\n[00:30]\n", Format.LRC)
    assert words(song) == [("one", 1.0, 1.5), ("two", 1.5, 2.0), ("one", 20.0, 20.5), ("two", 20.5, 21.0)]


def test_word_times_of_lrc_may_stand_in_brackets_and_syllables_are_one_word() -> None:
    song = read("[ti:x]\n[00:01.00]hel[00:01.25]lo [00:01.50]you[00:02.00]\n", Format.LRC)
    assert words(song) == [("hello", 1.0, 1.5), ("you", 1.5, 2.0)]


def test_the_last_line_of_lrc_lasts_a_while_but_not_beyond_the_song() -> None:
    assert lines(read("[00:01:50]one", Format.LRC)) == [("one", 1.5, 5.5)]
    assert lines(read("[length: 00:03]\n[00:01.50]one", Format.LRC)) == [("one", 1.5, 3.0)]


def test_a_translation_at_the_same_time_stands_as_long_as_its_line() -> None:
    assert lines(read("[00:01.00]uno\n[00:01.00]one\n[00:02.00]\n", Format.LRC)) == [("uno", 1, 2), ("one", 1, 2)]


# --- ASS ----------------------------------------------------------------------------------------

DIALOGUE = "Dialogue: 0,0:00:01.00,0:00:03.00,Default,,0,0,0,,"


def test_ass_of_other_programs_is_read_without_its_tags() -> None:
    song = read(rf"{DIALOGUE}{{\pos(1,2)}}{{\k50}}one{{\i1}} {{\c&H0&\K50}}two\Nthree", Format.ASS)
    assert words(song) == [("one", 1.0, 1.5), ("two three", 1.5, 2.0)]
    plain = read(rf"{DIALOGUE}{{\i1}}no, times\Nhere", Format.ASS)
    assert (texts(plain), plain.notes) == (["no, times here"], (WORDS_SPREAD,))


@pytest.mark.parametrize("tag", ["k", "kf", "ko", "K"])
def test_syllables_of_karaoke_are_one_word(tag: str) -> None:
    song = read(rf"{DIALOGUE}{{\{tag}20}}hel{{\{tag}30}}lo{{\{tag}10}} {{\{tag}40}}you", Format.ASS)
    assert words(song) == [("hello", 1.0, 1.5), ("you", 1.6, 2.0)]


def test_ass_events_are_read_by_their_format_in_the_order_of_their_times() -> None:
    text = (
        "[V4+ Styles]\nFormat: Name, Fontname\nStyle: Top,Arial\n[Events]\nFormat: Start, End, Style, Effect, Text\n"
        "Dialogue: 0:00:05.00,0:00:06.00,Top,,later\n"
        "Comment: 0:00:00.00,0:00:09.00,Top,,not sung\n"
        "Dialogue: 0:00:01.00,0:00:02.00,Default,,sooner, {a note}with a comma\n"
        "Dialogue: 0:00:02.00,0:00:02.50,Default,,{\\p1}m 0 0 l 9 9{\\p0}{\\pos(1,2)}drawn\n"
        "Dialogue: broken\n"
    )
    assert texts(read(text, Format.ASS)) == ["sooner, with a comma", "drawn", "later"]


def test_karaoke_that_aegisub_made_effects_of_is_read_from_its_comment() -> None:
    text = (
        r"Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,karaoke,{\k50}one {\k50}two" + "\n"
        r"Comment: 0,0:00:00.00,0:00:00.00,Default,,0,0,0,template syl,{\fad(1,2)}" + "\n"
        r"Dialogue: 0,0:00:01.00,0:00:01.50,Default,,0,0,0,fx,{\t(1,2)}one" + "\n"
    )
    assert texts(read(text, Format.ASS)) == ["one two"]


# --- TTML ---------------------------------------------------------------------------------------


def ttml(body: str, attributes: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-16"?><tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en-US" '
        'xmlns:tts="http://www.w3.org/ns/ttml#styling" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" '
        f'xmlns:ttm="http://www.w3.org/ns/ttml#metadata" {attributes}>'
        f"<head><metadata><ttm:title> A\n Title </ttm:title></metadata><styling/></head>{body}</tt>"
    )


@pytest.mark.parametrize(
    ("time", "attributes", "seconds"),
    [
        ("00:00:02.5", "", 2.5),
        ("00:00:02:12", 'ttp:frameRate="24"', 2.5),
        ("00:00:02:15", "", 2.5),
        ("48f", 'ttp:frameRate="24" ttp:frameRateMultiplier="1000 1001"', 2.002),
        ("25000000t", 'ttp:tickRate="10000000"', 2.5),
        ("2.5s", "", 2.5),
        ("2500ms", "", 2.5),
        ("0.1m", "", 6.0),
        ("1h", "", 3600.0),
        ("1:02.5", "", 62.5),
        ("2.5", "", 2.5),
    ],
)
def test_times_of_ttml_are_read_in_every_way_they_are_written(time: str, attributes: str, seconds: float) -> None:
    song = read(ttml(f'<body><div><p begin="{time}" dur="2s">one two</p></div></body>', attributes), Format.TTML)
    assert lines(song) == [("one two", seconds, seconds + 2)]
    assert (song.title, song.language, song.notes) == ("A Title", "en", (WORDS_SPREAD,))


def test_spans_of_ttml_count_from_their_paragraph_as_the_w3c_has_it() -> None:
    line = '<p begin="8s" end="12s"><span begin="0s" end="1s">one</span> two</p>'
    assert words(read(ttml(f'<body begin="1s"><div begin="1s">{line}</div></body>'), Format.TTML)) == [
        ("one", 10.0, 11.0),
        ("two", 11.0, 14.0),
    ]


@pytest.mark.parametrize("declared", ['xmlns:i="http://music.apple.com/lyric-ttml-internal" i:timing="Word"', ""])
def test_spans_of_ttml_count_from_the_songs_begin_where_they_must(declared: str) -> None:
    body = (
        '<body dur="1:00"><div begin="8.0" end="12.0"><p begin="8.0" end="12.0">'
        '<span begin="8.0" end="8.5">one</span>\n'
        '<span begin="9" end="10">tw</span><span begin="10" end="11">o</span></p></div></body>'
    )
    song = read(ttml(body, declared), Format.TTML)
    assert words(song) == [("one", 8.0, 8.5), ("two", 9.0, 11.0)]
    assert song.duration == 60.0


def test_what_ttml_says_beside_the_words_is_not_sung() -> None:
    body = (
        '<body><div><p begin="1s" end="3s"><metadata><ttm:desc>no</ttm:desc></metadata><span tts:color="red">one</span>'
        '<br/>two<span ttm:role="x-translation">no</span> <span tts:ruby="container"><span tts:ruby="base">漢</span>'
        '<span tts:ruby="text">no</span></span></p><p begin="5s">last</p></div></body>'
    )
    assert lines(read(ttml(body), Format.TTML)) == [("one two 漢", 1.0, 3.0), ("last", 5.0, 9.0)]


def test_a_ttml_without_times_says_so() -> None:
    song = read(ttml("<body><div><p>one</p><p>two</p></div></body>"), Format.TTML)
    assert (texts(song), song.notes) == (["one", "two"], (NO_TIMES,))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE tt [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><tt>&b;</tt>', "document type"),
        ('<!DOCTYPE tt SYSTEM "file:///etc/passwd"><tt/>', "document type"),
        ("<tt>", "no XML"),
        ("<tt>&lol;</tt>", "no XML"),
        ('<tt><body><p begin="soon">x</p></body></tt>', '"soon" is not a time'),
    ],
)
def test_ttml_that_is_dangerous_or_broken_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(text, Format.TTML)


# --- anything -----------------------------------------------------------------------------------

FRAGMENTS = [
    "\n", "\n\n", " ", "1", "one", "君", "שיר", "[00:01.00]", "[0:1:2]", "<00:01.50>", "[offset:-9]", "[ti:x]",
    "{\\k5}", "{\\p1}", "{", "}", "\\N", "00:00:01,000 --> 00:00:02,000", "9:9 --> 0:0", "-->", "WEBVTT", "NOTE",
    "<v A>", "<rt>", "Format: Text, Start", "Format: Start, End, Text", "Dialogue:",
    "Dialogue: 0,0:00:01.00,0:00:03.00,D,,0,0,0,,", "Comment: 0,0:00:01.00,0:00:03.00,D,,0,0,0,karaoke,",
    "<tt>", "</tt>", "<body>", "</body>", "</p>", "</span>", '<p begin="1s" end="2s">', "<p>", '<span begin="9">',
    "<br/>", '{"words": [', '{"lines": [', "]}", "null", '"word"',
]  # fmt: skip


@pytest.mark.parametrize("fmt", Format)
@given(fragments=st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=12))
@settings(max_examples=100, deadline=None)
def test_whatever_stands_in_a_file_is_a_song_or_an_error_that_export_knows(fmt: Format, fragments: list[str]) -> None:
    try:
        song = read("".join(fragments), fmt)
    except BROKEN:
        return
    assert texts(read(render(song, Format.JSON), Format.JSON)) == texts(tidy(song))


@pytest.mark.parametrize("fmt", [Format.SRT, Format.VTT, Format.LRC, Format.ASS])
@pytest.mark.parametrize("text", ["<a", "<rt>", "{\\k1", "{\\p1", "\\", "[ti: ", "<0:1", "la ", "1", "\u2060<"])
def test_a_text_without_an_end_takes_no_longer_than_its_length(fmt: Format, text: str) -> None:
    cue = {
        Format.SRT: "1\n00:00:01,000 --> 00:00:02,000\n",
        Format.VTT: "WEBVTT\n\n00:01.000 --> 00:02.000\n",
        Format.LRC: "[00:01.00]",
        Format.ASS: DIALOGUE,
    }
    read(cue[fmt] + text * 100_000, fmt)  # a quadratic reader would run into the test's time limit
