"""The maker of songs with known words. What needs voices or a band of Debian's is left out where they are not."""

from __future__ import annotations

import ctypes
import json
import shutil
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import words
from benchmarks.score import read, score
from benchmarks.songs import lyrics, mixing
from benchmarks.songs.backing import STYLES
from benchmarks.songs.catalogue import SETS, Manner, Plan
from benchmarks.songs.known import BACKING, jamendo, made
from benchmarks.songs.melody import PROGRESSIONS, SCALES, Key, sung
from benchmarks.songs.singing import Note, placed
from benchmarks.songs.song import make, perform
from benchmarks.songs.voices import Missing, Phone, speak
from tests.running import DEMO


def has_espeak() -> bool:
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not has_espeak(), reason="espeak-ng is not installed")
needs_all = pytest.mark.skipif(
    not (has_espeak() and shutil.which("fluidsynth") and find_spec("pyworld")),
    reason="espeak-ng, fluidsynth or pyworld is not installed",
)
VOICE = "espeak:es+f3"
TINY = Plan("tiny", "es-tiny", (VOICE,), "folk", 120, intro=1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """A song of two lines."""
    monkeypatch.setattr(lyrics, "FOLDER", tmp_path)
    (tmp_path / "es-tiny.txt").write_text("[verse]\nLuna de sal,\nguarda mi voz.\n", encoding="utf-8")
    return TINY


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [plan for plans in SETS.values() for plan in plans], ids=lambda plan: plan.name)
def test_every_planned_song_can_be_sung(plan: Plan) -> None:
    assert plan.style in STYLES
    assert plan.mode in SCALES
    if plan.manner is not Manner.PLAY:
        sections = lyrics.read(plan.lyrics)
        assert {section.name for section in sections} == {"verse", "chorus", "interlude"}
        assert all(len(line.words) == len(line.said) for section in sections for line in section.lines)
        assert plan.voices


def test_no_song_is_tuned_on_and_asked_at_the_end() -> None:
    dev, held = ({plan.lyrics for plan in SETS[name] if plan.lyrics} for name in ("dev", "held"))
    assert not dev & held


def test_a_chorus_is_sung_again_as_it_was() -> None:
    first, again = (section for section in lyrics.read("en-paper-boats") if section.name == "chorus")
    assert first == again != ()


def test_a_line_may_be_said_otherwise_than_it_is_shown() -> None:
    line = lyrics.read("zh-deng-ni")[0].lines[0]
    assert (line.text, line.words[0], line.said[0]) == ("我在海边等你", "我", "wo3")


# --- notes ------------------------------------------------------------------------------------


