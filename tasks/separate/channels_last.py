"""HTDemucs' convolutions in the order in which a CPU's bfloat16 units want their sound: all channels of a sample
side by side. Else oneDNN puts every layer's sound into that order, and torch puts it back: a third of all the time.

torch itself keeps to the order where a layer has two dimensions, but not where it has one: there each layer of one
dimension is done as one of two, the first of them 1 wide.
"""

from __future__ import annotations

from typing import cast

import torch
from demucs.htdemucs import HTDemucs
from torch import Tensor, nn
from torch.nn import functional


def channels_last(model: HTDemucs) -> None:
    """Changed where it stands. In bfloat16, for in float32 nothing is won."""
    for part in (model.encoder, model.decoder, model.tencoder, model.tdecoder):
        part.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        for layer in part.modules():
            layer.__class__ = _LAST.get(type(layer), type(layer))


def _wide(sound: Tensor) -> Tensor:
    return sound.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class _Conv1d(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        weight, stride, dilation = self.weight.unsqueeze(2), (1, *self.stride), (1, *self.dilation)
        padding = (0, *cast("tuple[int]", self.padding))
        return functional.conv2d(_wide(input), weight, self.bias, stride, padding, dilation, self.groups).squeeze(2)


class _ConvTranspose1d(nn.ConvTranspose1d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, stride = self.weight.unsqueeze(2), (1, *self.stride)
        return functional.conv_transpose2d(_wide(input), weight, self.bias, stride).squeeze(2)


class _GroupNorm(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.unsqueeze(2)).squeeze(2) if input.dim() == 3 else super().forward(input)


_LAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: _Conv1d,
    nn.ConvTranspose1d: _ConvTranspose1d,
    nn.GroupNorm: _GroupNorm,
}
