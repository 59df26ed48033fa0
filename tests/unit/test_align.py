"""Words in time: by a small model that is in the repository, by no model at all, and whatever a model hears."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.settings import settings
from tasks import align as aligning
from tasks import models
from tasks.align import align, emission, viterbi
from tasks.align.emission import Emission
from tasks.align.words import letters, settled, split, spread
from tasks.audio import RATE, Samples, decode
from tasks.models import nobody
from tasks.render import WORDS_SPREAD
from tasks.song import Word
from tasks.transcribe import Heard, Segment
from tasks.voice import Span
from tests.running import DEMO, ROOT
from tests.score import TRUTH

TINY = ROOT / "tests" / "checkpoints" / "tinyctc"
LINES = [Segment(line["text"], line["start"], line["end"]) for line in TRUTH["lines"]]
TEXT = " ".join(line.text for line in LINES)

with_whisperx = pytest.mark.skipif(find_spec("whisperx") is None, reason="the extra `gpu` is not installed")


@pytest.fixture(autouse=True)
def repo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setenv("YT_LYRICS_DATA", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("ALIGN_REPO", str(TINY))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="module")
def vocals() -> Samples:
    return decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)


@pytest.fixture(scope="module")
def verse(vocals: Samples) -> Samples:
    """The first three lines: 22 s, two pieces for the model."""
    return Samples(vocals.values[: 22 * RATE])


VERSE = LINES[:3]


def heard(*segments: Segment, language: str | None = "en") -> Heard:
    return Heard(segments, language)


def texts(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def errors(found: Heard) -> np.ndarray:
    """How many seconds each word begins beside the truth."""
    assert texts(found.words) == TEXT.split()[: len(found.words)]
    return np.abs([word.start - true["start"] for word, true in zip(found.words, TRUTH["words"], strict=False)])


def check(words: Sequence[Word], duration: float) -> None:
    """What holds for the words of every song."""
    for word in words:
        assert 0.0 <= word.start < word.end <= duration
        assert 0.0 <= word.confidence <= 1.0
    for one, after in pairwise(words):
        assert one.end <= after.start


# --- by a model --------------------------------------------------------------------------------


@with_whisperx
def test_the_words_of_each_line_are_found(vocals: Samples) -> None:
    found, notes = align(vocals, heard(*LINES), nobody)
    beside = errors(found)
    assert beside.mean() < 0.15
    assert np.median(beside) < 0.05
    assert (beside < 0.3).mean() > 0.87
    assert [segment.text for segment in found.segments] == [line.text for line in LINES]
    assert notes == ()
    check(found.words, vocals.duration)


@with_whisperx
@pytest.mark.parametrize(
    "segments",
    [[Segment(TEXT, 0.0, TRUTH["duration"])], [Segment(line.text, 0.0, 0.0) for line in LINES]],
    ids=["one segment", "lines without times"],
)
def test_a_whole_song_without_times_finds_its_words(vocals: Samples, segments: list[Segment]) -> None:
    found, notes = align(vocals, heard(*segments), nobody)
    beside = errors(found)
    assert np.median(beside) < 0.06
    assert (beside < 0.3).mean() > 0.85
    assert notes == ()
    check(found.words, vocals.duration)


@with_whisperx
def test_lines_whose_times_are_off_by_half_a_second_find_their_words_all_the_same(verse: Samples) -> None:
    shifts = itertools.cycle((-0.5, 0.4, 0.5, -0.3))
    shifted = [Segment(line.text, line.start + next(shifts), line.end + next(shifts)) for line in VERSE]
    assert (errors(align(verse, heard(*shifted), nobody)[0]) < 0.3).mean() > 0.85


@with_whisperx
def test_words_as_they_are_written_all_get_times(verse: Samples) -> None:
    written = "In 1999 the HARBOR light’s — I'll say 'don't' café-window ♪ 好 burning low"
    found, notes = align(verse, heard(Segment(written, 8.5, 12.3)), nobody)
    assert texts(found.words) == written.split()
    assert notes == ()
    check(found.words, verse.duration)
    assert all(8.0 <= word.start < word.end <= 12.8 for word in found.words)
    digits, dash = found.words[1], found.words[5]
    assert digits.end - digits.start > 0.02
    assert dash.start >= found.words[4].start


@with_whisperx
def test_words_that_have_times_can_be_aligned_again(verse: Samples) -> None:
    timed = [
        Segment(line.text, line.start, line.end, tuple(Word(text, line.start, line.end) for text in line.text.split()))
        for line in VERSE
    ]
    assert (errors(align(verse, heard(*timed), nobody)[0]) < 0.3).mean() > 0.87


@with_whisperx
def test_progress_moves_forward_and_a_cancel_passes_through(verse: Samples) -> None:
    class Cancelled(Exception): ...

    told: list[tuple[float, str]] = []

    def report(share: float, message: str, *, step: bool = False) -> None:
        told.append((share, message))

    def cancel(share: float, message: str, *, step: bool = False) -> None:
        if share > 0.2:
            raise Cancelled

    align(verse, heard(*VERSE), report)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert "Timing the words: 0:18 of 0:22" in {message for _, message in told}
    with pytest.raises(Cancelled):
        align(verse, heard(*VERSE), cancel)


@with_whisperx
def test_a_gpu_without_room_leaves_the_words_to_the_cpu(verse: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    real, steps = emission._load, list[str]()

    def load(folder: Path, on: str) -> emission.Aligner:
        if on == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(folder, on)

    def report(share: float, message: str, *, step: bool = False) -> None:
        if step:
            steps.append(message)

    monkeypatch.setattr(models, "torch_device", lambda wanted: "cuda")
    monkeypatch.setattr(emission, "_load", load)
    found, notes = align(verse, heard(*VERSE), report)
    assert steps == ["The GPU has no memory left: the words are timed on the CPU"]
    assert (errors(found) < 0.3).mean() > 0.87
    assert notes == ()


# --- without one -------------------------------------------------------------------------------


def spread_with(samples: Samples, language: str | None = "en") -> str:
    """Aligns the lines where no model can; the note that says why."""
    steps: list[str] = []

    def report(share: float, message: str, *, step: bool = False) -> None:
        if step:
            steps.append(message)

    found, notes = align(samples, heard(*LINES, language=language), report)
    assert steps == list(notes)
    assert errors(found).mean() < 0.5
    assert {word.confidence for word in found.words} == {aligning.UNSURE}
    check(found.words, samples.duration)
    return notes[0]


@with_whisperx
@pytest.mark.parametrize("language", ["xx", None])
def test_a_language_without_a_model_has_its_words_spread(
    vocals: Samples, monkeypatch: pytest.MonkeyPatch, language: str | None
) -> None:
    monkeypatch.delenv("ALIGN_REPO")
    settings.cache_clear()
    named = language or "unknown"
    assert spread_with(vocals, language) == (f'There is no alignment model for the language "{named}"; {WORDS_SPREAD}.')


@with_whisperx
def test_a_hub_that_is_away_leaves_the_words_spread(vocals: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGN_REPO")
    settings.cache_clear()
    assert spread_with(vocals) == (
        'The weights of "align-en" are not on this machine and could not be downloaded: '
        f"127.0.0.1 does not answer; {WORDS_SPREAD}."
    )


def test_without_the_packages_the_words_are_spread(vocals: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aligning, "find_spec", lambda name: None)
    assert spread_with(vocals) == f"Alignment needs packages that are not installed here; {WORDS_SPREAD}."


@with_whisperx
def test_a_model_that_fails_leaves_the_words_spread_and_the_terminal_quiet(
    vocals: Samples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("ALIGN_REPO", str(tmp_path))
    settings.cache_clear()
    assert spread_with(vocals) == f"The alignment model {tmp_path.name} failed; {WORDS_SPREAD}."
    assert capfd.readouterr().out == ""


@with_whisperx
def test_words_that_have_times_keep_them_where_no_model_can_be_had(
    vocals: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligning, "find_spec", lambda name: None)
    timed = heard(Segment("The harbor", 8.5, 9.5, (Word("The", 8.5, 8.7, 0.4), Word("harbor", 8.7, 9.5, 0.6))))
    found, notes = align(vocals, timed, nobody)
    assert found == timed
    assert notes == (
        "Alignment needs packages that are not installed here; the words keep the times at which they were heard.",
    )


def test_an_engine_that_heard_nothing_leaves_nothing(vocals: Samples) -> None:
    assert align(vocals, heard(), nobody) == (heard(), ())


# --- whatever a model hears --------------------------------------------------------------------

ANYTIME = st.floats(-5.0, 12.0) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e9])
SUNG = st.text("ab'é9好—- XYZ\n", min_size=0, max_size=30)
SEGMENTS = st.lists(st.builds(Segment, SUNG, ANYTIME, ANYTIME), max_size=5)
NOISE = Samples(np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32))


@given(SEGMENTS, st.integers(0, 2**32 - 1), st.floats(0.1, 20.0), st.sampled_from(["en", "ja"]))
@example([Segment("9", 0.0, math.inf), Segment("9", 0.0, 0.0)], 0, 1.0, "en")
def test_every_word_leaves_with_times_in_order_whatever_was_heard(
    segments: list[Segment], seed: int, sure: float, language: str
) -> None:
    known = "ab'"
    logits = np.random.default_rng(seed).normal(0, sure, (300, len(known) + 2))
    logs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    columns: dict[str | None, int] = {letter: place for place, letter in enumerate(known, 1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligning, "_folder", lambda language, report: TINY)
        patch.setattr(aligning, "_listened", lambda *_: Emission(logs, {**columns, None: len(known) + 1}))
        found, _ = align(NOISE, Heard(tuple(segments), language), nobody)
    assert texts(found.words) == [text for segment in segments for text in split(segment.text, language)]
    assert found.timed
    check(found.words, NOISE.duration)


@st.composite
def lattices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Some frames, letters, and rising bounds for each."""
    frames, count = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    logs = np.array(
        draw(st.lists(st.lists(st.floats(-9, 0), min_size=4, max_size=4), min_size=frames, max_size=frames))
    )
    letters = np.array(draw(st.lists(st.integers(1, 3), min_size=count, max_size=count)))
    firsts = np.sort(draw(st.lists(st.integers(0, frames), min_size=count, max_size=count)))
    lasts = np.sort(draw(st.lists(st.integers(0, frames), min_size=count, max_size=count)))
    return logs, letters, firsts, lasts


