"""Multi-level foreground estimation, where the soft band needs it: the equations of ``multilevel``.

A level is solved in tiles with a margin as wide as its sweeps reach, so that what a tile holds does
not depend on the tiling, and only in tiles that some pixel of the soft band takes values from.
Between levels both layers are kept with 8 bits, which changes nothing that can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import strips
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.multilevel import (
    GRADIENT_WEIGHT,
    REGULARIZATION,
    SURELY_BACKGROUND,
    SURELY_FOREGROUND,
    level_sizes,
    sweeps,
)

# Side of a tile, even. What its sweeps work on stays in the second-level cache of a core.
TILE = 128
# Tiles that one thread solves before it takes more, with the same buffers.
_RUN = 8
_UNIT = np.float32(1 / 255)

Core = tuple[slice, slice]
Store = Callable[[Core, Floats], None]


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a picture.

    ``rgb``: uint8 [h,w,3] and ``alpha``: uint8 [h,w], every 2**k-th pixel of it. ``needed``: uint8
    [h,w], not 0 where the level's values are asked for. ``count``: its sweeps.
    """

    rgb: Bytes
    alpha: Bytes
    needed: Bytes
    count: int

    @property
    def margin(self) -> int:
        """Pixels round a tile that are solved along with it: even, at least ``count``."""
        return self.count + self.count % 2


def estimate(rgb: Bytes, alpha: Bytes, tile: int = TILE) -> Bytes:
    """uint8 [H,W,3], a new array: the foreground's colours in the soft band, ``rgb``'s elsewhere.

    ``rgb``: uint8 [H,W,3]; ``alpha``: uint8 [H,W]. ``tile``: side of the tiles, even, which does
    not change the result. Takes some 5 bytes a pixel beside the result.
    """
    levels = _levels(rgb, alpha)
    layers = _means(rgb, alpha)
    for level in reversed(levels[1:]):
        layers = _solve_layers(level, layers, tile)
    result = rgb.copy()
    _solve_picture(levels[0], layers, result, tile)
    return result


def soft(alpha: Bytes) -> Bytes:
    """uint8 like ``alpha``: 1 in the soft band, where it is neither 0 nor 255; else 0."""
    # 0 wraps round to 255.
    band: Bytes = np.less(alpha - np.uint8(1), np.uint8(254)).view(np.uint8)
    return band


def _levels(rgb: Bytes, alpha: Bytes) -> list[Level]:
    """The levels from the picture's own on. ``needed`` of the first is the soft band."""
    levels: list[Level] = []
    needed = soft(alpha)
    for number, size in enumerate(level_sizes(*alpha.shape)):
        step = 1 << number
        if number:
            needed = _parents(levels[-1].needed, levels[-1].count)
        count = sweeps(number, size)
        levels.append(Level(rgb[::step, ::step], alpha[::step, ::step], needed, count))
    return levels


def _parents(needed: Bytes, reach: int) -> Bytes:
    """uint8 [ceil(h/2),ceil(w/2)]: from which pixels of the next level ``needed`` takes values."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    height, width = needed.shape
    wide = np.zeros((height + height % 2, width + width % 2), np.uint8)
    wide[:height, :width] = cv2.dilate(needed, kernel)
    rows = wide[::2] | wide[1::2]
    parents: Bytes = (rows.view(np.uint16) != 0).view(np.uint8)
    return parents


def _means(rgb: Bytes, alpha: Bytes) -> Bytes:
    """uint8 [6,1,1]: mean colour of what is surely foreground, then of surely background."""
    sure = (alpha > 255 * SURELY_FOREGROUND, alpha < 255 * SURELY_BACKGROUND)
    means = [cv2.mean(rgb, where.view(np.uint8))[:3] for where in sure]
    colours: Bytes = np.rint(np.array(means)).astype(np.uint8).reshape(6, 1, 1)
    return colours


def _solve_layers(level: Level, before: Bytes, tile: int) -> Bytes:
    """uint8 [6,h,w]: both layers of ``level``, only the needed tiles of it filled."""
    layers = np.empty((6, *level.alpha.shape), np.uint8)

    def store(core: Core, found: Floats) -> None:
        found += np.float32(0.5)
        layers[:, core[0], core[1]] = found

    _solve(level, before, store, tile)
    return layers


def _solve_picture(level: Level, before: Bytes, picture: Bytes, tile: int) -> None:
    """Put the foreground's colours into the needed pixels of ``picture``, uint8 [h,w,3]."""

    def store(core: Core, found: Floats) -> None:
        needed = level.needed[core].view(np.bool_)
        for channel in range(3):
            colours = (found[channel] + np.float32(0.5)).astype(np.uint8)
            np.copyto(picture[..., channel][core], colours, where=needed)

    _solve(level, before, store, tile)