@given(words=st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_words_are_sung_in_order_and_vowels_on_their_notes(words: list[list[bool]], seed: int) -> None:
    """Each word is a list of sounds, True for a vowel; the line has one at least."""
    chance = np.random.default_rng(seed)
    kinds = [(nth, vowel) for nth, word in enumerate([*words, [True]]) for vowel in word]
    edges = np.cumsum([0.0, *chance.uniform(0.02, 0.3, len(kinds))])
    phones = [Phone(a, b, word, vowel) for (a, b), (word, vowel) in zip(pairwise(edges), kinds, strict=True)]
    starts = np.cumsum([5.0, *chance.uniform(0.1, 1.5, sum(vowel for _, vowel in kinds))])
    knots, times = placed(phones, [Note(float(a), float(b), 60) for a, b in pairwise(starts)])
    assert len(times) == len(words) + 1
    assert all(start < end for start, end in times)
    assert all(a[1] == pytest.approx(b[0]) for a, b in pairwise(times))
    assert times[-1][1] == pytest.approx(starts[-1])
    assert all(a[0] <= b[0] + 1e-9 and a[1] <= b[1] + 1e-9 for a, b in pairwise(knots))


@given(seed=st.integers(0, 999), lowest=st.integers(40, 65), mode=st.sampled_from(list(SCALES)))
def test_a_melody_fills_its_time_within_a_voice(seed: int, lowest: int, mode: str) -> None:
    words, syllables = ("Luna", "de", "sal,", "no", "te", "vayas"), (0, 0, 1, 2, 3, 4, 5, 5)
    key = Key(60, mode, PROGRESSIONS[mode][0])
    notes = sung(words, syllables, key, 4, 2, 4.0, lowest, np.random.default_rng(seed))
    assert len(notes) == len(syllables)
    assert notes[0].start == 0
    assert notes[-1].end == pytest.approx(4.0)
    assert all(a.end == b.start and a.start < a.end for a, b in pairwise(notes))
    assert all(lowest - 4 <= note.pitch <= lowest + 16 for note in notes)


# --- sound ------------------------------------------------------------------------------------


@needs_espeak
@pytest.mark.parametrize(
    ("voice", "line"),
    [
        ("espeak:en-us+m3", "I walk out of the door in the rain, on a cold-hearted day."),  # drawn together
        ("espeak:fr", "C'est l'été qui s'en va, je t'aime."),
        (VOICE, "La noche cae despacio sobre el mar,"),
    ],
)
def test_a_voice_sounds_each_word_in_its_order(voice: str, line: str) -> None:
    words = line.split()
    said = speak(words, voice)
    assert list(dict.fromkeys(phone.word for phone in said.phones)) == list(range(len(words)))
    assert all(a.start < a.end <= b.start + 1e-6 for a, b in pairwise(said.phones))
    assert any(phone.vowel for phone in said.phones if phone.word == 0)
    assert said.phones[-1].end <= len(said.values) / said.rate


@needs_espeak
def test_a_voice_that_is_not_there_names_its_package() -> None:
    with pytest.raises(Missing, match="apt-get install"):
        speak(["la"], "espeak:nobody")


def test_a_shout_over_a_mix_stays_within_bounds() -> None:
    voice = 0.5 * np.sin(np.arange(mixing.RATE) * 0.05)
    backing = np.stack([voice, -voice], axis=1) * 1.9
    assert np.abs(mixing.mixed(voice, backing, 0.0)).max() <= mixing.PEAK + 1e-9


@needs_all
def test_the_truth_lies_within_the_song_and_in_order(tiny: Plan, tmp_path: Path) -> None:
    truth = read(make(tiny, tmp_path / "out"))
    assert [word.text for word in truth.words] == ["Luna", "de", "sal,", "guarda", "mi", "voz."]
    assert score(truth, truth).figures()["senseless"] == 0
    assert [line.text for line in truth.lines] == ["Luna de sal,", "guarda mi voz."]
    assert truth.duration == (1 + 2 * 2 + 2) * 2.0
    songs = list(made(tmp_path / "out", ("vocals", "mix0", BACKING)))
    assert [song.part for song in songs] == ["vocals", "mix0", BACKING]
    assert songs[-1].truth.words == ()


@needs_all
def test_the_same_seed_makes_the_same_song(tiny: Plan) -> None:
    first, again, other = perform(tiny, 1), perform(tiny, 1), perform(tiny, 2)
    assert first.words == again.words != other.words
    assert all(np.array_equal(a.sung.values, b.sung.values) for a, b in zip(first.lines, again.lines, strict=True))


# --- the page -----------------------------------------------------------------------------------


def test_the_table_stands_between_its_marks_and_nothing_else_is_touched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = words.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(words, "PAGE", tmp_path / "quality.md")
    words.PAGE.write_text(before, encoding="utf-8")
    for figure in ("0.1", "0.2"):
        words.write([["vocals", "yt-lyrics", figure]], "One song.")
    after = words.PAGE.read_text(encoding="utf-8")
    assert "| vocals | yt-lyrics | 0.2 |" in after
    assert "| vocals | yt-lyrics | 0.1 |" not in after
    assert after.partition(words.BEGIN)[0] == before.partition(words.BEGIN)[0] != before
    assert after.partition(words.END)[2] == before.partition(words.END)[2] != ""


# --- songs of others --------------------------------------------------------------------------


def test_jamendolyrics_is_read_as_it_is_published(tmp_path: Path) -> None:
    for folder in ("mp3", "lyrics", "annotations/words"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "JamendoLyrics.csv").write_text(
        "URL,Filepath,Artist,Title,Genre,LicenseType,Language,LyricOverlap,Polyphonic,NonLexical\n"
        "https://x,One_-_Song.mp3,One,Song,Pop,BY,Spanish,false,false,false\n"
        "https://x,Not_-_Here.mp3,Not,Here,Pop,BY,English,false,false,false\n"
    )
    shutil.copy(DEMO / "harbor-light.mix.opus", tmp_path / "mp3" / "One_-_Song.mp3")
    (tmp_path / "lyrics" / "One_-_Song.words.txt").write_text("luna\nde\nsal\nno\n")
    (tmp_path / "annotations" / "words" / "One_-_Song.csv").write_text(
        "word_start,word_end,line_end\n8.0,8.5,nan\n8.5,9.0,9.0\n9.5,10.0,nan\n20.0,21.0,21.0\n"
    )
    (song,) = jamendo(tmp_path)
    assert (song.name, song.truth.language) == ("One_-_Song", "es")
    assert [(line.text, line.start, line.end) for line in song.truth.lines] == [("luna de", 8, 9), ("sal no", 9.5, 21)]
    duration = json.loads((DEMO / "harbor-light.json").read_text())["duration"]
    assert song.truth.duration == pytest.approx(duration, abs=0.1)
    assert song.truth.instrumental == ((0, 8), (10, 20), (21, song.truth.duration))
