"""Sizes -> the weights of Pillow's bilinear resize, which the CUDA kernels apply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int32]
Doubles = NDArray[np.float64]

# Pillow's fixed point for 8-bit pictures: 32 bits less 8 of the pixel and 2 to spare
# (src/libImaging/Resample.c, PRECISION_BITS).
PRECISION_BITS = 22


@dataclass(frozen=True, eq=False)
class Coefficients:
    """One axis: output ``i`` is the weighted sum of inputs bounds[i,0] onwards, bounds[i,1] many.

    ``bounds``: int32 [out,2], first input and count, both ascending; always inside the input.
    ``weights``: int32 [taps,out], in units of 2**-22, not negative, 0 from the count on. An output
    is a column, so that the threads of a warp, which hold neighbouring outputs, read neighbours.
    Both arrays are C-contiguous and belong to the caller. They hold 4 * taps * out bytes, about
    8 * in + 12 * out.
    """

    bounds: Integers
    weights: Integers

    @property
    def taps(self) -> int:
        return len(self.weights)

    @property
    def size(self) -> int:
        """The number of outputs."""
        return len(self.bounds)


def coefficients(size_in: int, size_out: int) -> Coefficients:
    """Bit for bit what Pillow computes for ``resize(..., BILINEAR)`` on 8-bit pictures.

    Pillow passes over an axis whose size stays: here it is one tap of weight 1, the identity. The
    kernels take rows first and round to 8 bits in between, as every Pillow up to 12 does; 13 takes
    columns first where that costs less, and then differs by one level at most.
    Source: precompute_coeffs and normalize_coeffs_8bpc in Pillow's src/libImaging/Resample.c.
    """
    if size_in < 1 or size_out < 1:
        raise ValueError(f"sizes must be at least 1, not {size_in} -> {size_out}")
    if size_in == size_out:
        return _identity(size_in)
    # The box's edges are C floats in Pillow, which matters above 2**24.
    scale = float(np.float32(size_in)) / size_out
    # The triangle reaches one input to each side, or one output where it scales down.
    support = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + support + 0.5).astype(np.int64), size_in) - first
    tap = np.arange(int(np.ceil(support)) * 2 + 1)[:, None]
    triangle = 1.0 - np.abs((tap + first - centre + 0.5) * (1.0 / support))
    weights = np.where(tap < count, np.maximum(triangle, 0.0), 0.0)
    weights = _fixed(_normalised(weights))
    return Coefficients(np.stack([first, count], axis=1).astype(np.int32), weights)


def _identity(size: int) -> Coefficients:
    bounds = np.stack([np.arange(size), np.ones(size)], axis=1)
    weights = np.full((1, size), 1 << PRECISION_BITS, np.int32)
    return Coefficients(bounds.astype(np.int32), weights)


def _normalised(weights: Doubles) -> Doubles:
    # Summed from the first tap to the last, as Pillow does: another order rounds otherwise.
    total = np.add.accumulate(weights, axis=0)[-1]
    normal: Doubles = weights / total
    return normal


def _fixed(weights: Doubles) -> Integers:
    """int32, rounded half up; no weight of this filter is negative."""
    return (weights * (1 << PRECISION_BITS) + 0.5).astype(np.int32)
