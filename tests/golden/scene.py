"""The picture of 1024 x 1024 behind the sampled logits, drawn from seeds alone.

Whole numbers only: every machine draws the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 1024
# Cells of the coarse grid of colours, and pixels from one to the next.
CELLS, STEP = 8, 128
SHAPES = 8
POINTS = 4096


def scene() -> NDArray[np.uint8]:
    """uint8 [1,1024,1024,3]: soft colours, ellipses over them, and noise of 7.5 levels over all."""
    rng = np.random.default_rng(0)
    picture = _soft(rng)
    for _ in range(SHAPES):
        picture[_ellipse(rng)] = rng.integers(0, 256, 3)
    # Three of these have a variance of 3 x (15 x 15 - 1) / 12 = 7.5 x 7.5.
    picture += rng.integers(-7, 8, (3, SIDE, SIDE, 3)).sum(0)
    return picture.clip(0, 255).astype(np.uint8)[None]


def points() -> NDArray[np.int64]:
    """[4096,2]: the rows and columns at which the logits are kept."""
    return np.random.default_rng(0).integers(0, SIDE, (POINTS, 2))


def _soft(rng: np.random.Generator) -> NDArray[np.int64]:
    """[H,W,3]: random colours on a coarse grid, linearly between them."""
    grid = rng.integers(0, 256, (CELLS + 1, CELLS + 1, 3))
    cell, part = np.divmod(np.arange(SIDE), STEP)
    rows = grid[cell] * (STEP - part)[:, None, None] + grid[cell + 1] * part[:, None, None]
    across = rows[:, cell] * (STEP - part)[:, None] + rows[:, cell + 1] * part[:, None]
    soft: NDArray[np.int64] = across // STEP**2
    return soft


def _ellipse(rng: np.random.Generator) -> NDArray[np.bool_]:
    """[H,W]: inside of a random ellipse, a dx^2 + b dx dy + c dy^2 <= 360^2 with b^2 < 4 a c."""
    y, x = rng.integers(0, SIDE, 2)
    a, c = rng.integers(4, 30, 2)
    b = rng.integers(-6, 7)
    dy, dx = np.arange(SIDE)[:, None] - y, np.arange(SIDE) - x
    inside: NDArray[np.bool_] = a * dx**2 + b * dx * dy + c * dy**2 <= 360**2
    return inside
