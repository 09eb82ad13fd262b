"""A decoder block in the typed graph: deformable pyramid in GEMM form, pooled branch as a bias.

A deformable convolution is one GridSample that reads every tap of every pixel, a product with the
modulation, and one matrix product over channels and taps. Branches of one kernel size share all
three. Sampling is float32 throughout: at 256x256 the coordinates alone would cost 3 % of the
samples' value in FP16.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from birefnet_export.fixed import FixedBranch, FixedDecBlk
from birefnet_export.rewrites import Affine

from .layers import Choices, conv, to_body
from .tape import Tape, Value


def block(tape: Tape, net: FixedDecBlk, x: Value, choices: Choices) -> Value:
    """The block's map before its last convolution: [B,width,h,w], float32.

    The branches and the pooled bias are summed in float32: a bias rounded to FP16 shifts a whole
    picture, and on nano (its first weights) these sums were a fifth of all that FP16 costs.
    """
    with tape.scope("in"):
        x = tape.unary("Relu", conv(tape, net.conv_in, x))
    rows = tape.reshape(x, *x.shape[:2], x.shape[2] * x.shape[3])
    parts = []
    for kernel, places in _by_kernel(net).items():
        with tape.scope(f"deform{kernel}"):
            parts.append(_branches(tape, net, places, x, choices))
    with tape.scope("sum"), tape.island(choices.islands):
        total = _pool(tape, net, tape.cast(rows))
        for part in parts:
            total = tape.add(tape.cast(part), total)
        total = tape.unary("Relu", total)
    return tape.reshape(total, *x.shape)


def _by_kernel(net: FixedDecBlk) -> dict[int, list[int]]:
    """Which branches have which kernel size."""
    found: dict[int, list[int]] = {}
    for place, branch in enumerate(net.branches):
        kernel = cast(FixedBranch, branch).weight.shape[2]
        found.setdefault(kernel, []).append(place)
    return found


def _pool(tape: Tape, net: FixedDecBlk, rows: Value) -> Value:
    """The global mean's branch and the 1x1's bias: one [B,width,1] per picture."""
    column = tape.unary("Relu", _pointwise(tape, Affine.of(net.pool), tape.mean(rows, [2])))
    return _pointwise(tape, Affine.of(net.mixes[-1]), column)


def _pointwise(tape: Tape, affine: Affine, x: Value) -> Value:
    """A 1x1 convolution of [B,C,n] as a product with its weight [O,C]."""
    out = tape.matmul(tape.constant(affine.weight.flatten(1)), x)
    return tape.add(out, tape.constant(affine.bias[:, None])) if affine.bias.any() else out


def _branches(tape: Tape, net: FixedDecBlk, places: list[int], x: Value, choices: Choices) -> Value:
    """The branches ``places``, of one kernel size, and their part of the 1x1: [B,width,h*w]."""
    branches = [cast(FixedBranch, net.branches[place]) for place in places]
    columns = _columns(tape, branches, x, choices)
    weight, bias = _joint(branches)
    mix = torch.cat([Affine.of(net.mixes[place]).weight for place in places], 1)
    if choices.columns == "conv":
        shape = (*columns.shape[:2], *x.shape[2:])
        kernel = tape.constant(weight[..., None, None])
        out = tape.conv(tape.reshape(columns, *shape), kernel, tape.constant(bias))
        out = tape.conv(tape.unary("Relu", out), tape.constant(mix), None)
        return tape.reshape(out, *out.shape[:2], columns.shape[2])
    out = tape.matmul(tape.constant(weight), columns)
    out = tape.unary("Relu", tape.add(out, tape.constant(bias[:, None])))
    return tape.matmul(tape.constant(mix.flatten(1)), out)


def _joint(branches: list[FixedBranch]) -> tuple[Tensor, Tensor]:
    """Weight [m*O, C*m*taps] and bias [m*O] of ``m`` branches on their joint columns."""
    count = len(branches)
    out, channels = branches[0].weight.shape[:2]
    taps = branches[0].taps
    weight = torch.zeros(count, out, channels, count, taps)
    for place, branch in enumerate(branches):
        weight[place, :, :, place] = branch.weight.detach().flatten(2)
    bias = torch.cat([branch.bias.detach() for branch in branches])
    return weight.reshape(count * out, channels * count * taps), bias


def _columns(tape: Tape, branches: list[FixedBranch], x: Value, choices: Choices) -> Value:
    """Modulated samples [B, C*T, h*w] of the branches' T taps in all."""
    batch, channels, height, width = x.shape
    taps = sum(branch.taps for branch in branches)
    steer = conv(tape, _steering(branches), x)
    modulation = tape.unary("Sigmoid", tape.slice(steer, 1, 2 * taps, 3 * taps))
    modulation = tape.reshape(modulation, batch, 1, taps * height, width)
    with tape.island(choices.islands):
        grid = _grid(tape, tape.slice(steer, 1, 0, 2 * taps), branches)
        samples = tape.grid_sample(tape.cast(x), grid)
        columns = tape.mul(samples, tape.cast(modulation))
    columns = to_body(tape, columns)
    return tape.reshape(columns, batch, channels * taps, height * width)


