"""What a caller may have done to the mask: guided by the colours, grown, feathered, stretched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.options import Options

Alpha = NDArray[Any]

# Sides above this many pixels are averaged down before the guided filter's coefficients are found,
# in boxes of radius 2 with this regularisation: of the settings tried on a measured hair matte
# these helped a mask that is softer than its grid most (error squared -17 %, gradient -20 %), and
# they harm one that is not.
GUIDE_SIDE = 1024
GUIDE_RADIUS = 2
GUIDE_EPSILON = 1e-5
# A Gaussian is cut off so many sigmas from its centre: what is left out is 6e-5 of it.
_REACH = 4.0
# A disc is grown by one of at most this radius at a time: a large kernel costs its area per pixel.
_DISC = 8
# Pixels at a time, in float32.
_STRIP = 1 << 20


def adjusts(options: Options) -> bool:
    """Whether ``adjust`` changes anything."""
    return (
        options.guided
        or options.offset != 0
        or options.feather > 0
        or tuple(options.levels) != (0, 1)
    )


def adjust(alpha: Alpha, rgb: Bytes, options: Options) -> Alpha:
    """``alpha`` [H,W], uint8 or uint16, as ``options`` say: guided by ``rgb`` uint8 [H,W,3], then
    grown, then feathered, then stretched. A new array, or ``alpha`` itself where nothing changes.
    """
    if options.guided:
        alpha = guide(alpha, rgb)
    if options.offset:
        alpha = grow(alpha, options.offset)
    if options.feather > 0 or tuple(options.levels) != (0, 1):
        alpha = feather(alpha, options.feather, options.levels)
    return alpha


def grow(alpha: Alpha, pixels: int) -> Alpha:
    """A new array: the largest value within ``pixels``, or the smallest where it is negative.

    The neighbourhood is a disc; of more than 8 pixels a sum of discs.
    """
    change = cv2.dilate if pixels > 0 else cv2.erode
    left = abs(pixels)
    while left:
        radius = min(left, _DISC)
        alpha = np.asarray(change(alpha, _disc(radius)), alpha.dtype)
        left -= radius
    return alpha


def _disc(radius: int) -> Bytes:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    # Less than half a pixel more than the radius: a disc of 1 is a cross, and one of 2 no diamond.
    disc: Bytes = (y * y + x * x < radius * (radius + 1)).astype(np.uint8)
    return disc


def feather(alpha: Alpha, sigma: float, levels: tuple[float, float] = (0.0, 1.0)) -> Alpha:
    """A new array: blurred by a Gaussian of ``sigma`` pixels, the border repeated, then ``levels``
    (low, high) become 0 and 1. Float32 in between, rounded once."""
    reach = int(np.ceil(_REACH * sigma))
    whole = np.float32(np.iinfo(alpha.dtype).max)
    low, high = levels
    result = np.empty_like(alpha)
    for rows, wide in _strips(alpha.shape, reach):
        values: Floats = alpha[wide] * (1 / whole)
        if sigma > 0 and (values.min() < values.max()):
            side = 2 * reach + 1
            blurred = cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
            values = np.asarray(blurred, np.float32)
        values = values[rows.start - wide.start : rows.stop - wide.start]
        values -= np.float32(low)
        values *= whole / np.float32(high - low)
        result[rows] = np.rint(np.clip(values, 0, whole, out=values), out=values)
    return result


def _strips(shape: tuple[int, ...], reach: int) -> Iterator[tuple[slice, slice]]:
    """Rows of a picture, and the same with up to ``reach`` more on both sides."""
    height, width = shape
    step = max(2 * reach, _STRIP // width, 1)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        yield rows, slice(max(top - reach, 0), min(rows.stop + reach, height))


def guide(alpha: Alpha, rgb: Bytes) -> Alpha:
    """A new array: in the soft band alpha is what the colours say, elsewhere it stays.

    The colour guided filter, its coefficients found on a small picture and enlarged: He and Sun,
    "Fast Guided Filter", 2015.
    """
    height, width = alpha.shape
    whole = np.iinfo(alpha.dtype).max
    scale = min(1.0, GUIDE_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    guidance = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    target = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA) * np.float32(1 / whole)
    planes = coefficients(guidance, target)
    # Along the rows at once, along the columns as they are needed.
    wide = cv2.resize(planes, (width, len(planes)), interpolation=cv2.INTER_LINEAR)
    result = alpha.copy()
    for rows, _ in _strips(alpha.shape, 0):
        line = _lines(np.asarray(wide, np.float32), height, rows)
        values = line[..., 3] + np.einsum("ijk,ijk->ij", line[..., :3], rgb[rows] * _UNIT)
        band = (alpha[rows] != 0) & (alpha[rows] != whole)
        np.copyto(
            result[rows], np.rint(np.clip(values, 0, 1) * whole), where=band, casting="unsafe"
        )
    return result


_UNIT = np.float32(1 / 255)


def coefficients(guidance: Floats, target: Floats) -> Floats:
    """float32 [h,w,4]: (a, b) such that a . colour + b is near ``target`` [h,w] round each pixel of
    ``guidance`` [h,w,3]; all in 0..1."""
    side = (2 * GUIDE_RADIUS + 1,) * 2

    def mean(values: Floats) -> NDArray[np.float64]:
        blurred = cv2.blur(values.astype(np.float64), side, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(blurred, np.float64)

    colour, alpha = mean(guidance), mean(target)
    product = mean(guidance * target[..., None]) - colour * alpha[..., None]
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    spread = np.empty((*target.shape, 3, 3))
    for one, other in pairs:
        both = mean(guidance[..., one] * guidance[..., other])
        both -= colour[..., one] * colour[..., other]
        spread[..., one, other] = spread[..., other, one] = both
    spread += GUIDE_EPSILON * np.eye(3)
    slope = np.linalg.solve(spread, product[..., None])[..., 0]
    offset = alpha - (slope * colour).sum(2)
    found: Floats = mean(np.dstack([slope, offset])).astype(np.float32)
    return found


def _lines(planes: Floats, height: int, rows: slice) -> Floats:
    """``rows`` of ``planes`` [h,W,4] at ``height``: linear, at the centres of pixels."""
    at = (np.arange(rows.start, rows.stop) + 0.5) * len(planes) / height - 0.5
    at = np.clip(at, 0, len(planes) - 1)
    first = at.astype(np.intp)
    second = np.minimum(first + 1, len(planes) - 1)
    near = (at - first).astype(np.float32)[:, None, None]
    lines: Floats = planes[first] * (1 - near) + planes[second] * near
    return lines
