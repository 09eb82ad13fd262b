"""A cut-out -> its pixels on another canvas and over another background."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet_runtime.background import cover
from birefnet_runtime.frame import Bytes, Words
from birefnet_runtime.refine import compose
from birefnet_runtime.serve.geometry import Placement

# Red, green, blue and alpha in 0..255.
Paint = tuple[int, int, int, int]

# Rows divided at a time, so that what lies between stays small.
_STRIP = 64


def lay(pixels: Bytes, placement: Placement) -> Bytes:
    """uint8 [H,W,4] or [H,W], the canvas: transparent but for the part of ``pixels``.

    ``pixels``: uint8 [h,w,4], straight, or a mask [h,w]. May be ``pixels`` itself. What is resized
    is averaged to shrink and interpolated to grow, colours by their alpha, so that nothing of what
    alpha hides shows.
    """
    part, at = placement.part, placement.at
    if at.size == placement.canvas == part.size == pixels.shape[:2]:
        return pixels
    piece = pixels[part.slices]
    if at.size != part.size:
        piece = _resize(piece, at.size)
    if at.size == placement.canvas:
        return np.ascontiguousarray(piece)
    canvas = np.zeros((*placement.canvas, *pixels.shape[2:]), np.uint8)
    canvas[at.slices] = piece
    return canvas


def over(rgba: Bytes, paint: Paint) -> Bytes:
    """uint8 [H,W,4]: straight ``rgba``, [H,W,4], over one colour with an alpha of its own."""
    ground = Image.new("RGBA", rgba.shape[1::-1], paint)
    return np.asarray(Image.alpha_composite(ground, Image.fromarray(rgba)))


def flatten(rgba: Bytes, behind: tuple[int, int, int] | Bytes) -> Bytes:
    """uint8 [H,W,3]: straight ``rgba``, [H,W,4], over a colour, or over a picture, uint8 [h,w,3],
    which is scaled to cover it and cut in the middle."""
    if not isinstance(behind, tuple):
        behind = cover(behind, (rgba.shape[0], rgba.shape[1]))
    colours = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
    return np.asarray(compose(colours, np.ascontiguousarray(rgba[..., 3]), behind), np.uint8)


def _resize(pixels: Bytes, size: tuple[int, int]) -> Bytes:
    """uint8 [h,w,4] straight or [h,w], at ``size``; in 16 bits while colours are multiplied."""
    found: NDArray[Any] = pixels if pixels.ndim == 2 else _multiplied(pixels)
    rows, columns = (min(pair) for pair in zip(pixels.shape[:2], size, strict=True))
    if (rows, columns) != pixels.shape[:2]:
        found = cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA)
    if (rows, columns) != size:
        found = cv2.resize(found, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(found, np.uint8) if pixels.ndim == 2 else _divided(found)


def _multiplied(rgba: Bytes) -> Words:
    """uint16 [h,w,4]: half of colours times alpha, and of alpha times 255.

    Half, so that what a bicubic kernel adds beside an edge has room.
    """
    alpha = cv2.extractChannel(rgba, 3)
    shares = cv2.merge([alpha, alpha, alpha, np.full_like(alpha, 255)])
    return np.asarray(cv2.multiply(rgba, shares, scale=0.5, dtype=cv2.CV_16U), np.uint16)


def _divided(weighed: Words) -> Bytes:
    """Straight uint8 [h,w,4] again; what is above 255 is cut off, and 0 by 0 is 0."""
    result = np.empty(weighed.shape, np.uint8)
    for top in range(0, len(weighed), _STRIP):
        strip = weighed[top : top + _STRIP]
        share = cv2.extractChannel(strip, 3)
        colours = cv2.cvtColor(strip, cv2.COLOR_RGBA2RGB)
        colours = cv2.divide(colours, cv2.merge([share] * 3), scale=255, dtype=cv2.CV_8U)
        alpha = cv2.convertScaleAbs(share, alpha=2 / 255)
        colours[alpha == 0] = 0
        result[top : top + _STRIP] = cv2.merge([*cv2.split(colours), alpha])
    return result