def _steering(branches: list[FixedBranch]) -> nn.Conv2d:
    """Offsets and modulation of all branches from one convolution: x of T taps, y of T, T more."""
    affines = [Affine.of(branch.steer) for branch in branches]
    pieces: list[list[Affine]] = [[], [], []]
    for branch, affine in zip(branches, affines, strict=True):
        count = branch.taps
        pick = (slice(1, 2 * count, 2), slice(0, 2 * count, 2), slice(2 * count, 3 * count))
        for place, part in enumerate(pick):
            pieces[place].append(Affine(affine.weight[part], affine.bias[part]))
    flat = [piece for group in pieces for piece in group]
    return Affine(torch.cat([a.weight for a in flat]), torch.cat([a.bias for a in flat])).conv()


def _grid(tape: Tape, offset: Value, branches: list[FixedBranch]) -> Value:
    """GridSample's coordinates [B,T*h,w,2] from offsets in pixels [B,2T,h,w]."""
    batch, _, height, width = offset.shape
    taps = sum(branch.taps for branch in branches)
    scale, rows, columns = _places(branches, height, width)
    offset = tape.reshape(tape.cast(offset), batch, 2, taps, height, width)
    # The scale of a side that is a power of two is one too: exact in any precision.
    unit = tape.mul(offset, tape.constant(scale))
    unit = tape.add(tape.add(unit, tape.constant(columns)), tape.constant(rows))
    grid = tape.transpose(unit, 0, 2, 3, 4, 1)
    return tape.reshape(grid, batch, taps * height, width, 2)


def _places(branches: list[FixedBranch], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the taps sit without offsets, -1..1 between the map's outer edges.

    Scale [1,2,1,1,1] from pixels; rows [1,2,T,h,1] (the x part is 0); columns [1,2,T,1,w] (the y
    part is 0). Kept apart, they are a few kilobytes instead of 26 MB for kernel 7 at 256x256.
    """
    steps = [torch.arange(round(b.taps**0.5), dtype=torch.float64) for b in branches]
    down = torch.cat([s.repeat_interleave(len(s)) - len(s) // 2 for s in steps])
    right = torch.cat([s.repeat(len(s)) - len(s) // 2 for s in steps])
    rows, columns = torch.zeros(2, len(down), height, 1), torch.zeros(2, len(down), 1, width)
    rows[1, :, :, 0] = ((down[:, None] + torch.arange(height) + 0.5) * 2 / height - 1).float()
    columns[0, :, 0] = ((right[:, None] + torch.arange(width) + 0.5) * 2 / width - 1).float()
    scale = torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1, 1)
    return scale, rows[None], columns[None]
