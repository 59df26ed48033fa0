"""Demucs' models: read from their files, made ready for a device, run in its best number format."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# (torch and Demucs are typed in part)

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import torch
import yaml
from demucs.apply import BagOfModels
from demucs.hf import load_safetensors_model
from demucs.htdemucs import HTDemucs
from demucs.pretrained import get_model

from infra.errors import NotSeparated, UserError
from infra.settings import settings
from tasks import models
from tasks.models import Report
from tasks.separate.channels_last import channels_last
from tasks.separate.ladder import Way, out_of_memory

VOICE = "vocals"

# Bytes that a model takes for each of its channels and each sample of a segment: 46 to 62 measured on htdemucs on a
# CPU, in segments of 3 to 7.8 s, of either format.
COST = 64

TRIED = 32  # samples of noise each way that a convolution is tried on
ROUNDING = 0.05  # of the loudness, at most, that a number format may differ by: bfloat16 rounds to 0.004


class Model(Protocol):
    """What is asked of a Demucs model."""

    sources: list[str]
    samplerate: int
    audio_channels: int
    channels: int
    segment: Fraction | float  # seconds

    def __call__(self, mix: torch.Tensor) -> torch.Tensor:
        """(segment, channel, sample) → (segment, source, channel, sample)"""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a bag, on its device, and how much each of its sources counts beside those of the others."""

    model: Model
    shares: tuple[float, ...]
    device: str
    half: torch.dtype | None  # the format that autocast narrows to; none for float32

    def shorter(self, seconds: int | None) -> Part:
        """The same for shorter segments: HTDemucs widens every segment to the length that it believes in."""
        if seconds is None or seconds >= self.model.segment:
            return self
        model = copy.copy(self.model)  # shares the weights
        model.segment = seconds
        return Part(model, self.shares, self.device, self.half)

    def bears(self, length: int) -> int:
        """How many samples the model wants to see for so many."""
        valid = getattr(self.model, "valid_length", None)
        return int(valid(length)) if valid else length

    def stems(self, mix: torch.Tensor) -> torch.Tensor:
        """(segment, channel, sample) → (voice or music, segment, channel, sample), its share of each."""
        with torch.inference_mode(), _lean_attention():
            mix = mix.to(self.device)
            heard = self._heard(mix, self.half)
            if self.half is not None and not heard.isfinite().all():  # float16 ends at 65504
                heard = self._heard(mix, None)
            if not heard.isfinite().all():
                raise NotSeparated(reason="what the Demucs model makes of it is no sound")
            counted = heard * heard.new_tensor(self.shares)[:, None, None]
            voice = counted[:, self.model.sources.index(VOICE)]
            return torch.stack([voice, counted.sum(1) - voice])

    def _heard(self, mix: torch.Tensor, half: torch.dtype | None) -> torch.Tensor:
        with torch.autocast(self.device, half, enabled=half is not None):
            return self.model(mix).float()


@dataclass(frozen=True, slots=True)
class Bag:
    """The models that separate together, most often one."""

    parts: tuple[Part, ...]

    @property
    def rate(self) -> int:
        return self.parts[0].model.samplerate

    @property
    def channels(self) -> int:
        return self.parts[0].model.audio_channels

    def need(self, seconds: int | None) -> int:
        """Bytes that one segment takes."""
        found = [part.shorter(seconds).model for part in self.parts]
        return max(int(COST * model.channels * model.samplerate * model.segment) for model in found)


def load(name: str, way: Way, report: Report) -> Bag:
    """The model by name, on its device, kept for every later song of this process."""
    models.on_all_threads()
    folder = models.demucs(name, report)
    half = _half(way.device, settings().demucs_precision)
    return models.hold(("demucs", name, folder, way.device, half), lambda: _bag(name, folder, way.device, half))


def _bag(name: str, folder: Path, device: str, half: torch.dtype | None) -> Bag:
    try:
        read = _read(name, folder)
    except (Exception, SystemExit) as error:  # a damaged file may raise anything; for some, Demucs wants to exit
        if out_of_memory(error) or isinstance(error, UserError):
            raise
        raise NotSeparated(reason=f'the Demucs model "{name}" cannot be read, its files are damaged') from error
    first = cast(Model, read.models[0])
    if VOICE not in first.sources or first.audio_channels not in (1, 2):
        raise NotSeparated(reason=f'the Demucs model "{name}" knows no voice')
    totals = [sum(of_source) for of_source in zip(*read.weights, strict=True)]
    shares = [[own / total for own, total in zip(weights, totals, strict=True)] for weights in read.weights]
    return Bag(tuple(_part(model, tuple(own), device, half) for model, own in zip(read.models, shares, strict=True)))


def _read(name: str, folder: Path) -> BagOfModels:
    """A bag of safetensors, as the hub has them; or what Demucs itself reads from a folder of the operator's own:
    a .th is a pickle, which may do anything when it is opened, and is taken from nowhere else. A sum in a file's name
    is compared."""
    listed = folder / f"{name}.yaml"
    if listed.is_file():
        bag = yaml.safe_load(listed.read_text())
        files = [folder / f"{signature}.safetensors" for signature in bag["models"]]
        if all(file.is_file() for file in files):
            return BagOfModels([load_safetensors_model(file) for file in files], bag.get("weights"), bag.get("segment"))
    read = get_model(name, repo=folder)
    return read if isinstance(read, BagOfModels) else BagOfModels([read])


def _part(model: torch.nn.Module, shares: tuple[float, ...], device: str, half: torch.dtype | None) -> Part:
    model.eval().to(device)
    if half is not None and not _right(model, device, half):
        half = None
    if half is torch.bfloat16 and isinstance(model, HTDemucs):
        # Autocast alone widens the sound again at each of their norms and scales, and narrows it for the next one.
        # With bfloat16, which reaches as far as float32, nothing can overflow that would have to be done again.
        for layers in (model.encoder, model.decoder, model.tencoder, model.tdecoder):
            layers.to(half)
        if device == "cpu":
            channels_last(model)
    return Part(cast(Model, model), shares, device, half)


def _right(model: torch.nn.Module, device: str, half: torch.dtype) -> bool:
    """Whether each convolution, tried on a bit of noise, is the same in this format but for its rounding.

    Not all are: on a CPU with AMX the oneDNN of torch 2.8 makes nonsense of 8 or 12 channels in strides of 4.
    """
    random = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.ConvTranspose1d | torch.nn.ConvTranspose2d):
            shape = (1, layer.in_channels, *(TRIED for _ in layer.kernel_size))
            noise = torch.randn(shape, generator=random).to(device)
            with torch.inference_mode():
                exact = layer(noise)
                with torch.autocast(device, half):
                    narrow = layer(noise).float()
            if (narrow - exact).norm() > ROUNDING * exact.norm():
                return False
    return True


def _half(device: str, precision: str) -> torch.dtype | None:
    """The number format to narrow to; none for float32."""
    if precision == "auto":
        return models.half(device)
    return None if precision == "float32" else cast(torch.dtype, getattr(torch, precision))


@contextmanager
def _lean_attention() -> Generator[None]:
    """Without the fused layer that torch has for inference: it writes down all of a segment's attention, 2688 by
    2688 for each head, which costs more time and memory than all that it saves."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
