"""Our overlap-add equals Demucs' own loop for every model, length and batch, and bears it when memory runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra gpu is not installed")
demucs = pytest.importorskip("demucs.apply", reason="the extra gpu is not installed")

from demucs.demucs import Demucs  # noqa: E402
from demucs.hdemucs import HDemucs  # noqa: E402
from demucs.htdemucs import HTDemucs  # noqa: E402

from tasks.audio import Chunk  # noqa: E402
from tasks.separate import ladder  # noqa: E402
from tasks.separate.ladder import Pace, Way, check_room, out_of_memory, ways  # noqa: E402
from tasks.separate.model import Part  # noqa: E402
from tasks.separate.overlap import pieces, summed  # noqa: E402

SOURCES = ["drums", "bass", "other", "vocals"]
RATE = 8_000
CPU = Way("cpu")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def htdemucs(segment: Fraction | float = Fraction(39, 40), channels: int = 2) -> HTDemucs:
    """As small as its shape lets it be, but for the numbers the real one."""
    torch.manual_seed(1)
    return HTDemucs(
        SOURCES, audio_channels=channels, channels=8, nfft=1024, depth=3, t_layers=1, t_heads=2, bottom_channels=16,
        dconv_mode=3, samplerate=RATE, segment=segment,
    ).eval()  # fmt: skip


def hdemucs() -> HDemucs:
    torch.manual_seed(2)
    return HDemucs(SOURCES, channels=4, nfft=1024, depth=5, samplerate=RATE, segment=0.8).eval()


def old_demucs() -> Demucs:
    torch.manual_seed(3)
    return Demucs(SOURCES, channels=4, depth=3, samplerate=RATE, segment=0.7).eval()


def bag() -> Any:
    """Of two that hear stretches of different lengths, and do not count the same."""
    return demucs.BagOfModels([htdemucs(0.9), hdemucs()], [[1.0, 0.5, 0.0, 1.0], [1.0, 0.5, 1.0, 0.25]])


def noise(length: int, channels: int = 2) -> Chunk:
    return np.random.default_rng(length).normal(size=(channels, length)).astype(np.float32)


def cut(mix: Chunk, size: int) -> Iterator[Chunk]:
    for begin in range(0, mix.shape[1], size):
        yield mix[:, begin : begin + size]


def parts_of(model: Any, device: str = "cpu", half: Any = None) -> list[Part]:
    if not isinstance(model, demucs.BagOfModels):
        return [Part(model, (1.0,) * len(model.sources), device, half)]
    totals = np.sum(model.weights, axis=0)
    return [
        Part(one, tuple(np.divide(own, totals).tolist()), device, half)
        for one, own in zip(model.models, model.weights, strict=True)
    ]


def ours(model: Any, mix: Chunk, *, batch: int = 1, piece: int = 1000, way: Way = CPU, pace: Pace | None = None) -> Any:
    pace = pace or Pace(way.device, lambda fewer: None, batch)
    parts = [pieces(part, cut(mix, piece), mix.shape[1], way, pace) for part in parts_of(model)]
    return np.concatenate(list(summed(parts)), axis=-1)


def theirs(model: Any, mix: Chunk) -> Any:
    stems = demucs.apply_model(model, torch.from_numpy(mix)[None], shifts=0, split=True, overlap=0.25)[0].numpy()
    return np.stack([stems[-1], stems[:-1].sum(0)])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 1001, 7799, 7800, 9000, 25_001])
def test_htdemucs_is_told_apart_from_its_own_loop_by_nothing(length: int, batch: int) -> None:
    model, mix = htdemucs(), noise(length)
    assert np.abs(ours(model, mix, batch=batch) - theirs(model, mix)).max() < 1e-5


@pytest.mark.parametrize("make", [lambda: htdemucs(channels=1), hdemucs, old_demucs, bag])
@pytest.mark.parametrize("length", [3001, 20_011])
def test_so_is_every_other_model(make: Any, length: int) -> None:
    model = make()
    mix = noise(length, model.audio_channels)
    expected = theirs(model, mix)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(ours(model, mix, batch=4) - expected).max() < 1e-5


class Sum(torch.nn.Module):
    """A network of one line that wants to see an odd number of samples more, and minds where each one stands."""

    sources = ("music", "vocals")
    samplerate, audio_channels, channels = 100, 1, 1
    at_most = 1_000  # samples that the memory holds

    def __init__(self, segment: float, more: int) -> None:
        super().__init__()
        self.segment, self.more = segment, more
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []

    def valid_length(self, length: int) -> int:
        return length + self.more

    def forward(self, mix: Any) -> Any:
        self.seen.append(tuple(mix.shape))
        if mix.shape[0] * mix.shape[2] > self.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total …")
        place = torch.linspace(0.5, 1.5, mix.shape[-1])
        return torch.stack([mix * place, mix.cumsum(-1) / mix.shape[-1]], dim=1)


@given(
    length=st.integers(1, 2_000),
    segment=st.integers(8, 300),
    more=st.integers(0, 40),
    batch=st.integers(1, 5),
    piece=st.integers(1, 500),
)
@settings(deadline=None, max_examples=60)
def test_no_length_segment_or_batch_makes_a_difference(
    length: int, segment: int, more: int, batch: int, piece: int
) -> None:
    model, mix = Sum(segment / 100, more), noise(length, 1)
    model.at_most = 10**6
    np.testing.assert_allclose(ours(model, mix, batch=batch, piece=piece), theirs(model, mix), atol=1e-5)


def test_where_memory_runs_out_the_batch_is_halved_and_nothing_is_lost() -> None:
    model, mix = Sum(1.0, 3), noise(5_000, 1)
    model.at_most = 3 * 103
    fewer: list[int] = []
    stems = ours(model, mix, pace=Pace("cpu", fewer.append, 8))
    assert fewer == [4, 2]
    assert [shape[0] for shape in model.seen[:4]] == [8, 4, 2, 2]
    model.at_most = 10**6
    np.testing.assert_allclose(stems, theirs(model, mix), atol=1e-5)


def test_what_is_too_much_for_one_segment_is_told_as_torch_tells_it() -> None:
    model = Sum(1.0, 0)
    model.at_most = 99
    with pytest.raises(torch.OutOfMemoryError) as caught:
        ours(model, noise(500, 1), batch=2)
    assert out_of_memory(caught.value)


def test_another_failure_of_the_model_halves_nothing() -> None:
    def broken(mix: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    model = Sum(1.0, 0)
    model.forward = broken  # type: ignore[method-assign]
    fewer: list[int] = []
    with pytest.raises(RuntimeError, match="shapes"):
        ours(model, noise(500, 1), pace=Pace("cpu", fewer.append, 4))
    assert fewer == []


def test_a_cpu_that_has_no_memory_left_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert out_of_memory(caught.value)
    assert out_of_memory(MemoryError())
    assert not out_of_memory(ValueError("out of memory"))


def test_shorter_segments_are_what_the_model_sees() -> None:
    model, mix = htdemucs(segment=2.5), noise(20_000)
    seen: list[int] = []
    model.encoder[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-1]))
    stems = ours(model, mix, way=Way("cpu", 1))
    assert set(seen) == {math.ceil(RATE / (1024 // 4))}  # frames of a spectrum
    assert model.segment == 2.5
    np.testing.assert_allclose(stems, theirs(htdemucs(segment=1), mix), atol=1e-5)


def test_a_model_of_short_segments_keeps_its_own() -> None:
    part = parts_of(htdemucs())[0]
    assert part.shorter(7) is part


def test_the_ladder_leads_from_the_gpu_to_short_segments_on_the_cpu() -> None:
    assert [str(way) for way in ways("cuda")] == [
        "on the GPU",
        *(f"on the GPU in segments of {seconds} s" for seconds in (7, 5, 3)),
        "on the CPU",
        *(f"on the CPU in segments of {seconds} s" for seconds in (7, 5, 3)),
    ]
    assert ways("cpu") == ways("cuda")[4:]


def test_a_cpu_is_asked_for_its_memory_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "available", lambda: 1000)
    check_room(1000, CPU)
    with pytest.raises(MemoryError):
        check_room(1001, CPU)
    check_room(1001, Way("cuda"))  # which says so itself


def test_a_containers_limit_counts_and_not_only_the_machines(tmp_path: Path) -> None:
    assert 0 < ladder.available(tmp_path) <= ladder.available(Path("/nowhere"))
    for name, content in (("max", "1000"), ("current", "400"), ("stat", "anon 90\ninactive_file 50\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    assert ladder.available(tmp_path) == 650
    (tmp_path / "memory.max").write_text("max")
    assert ladder.available(tmp_path) > 1000


def test_what_overflows_in_float16_is_done_again_in_float32() -> None:
    class Loud(Sum):
        def forward(self, mix: Any) -> Any:
            stems = super().forward(mix)
            wide = not torch.is_autocast_enabled("cpu")
            return stems if wide else stems * float("inf")

    model, mix = Loud(1.0, 0), noise(100, 1)
    part = Part(model, (1.0, 1.0), "cpu", torch.float16)
    again = Part(model, (1.0, 1.0), "cpu", None)
    sound = torch.from_numpy(mix)[None]
    assert torch.equal(part.stems(sound), again.stems(sound))


def test_torchs_own_switches_are_left_as_they_were() -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    ours(htdemucs(), noise(1000))
    assert torch.backends.mha.get_fastpath_enabled() is before


# --- on a GPU ---------------------------------------------------------------------------------


@pytest.mark.gpu
@CUDA
def test_on_a_gpu_float32_is_the_same_again() -> None:
    model, mix = htdemucs(), noise(60_000)
    expected = theirs(model, mix)
    way = Way("cuda")
    part = Part(model.to("cuda"), (1.0,) * 4, "cuda", None)
    stems = np.concatenate(list(pieces(part, cut(mix, 999), 60_000, way, Pace("cuda", print))), axis=-1)
    assert np.abs(stems - expected).max() < 1e-4


@pytest.mark.gpu
@CUDA
def test_on_a_gpu_as_many_segments_as_fit_go_at_once_and_no_more() -> None:
    model, mix = htdemucs().to("cuda"), noise(400_000)
    part, way, fewer = Part(model, (1.0,) * 4, "cuda", None), Way("cuda"), list[int]()
    sizes: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].shape[0]))
    expected = np.concatenate(list(pieces(part, cut(mix, 9999), 400_000, way, Pace("cuda", fewer.append))), axis=-1)
    assert (sizes[0], max(sizes), fewer) == (1, ladder.MOST, [])
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (64 << 20)) / total)
    try:
        pace = Pace("cuda", fewer.append, ladder.MOST)
        stems = np.concatenate(list(pieces(part, cut(mix, 9999), 400_000, way, pace)), axis=-1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert fewer
    assert np.abs(stems - expected).max() < 1e-4
