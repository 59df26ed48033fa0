"""What is cut out of a song and sent: all of it, once, in order, and the way back to the song."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audio import RATE, Samples
from tasks.transcribe.reel import GAP, INT16, Piece, Reel, flac, halves, reels
from tasks.voice import Span

SONG = 100.0  # seconds
NOISE = Samples(np.random.default_rng(0).uniform(-0.5, 0.5, round(SONG * RATE)).astype(np.float32))


@st.composite
def windows(draw: st.DrawFn) -> list[Span]:
    """In order, apart or touching, also empty ones, the last one perhaps beyond the song's end."""
    times = st.floats(0, SONG + 1, allow_subnormal=False)
    edges = sorted(draw(st.lists(times, min_size=2, max_size=12)))
    every = [Span(a, b) for a, b in pairwise(edges)]
    return [span for span in every if draw(st.booleans())] or every[:1]


limits = st.floats(1.0, 60.0)


def stretches(parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """From which sample to which, in this order, without the cuts between what touches."""
    found: list[tuple[int, int]] = []
    for start, end in parts:
        if start == end:
            continue
        if found and found[-1][1] == start:
            start = found.pop()[0]
        found.append((start, end))
    return found


def wanted(spans: list[Span]) -> list[tuple[int, int]]:
    last = len(NOISE.values)
    return stretches((min(round(s.start * RATE), last), min(round(s.end * RATE), last)) for s in spans)


def sent(made: tuple[Reel, ...]) -> list[tuple[int, int]]:
    return stretches((piece.start, piece.end) for reel in made for piece in reel.pieces)


@given(windows(), limits)
def test_every_sample_of_every_window_is_on_exactly_one_reel_in_order(spans: list[Span], most: float) -> None:
    made = reels(NOISE, spans, most)
    assert sent(made) == wanted(spans)
    assert all(reel.seconds <= most + 1 / RATE for reel in made)


@given(windows(), limits)
def test_a_reel_holds_its_pieces_and_silence_between_them(spans: list[Span], most: float) -> None:
    for reel in reels(NOISE, spans, most):
        sound = reel.sound(NOISE)
        assert len(sound) == round(reel.seconds * RATE)
        for piece in reel.pieces:
            assert np.array_equal(sound[piece.at : piece.at + piece.length], NOISE.values[piece.start : piece.end])
            sound[piece.at : piece.at + piece.length] = 0
        assert not sound.any()
        for a, b in pairwise(reel.pieces):
            assert b.at - (a.at + a.length) == min(b.start - a.end, GAP)


@given(windows(), limits, st.data())
def test_the_way_back_leads_to_the_sample_that_is_heard(spans: list[Span], most: float, data: st.DataObject) -> None:
    for reel in reels(NOISE, spans, most)[:3]:
        piece = data.draw(st.sampled_from(reel.pieces))
        i = data.draw(st.integers(0, piece.length - 1))
        assert reel.time((piece.at + i) / RATE) == pytest.approx((piece.start + i) / RATE, abs=1e-6)
        assert reel.sound(NOISE)[piece.at + i] == NOISE.values[piece.start + i]


@given(windows(), limits, st.lists(st.floats(-10, 110), min_size=2, max_size=20))
def test_times_stay_in_order_and_lead_into_a_window(spans: list[Span], most: float, times: list[float]) -> None:
    for reel in reels(NOISE, spans, most)[:3]:
        mapped = [reel.time(time) for time in sorted(times)]
        assert mapped == sorted(mapped)
        for a, b in pairwise(sorted(times)):
            span = reel.span(a, b)
            assert span.start <= span.end
            assert any(inside.start <= span.start and span.end <= inside.end for inside in reel.spans)
        assert all(any(inside.start <= time <= inside.end for inside in reel.spans) for time in mapped)


@given(windows(), limits, st.lists(st.floats(0, 100), min_size=4, max_size=20, unique=True))
def test_words_that_follow_each_other_in_a_reel_do_so_in_the_song(
    spans: list[Span], most: float, times: list[float]
) -> None:
    for reel in reels(NOISE, spans, most)[:3]:
        words = [reel.span(a, b) for a, b in pairwise(sorted(times))]
        assert all(a.end <= b.start + 1e-9 for a, b in pairwise(words))


@given(windows(), limits)
def test_shorter_reels_hold_the_same_sound(spans: list[Span], most: float) -> None:
    for reel in reels(NOISE, spans, most)[:3]:
        if reel.seconds > 0.1:
            parts = halves(NOISE, reel)
            assert sent(parts) == sent((reel,))
            assert len(parts) >= 2


def test_a_word_at_a_seam_lies_in_the_piece_that_holds_most_of_it() -> None:
    reel = Reel((Piece(0, 2 * RATE, 0), Piece(10 * RATE, 12 * RATE, round(2.5 * RATE))))
    assert reel.span(1.5, 2.6) == Span(1.5, 2.0)
    assert reel.span(1.9, 3.5) == Span(10.0, 11.0)
    assert (reel.time(2.2), reel.time(2.5), reel.time(9.9)) == (2.0, 10.0, 12.0)


def test_a_long_window_is_cut_where_it_is_quietest() -> None:
    values = NOISE.values.copy()
    values[17 * RATE : 18 * RATE] *= 0.01
    (first, second) = reels(Samples(values), [Span(0.0, 40.0)], 20.0)[:2]
    assert 17.0 <= first.pieces[0].end / RATE <= 18.0
    assert second.pieces[0].start == first.pieces[0].end


def test_the_file_holds_the_sound_as_it_is() -> None:
    sound = reels(NOISE, [Span(1.0, 3.0), Span(9.0, 9.5)], 60.0)[0].sound(NOISE)
    with av.open(BytesIO(flac(sound))) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate, stream.channels) == ("flac", RATE, 1)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])
    assert np.array_equal(heard, np.round(sound * INT16).astype(np.int16))


def test_no_window_is_no_reel() -> None:
    assert reels(NOISE, [], 60.0) == ()
    assert reels(NOISE, [Span(3.0, 3.0), Span(SONG, SONG + 5)], 60.0) == ()
