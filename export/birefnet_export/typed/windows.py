"""Window partition without gathers: padding and roll in one Concat per axis, then one transpose."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from birefnet_export.fixed import Grid

from .layers import APART
from .tape import Tape, Value


def cut(tape: Tape, x: Value, grid: Grid, shifted: bool) -> Value:
    """Tokens [B,H*W,C] to windows [B*nW,N,C]; padding tokens are zeros."""
    batch, _, channels = x.shape
    x = tape.reshape(x, batch, *grid.size, channels)
    for axis, padded in enumerate(grid.padded, 1):
        x = pad_and_roll(tape, x, axis, padded, grid.window // 2 if shifted else 0)
    rows, columns = (side // grid.window for side in grid.padded)
    x = tape.reshape(x, batch, rows, grid.window, columns, grid.window, channels)
    x = tape.transpose(x, 0, 1, 3, 2, 4, 5)
    return tape.reshape(x, batch * rows * columns, grid.tokens, channels)


def join(tape: Tape, x: Value, grid: Grid, shifted: bool) -> Value:
    """The inverse of ``cut``: windows [B*nW,N,C] to tokens [B,H*W,C], padding dropped."""
    rows, columns = (side // grid.window for side in grid.padded)
    batch, channels = x.shape[0] // (rows * columns), x.shape[-1]
    x = tape.reshape(x, batch, rows, columns, grid.window, grid.window, channels)
    x = tape.transpose(x, 0, 1, 3, 2, 4, 5)
    x = tape.reshape(x, batch, *grid.padded, channels)
    for axis, side in enumerate(grid.size, 1):
        x = roll_back(tape, x, axis, side, grid.window // 2 if shifted else 0)
    return tape.reshape(x, batch, grid.size[0] * grid.size[1], channels)


def region_mask(grid: Grid, batch: int) -> Tensor:
    """Mask [B*nW,1,N,N] of shifted windows: 0 within a region, APART across a seam."""
    return grid.mask().clamp(min=APART).repeat(batch, 1, 1, 1)


def pad_and_roll(tape: Tape, x: Value, axis: int, padded: int, shift: int) -> Value:
    """``x`` padded with zeros to ``padded`` and rolled by -``shift`` along ``axis``."""
    side = x.shape[axis]
    first = min(shift, side)
    parts = [
        _part(tape, x, axis, first, side),
        _zeros(tape, x, axis, padded - max(side, shift)),
        _part(tape, x, axis, 0, first),
        _zeros(tape, x, axis, shift - first),
    ]
    return tape.concat([part for part in parts if part is not None], axis)


def roll_back(tape: Tape, x: Value, axis: int, side: int, shift: int) -> Value:
    """``x`` rolled by ``shift`` along ``axis``, then cropped to ``side``."""
    padded, first = x.shape[axis], min(shift, side)
    parts = [
        _part(tape, x, axis, padded - shift, padded - shift + first),
        _part(tape, x, axis, 0, side - first),
    ]
    return tape.concat([part for part in parts if part is not None], axis)


def _part(tape: Tape, x: Value, axis: int, start: int, stop: int) -> Value | None:
    return tape.slice(x, axis, start, stop) if stop > start else None


def _zeros(tape: Tape, x: Value, axis: int, count: int) -> Value | None:
    if count <= 0:
        return None
    shape = tuple(count if i == axis else side for i, side in enumerate(x.shape))
    return tape.constant(np.zeros(shape, np.float32))