def ways(frames: int, letters: np.ndarray, firsts: np.ndarray, lasts: np.ndarray) -> list[tuple[int, ...]]:
    """Every way through, by trying them all: for each frame the letter's number, or -1 for none."""
    found: list[tuple[int, ...]] = []
    for way in itertools.product(range(-1, len(letters)), repeat=frames):
        runs = [number for number, _ in itertools.groupby(way)]
        blank_between = all(
            letters[a] != letters[b] for a, b in pairwise(runs) if a >= 0 and b >= 0
        )  # the same letter twice is one, unless there is nothing between
        inside = all(number < 0 or firsts[number] <= frame < lasts[number] for frame, number in enumerate(way))
        if inside and blank_between and [number for number in runs if number >= 0] == [*range(len(letters))]:
            found.append(way)
    return found


@given(lattices(), st.integers(1, 8))
def test_the_way_is_the_best_of_all(lattice: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], block: int) -> None:
    logs, letters, firsts, lasts = lattice
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viterbi, "BLOCK", block)
        path = viterbi._path(viterbi._lattice(logs, letters, firsts, lasts), len(logs), lambda: None)
        found = viterbi.align(logs, letters, firsts, lasts)

    def score(way: Sequence[int]) -> float:
        return sum(logs[frame, 0 if number < 0 else letters[number]] for frame, number in enumerate(way))

    every = ways(len(logs), letters, firsts, lasts)
    if path is None or found is None:
        assert not every
        return
    taken = [state // 2 if state % 2 else -1 for state in path]
    assert score(taken) == pytest.approx(max(map(score, every)))
    assert tuple(taken) in every
    assert (found.begins < found.ends).all()
    assert (found.begins >= firsts).all()
    assert (found.ends <= lasts).all()


@given(st.integers(1, 10_000))
def test_the_pieces_that_a_model_hears_cover_the_song_once(frames: int) -> None:
    length = min(emission.PIECE, frames)
    places = list(emission._places(frames, length))
    covered = [frame for _, kept in places for frame in kept]
    assert covered == [*range(frames)]
    for begin, kept in places:
        assert 0 <= begin <= kept.start < kept.stop <= begin + length <= frames


# --- words and letters -------------------------------------------------------------------------


def test_scripts_without_spaces_have_a_word_for_each_character_with_its_signs() -> None:
    assert split("「君の名は」、I'll 2x！", "ja") == ("「君", "の", "名", "は」、", "I'll", "2x！")
    assert split(" never  mind — ", "en") == ("never", "mind", "—")


def test_letters_that_the_model_does_not_know_are_any_letter() -> None:
    known = dict.fromkeys("abcdefghijklmnopqrstuvwxyz'|", 1)
    assert letters("I’ll", known) == ["i", "'", "l", "l"]
    assert letters("Café", known) == ["c", "a", "f", "e"]
    assert letters("R2-D2!", known) == ["r", None, "d", None]
    assert letters("'好'", known) == [None]
    assert letters("|—…", known) == []


@given(
    st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=9),
    st.floats(0, 50),
    st.floats(0.1, 50),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 9)), max_size=4),
)
def test_spread_words_lie_in_the_phrases_of_their_line(
    words: list[str], start: float, length: float, sung: list[tuple[float, float]]
) -> None:
    end, phrases, at = start + length, list[Span](), 0.0
    for gap, lasting in sung:
        phrases.append(Span(at + gap, at + gap + lasting))
        at += gap + lasting
    times = spread(words, start, end, phrases)
    inside = [phrase for phrase in phrases if phrase.start < end and start < phrase.end] or [Span(start, end)]
    for one, after in times:
        assert start - 1e-6 <= one <= after <= end + 1e-6
        assert any(span.start - 1e-6 <= one and after <= span.end + 1e-6 for span in inside)
    assert [one for one, _ in times] == sorted(one for one, _ in times)


def test_longer_words_take_longer() -> None:
    assert spread(["a", "abc"], 10.0, 14.0) == [(10.0, 11.0), (11.0, 14.0)]
    assert spread(["ab", "cd"], 0.0, 9.0, [Span(1.0, 2.0), Span(5.0, 6.0)]) == [(1.0, 2.0), (5.0, 6.0)]


@given(st.lists(st.tuples(st.floats(-5, 50), st.floats(-5, 50)), min_size=1, max_size=200), st.floats(0.5, 30))
def test_settled_times_are_in_order_and_inside_the_song(times: list[tuple[float, float]], duration: float) -> None:
    check([Word("la", *time) for time in settled(times, duration)], duration)


@given(st.lists(st.floats(0.05, 3.0), min_size=1, max_size=20))
def test_times_that_are_right_stay(lengths: list[float]) -> None:
    marks = np.cumsum([0.0, *lengths]).tolist()
    times = list(pairwise(marks))
    assert np.array(settled(times, marks[-1])) == pytest.approx(np.array(times))
