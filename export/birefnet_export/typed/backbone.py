"""Swin in the typed graph: one pass over tokens [B,H*W,C]."""

from __future__ import annotations

from typing import cast

from torch import nn

from birefnet_export.fixed import FixedBlock, FixedSwin, Grid
from birefnet_export.rewrites import Dense

from . import windows
from .layers import Choices, conv, dense, gelu, norm, side_by_side, to_body
from .tape import Tape, Value


def backbone(
    tape: Tape, net: FixedSwin, grids: nn.ModuleList, image: Value, choices: Choices
) -> list[Value]:
    """The four stages' maps [B,C,h,w] of ``image`` [B,3,H,W], which is of the body's type."""
    with tape.scope("embed"):
        x = conv(tape, net.embed, image)
        x = tape.transpose(tape.reshape(x, *x.shape[:2], -(-x.shape[2] * x.shape[3])), 0, 2, 1)
        x = norm(tape, net.embed_norm, x, choices.islands)
    maps = []
    for number, blocks in enumerate(net.stages):
        grid = cast(Grid, grids[number])
        with tape.scope(f"stage{number + 1}"):
            for place, block in enumerate(cast(nn.ModuleList, blocks), 1):
                with tape.scope(f"block{place}"):
                    x = _block(tape, cast(FixedBlock, block), x, grid, choices)
            with tape.scope("out"):
                normed = norm(tape, _norm(net.norms, number), x, choices.islands)
                maps.append(_to_map(tape, normed, grid))
            if number < 3:
                with tape.scope("merge"):
                    x = _merge(tape, net, number, x, grid, choices)
    return maps


def _norm(norms: nn.ModuleList, number: int) -> nn.LayerNorm:
    return cast(nn.LayerNorm, norms[number])


def _to_map(tape: Tape, x: Value, grid: Grid) -> Value:
    batch, _, channels = x.shape
    return tape.reshape(tape.transpose(x, 0, 2, 1), batch, channels, *grid.size)


def _block(tape: Tape, block: FixedBlock, x: Value, grid: Grid, choices: Choices) -> Value:
    with tape.scope("attn"):
        inner = norm(tape, block.norm1, x, choices.islands)
        x = tape.add(x, _attend(tape, block, inner, grid, choices))
    with tape.scope("mlp"):
        inner = norm(tape, block.norm2, x, choices.islands)
        return tape.add(x, dense(tape, block.fc2, gelu(tape, dense(tape, block.fc1, inner))))


def _attend(tape: Tape, block: FixedBlock, x: Value, grid: Grid, choices: Choices) -> Value:
    batch, shifted = x.shape[0], block.shift > 0
    x = windows.cut(tape, x, grid, shifted)
    q, k, v = _heads(tape, block, x)
    # A kernel that fuses all of it holds the scores itself; the others write them out, and FP16
    # rounds scores beyond 64 to sixteenths, which trained weights have.
    with tape.island(choices.islands and not fusible(q.shape[-1])):
        scores = tape.matmul(tape.cast(q), tape.cast(k))
        scores = _biased(tape, block, scores, grid, batch, choices)
        weights = tape.unary("Softmax", scores, axis=-1)
    out = tape.matmul(to_body(tape, weights), v)
    out = tape.reshape(tape.transpose(out, 0, 2, 1, 3), *x.shape)
    return windows.join(tape, dense(tape, block.proj, out), grid, shifted)


def fusible(size: int) -> bool:
    """Whether TensorRT has fused FP16 attention for heads of ``size`` channels.

    16 to 256, multiples of 8: NVIDIA's documentation of TensorRT 10 and 11, "Transformers: fused
    attention".
    """
    return 16 <= size <= 256 and size % 8 == 0


def _heads(tape: Tape, block: FixedBlock, x: Value) -> tuple[Value, Value, Value]:
    """q and v [W,heads,N,d], k [W,heads,d,N], from one product; q is scaled already."""
    count, tokens, channels = x.shape
    qkv = dense(tape, side_by_side(block.q, block.k, block.v), x)
    out = []
    for place, axes in enumerate(((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))):
        part = tape.slice(qkv, 2, place * channels, (place + 1) * channels)
        part = tape.reshape(part, count, tokens, block.heads, channels // block.heads)
        out.append(tape.transpose(part, *axes))
    return out[0], out[1], out[2]


def _biased(
    tape: Tape, block: FixedBlock, scores: Value, grid: Grid, batch: int, choices: Choices
) -> Value:
    """Scores [W,heads,N,N] plus the relative bias and, in shifted blocks, the region mask."""
    bias = block.bias.reshape(1, *block.bias.shape[-3:])
    if not block.shift:
        return tape.add(scores, tape.constant(bias))
    mask = windows.region_mask(grid, batch)
    if choices.mask == "constant":
        return tape.add(scores, tape.constant(bias + mask))
    return tape.add(tape.add(scores, tape.constant(bias)), tape.constant(mask))


def _merge(
    tape: Tape, net: FixedSwin, number: int, x: Value, grid: Grid, choices: Choices
) -> Value:
    """Patch merging: four neighbours side by side, norm, projection."""
    batch, _, channels = x.shape
    height, width = grid.size
    x = tape.reshape(x, batch, height, width, channels)
    for axis, side in ((1, height), (2, width)):
        x = windows.pad_and_roll(tape, x, axis, side + side % 2, 0)
    rows, columns = -(-height // 2), -(-width // 2)
    x = tape.reshape(x, batch, rows, 2, columns, 2, channels)
    x = tape.reshape(tape.transpose(x, 0, 1, 3, 4, 2, 5), batch, rows * columns, 4 * channels)
    x = norm(tape, _norm(net.merge_norms, number), x, choices.islands)
    return dense(tape, cast(Dense, net.reductions[number]), x)
