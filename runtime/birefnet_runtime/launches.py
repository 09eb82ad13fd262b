"""Shapes and pointers -> the launch of each CUDA kernel in ``kernels/birefnet.cu``.

Pure arithmetic: nothing here touches a device. Blocks follow the constants of the kernels' headers;
the tests run the kernels, compiled for the host, by these launches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from birefnet_runtime.frame import Box

# Columns and rows of a block of resize_rows (resize.h: kTile, kRows).
ROWS_BLOCK = (64, 4)
# Columns of a block of resize_columns (resize.h: kAbreast).
COLUMNS_BLOCK = 128
# Values of a block of activate (alpha.h: kValues).
ACTIVATE_BLOCK = 256
# Columns of a block of cutout, and the rows that each of its threads walks down (compose.h:
# kColumns, kStrip).
CUTOUT_BLOCK = (128, 8)
# Pixels of a side of the largest level that colours_coarse takes; the threads of its one block, one
# for each pixel of that (foreground.h: kSmallPixels); and bytes of its scratch memory, two times
# six float32 for each.
COARSE_SIDE, COARSE_BLOCK = 32, 1024
COARSE_SCRATCH = 2 * 6 * 4 * COARSE_BLOCK
# Columns and rows of the pane of a block of colours_level and colours_image, and its threads
# (foreground.h: kPaneWidth, kPaneHeight, kPaneThreads).
PANE, PANE_BLOCK = (32, 16), 256
# Sweeps of a launch of colours_level.
LEVEL_SWEEPS = 2
# CUDA's limit on gridDim.x, for every compute capability in use.
GRID = 2**31 - 1

ACTIVATIONS = {"none": 0, "sigmoid": 1}
# What cutout writes: the alpha plane, straight RGBA, or RGB over a colour. colours_image writes the
# last two, RGBA with colours multiplied by alpha, the colours alone as RGB, or straight RGBA that
# keeps colours under an alpha of 0.
MASK, RGBA, COLOUR, MULTIPLIED, COLOURS, KEPT = range(6)
CHANNELS = {MASK: 1, RGBA: 4, COLOUR: 3, MULTIPLIED: 4, COLOURS: 3, KEPT: 4}

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

    def part(self, box: Box) -> Picture:
        """The pixels in ``box``, where they lie."""
        pointer = self.pointer + box.top * self.pitch + box.left * self.channels
        return Picture(pointer, box.height, box.width, self.channels, self.pitch)


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


@dataclass(frozen=True)
class Plates:
    """The two colours of each pixel of a level of the pyramid, (height, width) ``size``, as
    colours_coarse writes them: uint32 [2,height,width] at ``pointer``, foreground first, red in the
    lowest 10 bits, then green and blue, in units of 255 / 1023."""

    pointer: int
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return 2 * self.size[0] * self.size[1] * 4


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


def resize_columns(
    rows: int, width: int, table: Table, levels: int, out: int, pitch: int = 0, plane: int = 0
) -> Launch:
    """``rows``, uint8 [H,width,3] from resize_rows, -> ``out``: float32 [3,table.size,width].

    ``table`` is for the picture's height; ``levels``: float32 [3,256], the normalised value of
    each level (``preprocess``). ``out`` lies in one picture's planes of the model's input; its rows
    are ``pitch`` floats apart and its planes ``plane``, 0 for dense ones.
    """
    pitch = pitch or width
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
        np.int32(pitch),
        np.int64(plane or table.size * pitch),
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


def colours_coarse(
    picture: Picture, alpha: int, levels: int, last: int, sweeps: int, scratch: int, out: Plates
) -> Launch:
    """The coarsest ``levels`` levels of ``picture`` and its ``alpha``, uint8 [H,W], down to level
    ``last``, each swept ``sweeps`` times, -> ``out``: of level ``last``, at most 32 x 32.

    ``scratch``: ``COARSE_SCRATCH`` bytes.
    """
    if max(out.size) > COARSE_SIDE:
        raise ValueError(f"a level of {out.size} is not small")
    return _launch(
        "colours_coarse",
        1,
        (COARSE_BLOCK, 1, 1),
        *_subject(picture, alpha),
        np.int32(levels),
        np.int32(last),
        np.int32(sweeps),
        np.uint64(scratch),
        np.uint64(out.pointer),
    )


def colours_level(picture: Picture, alpha: int, before: Plates, out: Plates, level: int) -> Launch:
    """Two sweeps of ``level`` of ``picture`` and its ``alpha``, uint8 [H,W], from the plates of the
    level before it or of itself."""
    return _launch(
        "colours_level",
        _panes(out.size),
        (PANE_BLOCK, 1, 1),
        *_subject(picture, alpha),
        np.int32(level),
        np.int32(before.size != out.size),
        np.uint64(before.pointer),
        np.uint64(out.pointer),
    )


def colours_image(
    picture: Picture,
    alpha: int,
    before: Plates | None,
    image: int,
    mode: int,
    colour: int = 0,
    only: int = 0,
) -> Launch:
    """The image of ``picture`` by its ``alpha``, uint8 [H,W], in the colours estimated for it.

    ``before``: level 1, which a last sweep follows, or level 0, of the picture's own size, of which
    nothing is left to be done; None for the picture's colours. ``mode``: any but MASK; ``image``:
    uint8 [H,W,``CHANNELS[mode]``], 4-byte aligned where that is 4. ``colour``: 0xRRGGBB behind.
    ``only``: uint8 [H,W,3], the colours once more, or 0 for none.
    """
    if CHANNELS[mode] == 4 and image % 4:
        raise ValueError("an RGBA image needs an address that is a multiple of 4")
    size = (picture.height, picture.width)
    before = before or Plates(0, size)
    return _launch(
        "colours_image",
        _panes(size),
        (PANE_BLOCK, 1, 1),
        *_subject(picture, alpha),
        np.int32(before.size != size),
        np.uint64(before.pointer),
        np.int32(mode),
        np.int32(colour),
        np.uint64(image),
        np.uint64(only),
    )


def _subject(picture: Picture, alpha: int) -> tuple[Argument, ...]:
    return (
        np.uint64(picture.pointer),
        np.int64(picture.pitch),
        np.int32(picture.channels),
        np.uint64(alpha),
        np.int32(picture.height),
        np.int32(picture.width),
    )


def _panes(size: tuple[int, int]) -> int:
    return _ceil(size[1], PANE[0]) * _ceil(size[0], PANE[1])


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
