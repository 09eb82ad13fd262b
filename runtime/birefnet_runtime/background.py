"""What lies behind a cut-out: a picture, its own background out of focus, or a checkerboard."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from birefnet_runtime.decode import decode
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.options import BLUR, CHECKER, MAX_PIXELS, Colour, Options

# The two greys of image editors, and how many cells go along the longer side.
_LIGHT, _DARK = 255, 204
_CELLS = 64
# Out of focus is as coarse as this: blurred at so many pixels along the longer side, by this sigma.
_BLUR_SIDE = 512
_SIGMA = 10.0
# Sigmas from wide to narrow. Where a narrow one finds hardly any background, deep in the subject,
# the wider one before it fills in.
_WIDENING = (16.0, 4.0, 1.0)
_HARDLY = 1e-3


def behind(
    options: Options, foreground: Bytes, alpha: Bytes, part: tuple[slice, slice]
) -> Colour | Bytes:
    """A colour, or uint8 [h,w,3] behind ``part`` of ``foreground`` [H,W,3] and ``alpha`` [H,W].

    Only for options with a background. Its own background stays in its place when the picture is
    cropped; a checkerboard and a picture are made for the part that is shown. Raises InputError for
    a picture that cannot be read.
    """
    if options.colour is not None:
        return options.colour
    backdrop = options.backdrop
    if backdrop == BLUR:
        return out_of_focus(foreground, alpha)[part]
    height, width = alpha[part].shape
    if backdrop == CHECKER:
        return checker((height, width))
    if isinstance(backdrop, bytes):
        # Perhaps a customer's: nothing of it stays in memory.
        return cover(decode(backdrop, options.max_pixels).rgb, (height, width))
    assert isinstance(backdrop, Path)
    return _covering(backdrop, _stamp(backdrop), (height, width))


def checker(size: tuple[int, int]) -> Bytes:
    """uint8 [H,W,3]: a checkerboard of light and dark grey."""
    cell = max(1, round(max(size) / _CELLS))
    rows, columns = (np.arange(extent) // cell % 2 for extent in size)
    board = np.where(rows[:, None] == columns, np.uint8(_LIGHT), np.uint8(_DARK))
    return np.repeat(board[..., None], 3, axis=2)


def cover(picture: Bytes, size: tuple[int, int]) -> Bytes:
    """uint8 [H,W,3], ``size``: ``picture`` scaled until it covers that, cut in the middle."""
    height, width = picture.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    rows, columns = size[0] / scale, size[1] / scale
    top, left = (height - rows) / 2, (width - columns) / 2
    # What rounding left of a side that fits exactly.
    box = (max(left, 0), max(top, 0), min(left + columns, width), min(top + rows, height))
    image = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC, box)
    return np.asarray(image)


def out_of_focus(foreground: Bytes, alpha: Bytes) -> Bytes:
    """uint8 [H,W,3]: the background blurred, made of pixels of alpha 0 alone, so that nothing of
    the subject spreads round it. Of all pixels where none is of alpha 0."""
    height, width = alpha.shape
    scale = min(1.0, _BLUR_SIDE / max(height, width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    open_ground = (alpha == 0).view(np.uint8)
    if not open_ground.any():
        open_ground[...] = 1
    colours = cv2.bitwise_and(foreground, foreground, mask=open_ground)
    open_ground *= 255
    shares = cv2.resize(open_ground, small, interpolation=cv2.INTER_AREA) * np.float32(1 / 255)
    sums = cv2.resize(colours, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = _fill(sums, np.asarray(shares, np.float32)[..., None])
    large = cv2.resize(
        np.rint(blurred).astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(large, np.uint8)


def _fill(sums: Floats, shares: Floats) -> Floats:
    """float32 [h,w,3] in 0..255: the blurred mean of what ``sums`` [h,w,3] holds ``shares`` of."""
    found: Floats = sums.sum((0, 1)) / np.maximum(shares.sum(), np.float32(1e-6))
    for widening in _WIDENING:
        sigma = _SIGMA * widening
        total = cv2.GaussianBlur(sums, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        weight = cv2.GaussianBlur(shares, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        found = (total + _HARDLY * found) / (weight[..., None] + _HARDLY)
    return np.clip(found, 0, 255)


def _stamp(source: Path) -> int:
    """Changes when a file does, as far as its clock tells."""
    try:
        return source.stat().st_mtime_ns
    except OSError:
        # It cannot be opened either, and that error says why.
        return 0


@lru_cache(maxsize=1)
def _covering(source: Path, stamp: int, size: tuple[int, int]) -> Bytes:
    """``source`` read and fitted, kept for the next picture of the same size."""
    picture = cover(decode(source, MAX_PIXELS).rgb, size)
    picture.setflags(write=False)
    return picture
