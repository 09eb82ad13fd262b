"""Exact rewrites of the network's weights: fewer operations and smaller tensors, the same answer.

Each function but ``norm_scales``, which says what was folded, maps weights to weights; ``fixed.py``
puts the results to work. All are exact in real arithmetic, borders included; a test compares each
with the original in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Affine:
    """A convolution's or linear layer's ``weight`` [O, ...] and ``bias`` [O]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Module) -> Affine:
        weight = layer.get_parameter("weight").detach()
        bias = layer.bias
        zeros = weight.new_zeros(weight.shape[0])
        return cls(weight, bias.detach() if isinstance(bias, Tensor) else zeros)

    def conv(self, stride: int = 1) -> nn.Conv2d:
        """A Conv2d with these weights and "same" padding (none when strided)."""
        out, channels, kernel = self.weight.shape[:3]
        padding = kernel // 2 if stride == 1 else 0
        layer = nn.Conv2d(channels, out, kernel, stride, padding, dtype=self.weight.dtype)
        layer.weight = nn.Parameter(self.weight.contiguous(), requires_grad=False)
        layer.bias = nn.Parameter(self.bias.clone(), requires_grad=False)
        return layer

    def dense(self) -> Dense:
        """A matrix product with these weights."""
        return Dense(self)


class Dense(nn.Module):
    """``x @ weight + bias`` with ``weight`` [in, out]: one constant in a trace, shared by both
    passes.

    nn.Linear stores the transpose, which every use in a trace would fold into a copy of its own.
    """

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.weight = nn.Parameter(affine.weight.T.contiguous(), requires_grad=False)
        empty = not bool(affine.bias.any())
        self.bias = None if empty else nn.Parameter(affine.bias.clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        out = x @ self.weight
        return out if self.bias is None else out + self.bias


def fold_norm(affine: Affine, norm: nn.BatchNorm2d) -> Affine:
    """Eval-mode batch norm after a convolution, folded into it."""
    assert norm.running_mean is not None
    scale = norm_scale(norm)
    shape = (-1, *[1] * (affine.weight.dim() - 1))
    bias = (affine.bias - norm.running_mean) * scale + norm.bias.detach()
    return Affine(affine.weight * scale.view(shape), bias)


def norm_scale(norm: nn.BatchNorm2d) -> Tensor:
    """What an eval-mode batch norm multiplies its channels by, [C]."""
    assert norm.running_var is not None
    return norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)


def norm_scales(network: nn.Module) -> list[Tensor]:
    """``norm_scale`` of every batch norm of ``network``."""
    return [norm_scale(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def columns(affine: Affine, start: int, stop: int) -> Tensor:
    """The weight's input channels ``start`` to ``stop``."""
    return affine.weight[:, start:stop]


def after(first: Affine, pointwise: Tensor) -> Affine:
    """A convolution followed by a bias-free 1x1 with weight [P,O,1,1], as one convolution."""
    mix = pointwise.flatten(1)
    weight = torch.einsum("po,ochw->pchw", mix, first.weight)
    return Affine(weight, mix @ first.bias)


def taps_first(first: Affine, second: Affine) -> tuple[Affine, Tensor]:
    """Two 3x3 convolutions, C -> O -> 1 with nothing between, without the O-channel map.

    Returns a convolution C -> 9 and the fixed weight [1,9,3,3] that follows it (its bias is
    ``second.bias``): map t is what tap t of the second convolution would read, already summed over
    O, so zero padding between the two stays exact. 64 -> 9 channels at full resolution in BiRefNet.
    """
    taps = second.weight[0].flatten(1).T[:, :, None, None]
    gather = torch.eye(9, dtype=second.weight.dtype).view(1, 9, 3, 3)
    return after(first, taps), gather


def merge(*layers: Affine) -> Affine:
    """Convolutions of one input side by side as one."""
    return Affine(torch.cat([a.weight for a in layers]), torch.cat([a.bias for a in layers]))


def split_qkv(qkv: Affine, heads: int) -> tuple[Affine, Affine, Affine]:
    """The q, k and v layers of one attention; q carries the factor 1/sqrt(channels per head)."""
    channels = qkv.weight.shape[1]
    weights, biases = torch.split(qkv.weight, channels), torch.split(qkv.bias, channels)
    scale = (channels // heads) ** -0.5
    parts = [Affine(w, b) for w, b in zip(weights, biases, strict=True)]
    return Affine(parts[0].weight * scale, parts[0].bias * scale), parts[1], parts[2]
