"""Shapes and pointers -> the launch of each CUDA kernel in ``kernels/birefnet.cu``.

Pure arithmetic: nothing here touches a device. Blocks follow the constants of the kernels' headers;
the tests run the kernels, compiled for the host, by these launches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Columns and rows of a block of resize_rows (resize.h: kTile, kRows).
ROWS_BLOCK = (64, 4)
# Columns of a block of resize_columns (resize.h: kAbreast).
COLUMNS_BLOCK = 128
# Values of a block of activate (alpha.h: kValues).
ACTIVATE_BLOCK = 256
# Columns of a block of cutout, and the rows that each of its threads walks down (compose.h:
# kColumns, kStrip).
CUTOUT_BLOCK = (128, 8)
# CUDA's limit on gridDim.x, for every compute capability in use.
GRID = 2**31 - 1

ACTIVATIONS = {"none": 0, "sigmoid": 1}
# What cutout writes: the alpha plane, straight RGBA, or RGB over a colour.
MASK, RGBA, COLOUR = 0, 1, 2
CHANNELS = {MASK: 1, RGBA: 4, COLOUR: 3}

Argument = np.uint64 | np.int64 | np.int32 | np.float64


@dataclass(frozen=True)
class Launch:
    """One kernel launch: ``name`` in the module, ``grid`` and ``block`` (x, y, z), no dynamic
    shared memory, and ``args``, NumPy scalars in the kernel's order and of its types (pointers are
    uint64)."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    args: tuple[Argument, ...]


@dataclass(frozen=True)
class Picture:
    """uint8 [height,width,channels] at ``pointer``, ``pitch`` bytes from row to row.

    ``channels`` is 3 or 4, the fourth is never read as a colour. Borrowed: whoever launches keeps
    it until the kernels are done. Rows at multiples of 4 bytes are read fastest.
    """

    pointer: int
    height: int
    width: int
    channels: int = 3
    pitch: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (3, 4):
            raise ValueError(f"a picture has 3 or 4 channels, not {self.channels}")
        if min(self.height, self.width) < 1:
            raise ValueError(f"a picture of {self.height}x{self.width} has no pixels")
        dense = self.width * self.channels
        if not self.pitch:
            object.__setattr__(self, "pitch", dense)
        elif self.pitch < dense:
            raise ValueError(f"a pitch of {self.pitch} bytes is less than a row of {dense}")


@dataclass(frozen=True)
class Plane:
    """One byte per pixel from ``pointer`` on: ``pitch`` bytes from row to row, ``step`` from pixel
    to pixel (1 for a plane of its own, 4 for the alpha inside RGBA)."""

    pointer: int
    pitch: int
    step: int = 1

    @classmethod
    def inside(cls, picture: Picture) -> Plane:
        """The fourth channel of ``picture``."""
        if picture.channels != 4:
            raise ValueError("a picture of 3 channels has no alpha inside it")
        return cls(picture.pointer + 3, picture.pitch, 4)


@dataclass(frozen=True)
class Table:
    """A copy of ``resample.Coefficients`` in the kernel's memory: two pointers and the shape."""

    bounds: int
    weights: int
    taps: int
    size: int


def resize_rows(picture: Picture, table: Table, out: int) -> Launch:
    """``picture`` -> ``out``: uint8 [height,table.size,3]; ``table`` is for its width."""
    across, down = ROWS_BLOCK
    blocks = _ceil(table.size, across) * _ceil(picture.height, down)
    return _launch(
        "resize_rows",
        blocks,
        (across, down, 1),
        np.uint64(picture.pointer),
        np.int64(picture.pitch),
        np.int32(picture.channels),
        np.int32(picture.height),
        np.int32(table.size),
        np.uint64(table.bounds),
        np.uint64(table.weights),
        np.uint64(out),
    )


def resize_columns(rows: int, width: int, table: Table, levels: int, out: int) -> Launch:
    """``rows``, uint8 [H,width,3] from resize_rows, -> ``out``: float32 [3,table.size,width].

    ``table`` is for the picture's height; ``levels``: float32 [3,256], the normalised value of
    each level (``preprocess``). ``out`` is one picture's planes in the model's input.
    """
    blocks = _ceil(width, COLUMNS_BLOCK) * table.size
    return _launch(
        "resize_columns",
        blocks,
        (COLUMNS_BLOCK, 1, 1),
        np.uint64(rows),
        np.int32(width),
        np.int32(table.size),
        np.uint64(table.bounds),
        np.uint64(table.weights),
        np.uint64(levels),
        np.uint64(out),
    )


def activate(values: int, count: int, activation: str, alpha: int, bad: int) -> Launch:
    """``values``, float32 [count], -> ``alpha``, float32 [count] in 0..1 (may be the same memory).

    ``bad``: one int32, set to 1 when a value is not finite and otherwise left as it is.
    """
    return _launch(
        "activate",
        _ceil(count, ACTIVATE_BLOCK),
        (ACTIVATE_BLOCK, 1, 1),
        np.uint64(values),
        np.int32(count),
        np.int32(ACTIVATIONS[activation]),
        np.uint64(alpha),
        np.uint64(bad),
    )


def cutout(
    alpha: int,
    size: tuple[int, int],
    picture: Picture,
    image: int,
    *,
    own: Plane | None = None,
    mode: int = RGBA,
    colour: int = 0,
    plane: int = 0,
) -> Launch:
    """``alpha``, float32 ``size`` (h, w), in 0..1, -> ``image`` and ``plane`` in picture's size.

    ``mode`` MASK: image is uint8 [H,W] (``picture.pointer`` is not read); RGBA: uint8 [H,W,4],
    4-byte aligned; COLOUR: uint8 [H,W,3] over ``colour`` 0xRRGGBB. ``plane``: uint8 [H,W], the
    alpha once more, or 0 for none. ``own``: the picture's own alpha, multiplied in.
    """
    if mode == RGBA and image % 4:
        raise ValueError("an RGBA image needs an address that is a multiple of 4")
    columns, strip = CUTOUT_BLOCK
    blocks = _ceil(picture.width, columns) * _ceil(picture.height, strip)
    own = own or Plane(0, 0)
    return _launch(
        "cutout",
        blocks,
        (columns, 1, 1),
        np.uint64(alpha),
        np.int32(size[0]),
        np.int32(size[1]),
        np.uint64(picture.pointer),
        np.int64(picture.pitch),
        np.int32(picture.channels),
        np.uint64(own.pointer),
        np.int64(own.pitch),
        np.int32(own.step),
        np.int32(picture.height),
        np.int32(picture.width),
        np.float64(scale(size[0], picture.height)),
        np.float64(scale(size[1], picture.width)),
        np.int32(mode),
        np.int32(colour),
        np.uint64(image),
        np.uint64(plane),
    )


def scale(small: int, full: int) -> float:
    """Inputs per output along an axis, rounded as cv2.resize rounds it: twice."""
    return 1.0 / (full / small)


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _launch(name: str, blocks: int, block: tuple[int, int, int], *args: Any) -> Launch:
    """A one-dimensional grid: gridDim.y ends at 65535, which a tall strip would pass."""
    if not 0 < blocks <= GRID:
        raise ValueError(f"{name}: {blocks} blocks are not 1 to {GRID}")
    return Launch(name, (blocks, 1, 1), block, args)