def _solve(level: Level, before: Bytes, store: Store, tile: int) -> None:
    """Solve the needed tiles, each handed to ``store`` with its layers, float32 [6,h,w] in 0..255,
    which are good until it returns. ``before``: the layers of the level before."""
    height, width = level.alpha.shape
    corners = [
        (top, int(left))
        for top in range(0, height, tile)
        for left in np.flatnonzero(_columns(level.needed[top : top + tile], tile)) * tile
    ]

    def work(number: int) -> None:
        bench = _Bench(level, before, tile)
        for top, left in corners[number * _RUN : (number + 1) * _RUN]:
            core = (slice(top, min(top + tile, height)), slice(left, min(left + tile, width)))
            store(core, bench.solve(core))

    strips.each(work, -(-len(corners) // _RUN))


def _columns(needed: Bytes, tile: int) -> NDArray[np.bool_]:
    """For each tile of a row of them whether it holds a pixel that is needed."""
    starts = np.arange(0, needed.shape[1], tile)
    some: NDArray[np.bool_] = np.maximum.reduceat(needed.max(axis=0), starts) > 0
    return some


class _Bench:
    """Where the tiles of one level are solved, one after the other in the same memory."""

    def __init__(self, level: Level, before: Bytes, tile: int) -> None:
        self._level, self._before = level, before
        side = tile + 2 * level.margin
        planes = {"layers": 6, "alpha": 1, "across": 1, "down": 1}
        self._buffers = {
            name: np.empty(n * (side + 2) ** 2, np.float32) for name, n in planes.items()
        }
        planes = {"means": 6, "rgb": 3, "rest": 6, "shares": 4, "sums": 1, "scales": 1, "behind": 1}
        self._buffers |= {name: np.empty(n * side**2, np.float32) for name, n in planes.items()}

    def _get(self, name: str, *shape: int) -> Floats:
        """The start of a buffer, in one piece."""
        return self._buffers[name][: math.prod(shape)].reshape(shape)

    def solve(self, core: Core) -> Floats:
        """Both layers of ``core``, float32 [6,h,w] in 0..255, good until the next call."""
        level, margin = self._level, self._level.margin
        rows, columns = (
            slice(max(part.start - margin, 0), min(part.stop + margin, extent))
            for part, extent in zip(core, level.alpha.shape, strict=True)
        )
        layers = self._begin(rows, columns)
        alpha, rgb = self._picture(rows, columns)
        shares = self._weigh(alpha)
        for _ in range(level.count):
            self._sweep(layers, alpha[1:-1, 1:-1], rgb, shares)
        top, left = core[0].start - rows.start + 1, core[1].start - columns.start + 1
        height, width = core[0].stop - core[0].start, core[1].stop - core[1].start
        return layers[:, top : top + height, left : left + width]

    def _begin(self, rows: slice, columns: slice) -> Floats:
        """[6,h+2,w+2]: every pixel's parent of the level before; the frame is left open."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        layers = self._get("layers", 6, height + 2, width + 2)
        parents = self._before[
            :, rows.start // 2 : (rows.stop + 1) // 2, columns.start // 2 : (columns.stop + 1) // 2
        ]
        # The first row and column are even: the margin is, and the tile.
        layers[:, 1:-1:2, 1:-1:2] = parents
        layers[:, 1:-1:2, 2:-1:2] = parents[..., : width // 2]
        layers[:, 2:-1:2, 1:-1] = layers[:, 1:-2:2, 1:-1]
        return layers

    def _picture(self, rows: slice, columns: slice) -> tuple[Floats, Floats]:
        """Alpha [h+2,w+2] in 0..1, its border repeated, and the colours [3,h,w] in 0..255."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        alpha = self._get("alpha", height + 2, width + 2)
        np.multiply(self._level.alpha[rows, columns], _UNIT, out=alpha[1:-1, 1:-1])
        _frame(alpha)
        rgb = self._get("rgb", 3, height, width)
        rgb[...] = self._level.rgb[rows, columns].transpose(2, 0, 1)
        return alpha, rgb

    def _weigh(self, alpha: Floats) -> Floats:
        """[4,h,w]: the neighbours' shares, which sum to 1: left, right, above, below.

        Also sets what ``_sweep`` needs: 1 / (S + a a + (1 - a)(1 - a)) and 1 - a.
        """
        height, width = alpha.shape[0] - 2, alpha.shape[1] - 2
        across = self._get("across", height, width + 1)
        down = self._get("down", height + 1, width)
        for differences, one, other in (
            (across, alpha[1:-1, 1:], alpha[1:-1, :-1]),
            (down, alpha[1:, 1:-1], alpha[:-1, 1:-1]),
        ):
            np.subtract(one, other, out=differences)
            np.abs(differences, out=differences)
            differences *= np.float32(GRADIENT_WEIGHT)
            differences += np.float32(REGULARIZATION)
        neighbours = (across[:, :-1], across[:, 1:], down[:-1], down[1:])
        sums = self._get("sums", height, width)
        np.add(neighbours[0], neighbours[1], out=sums)
        sums += neighbours[2]
        sums += neighbours[3]
        self._scale(alpha[1:-1, 1:-1], sums)
        np.reciprocal(sums, out=sums)
        shares = self._get("shares", 4, height, width)
        for share, weight in zip(shares, neighbours, strict=True):
            np.multiply(weight, sums, out=share)
        return shares

    def _scale(self, alpha: Floats, sums: Floats) -> None:
        behind = self._get("behind", *alpha.shape)
        np.subtract(np.float32(1), alpha, out=behind)
        scales = self._get("scales", *alpha.shape)
        rest = self._get("rest", *alpha.shape)
        np.multiply(alpha, alpha, out=scales)
        np.multiply(behind, behind, out=rest)
        scales += rest
        scales += sums
        np.reciprocal(scales, out=scales)

    def _sweep(self, layers: Floats, alpha: Floats, rgb: Floats, shares: Floats) -> None:
        """One sweep over ``layers`` [6,h+2,w+2], in place."""
        _frame(layers)
        means = self._get("means", 6, *alpha.shape)
        rest = self._get("rest", 6, *alpha.shape)
        np.multiply(layers[:, 1:-1, :-2], shares[0], out=means)
        for neighbour, share in (
            (layers[:, 1:-1, 2:], shares[1]),
            (layers[:, :-2, 1:-1], shares[2]),
            (layers[:, 2:, 1:-1], shares[3]),
        ):
            np.multiply(neighbour, share, out=rest)
            means += rest
        behind, scales = self._get("behind", *alpha.shape), self._get("scales", *alpha.shape)
        np.multiply(means[:3], alpha, out=rest[:3])
        np.multiply(means[3:], behind, out=rest[3:])
        missing = rest[:3]
        missing += rest[3:]
        np.subtract(rgb, missing, out=missing)
        missing *= scales
        np.multiply(missing, behind, out=rest[3:])
        missing *= alpha
        means += rest
        np.clip(means, 0, 255, out=layers[:, 1:-1, 1:-1])


def _frame(planes: Floats) -> None:
    """Repeat the border of [..,h+2,w+2] into its frame."""
    planes[..., 0, :] = planes[..., 1, :]
    planes[..., -1, :] = planes[..., -2, :]
    planes[..., 0] = planes[..., 1]
    planes[..., -1] = planes[..., -2]
