"""Blur fusion: the foreground's colours from two blurs, wide and narrow.

Forte, "Approximate Fast Foreground Colour Estimation", ICIP 2021, both passes, as BiRefNet's
``refine_foreground`` runs it on the CPU: a box of 90 pixels, then of 6, OpenCV's window and border.
"""

from __future__ import annotations

import cv2
import numpy as np

from birefnet_runtime import strips
from birefnet_runtime.frame import Bytes, Floats

WIDE, NARROW = 90, 6
_EPSILON = np.float32(1e-5)
_UNIT = np.float32(1 / 255)
# Rows above and below that both windows reach together.
_REACH = WIDE // 2 + NARROW // 2
# Pixels of a strip with what it reaches: some 160 MB in float32 while it is worked on.
_STRIP = 1 << 22


def estimate(rgb: Bytes, alpha: Bytes) -> Bytes:
    """uint8 [H,W,3], a new array: the foreground's colours in the soft band, else ``rgb``'s.

    Made in strips, so that memory beside the result does not grow with the picture's height.
    """
    height, width = alpha.shape
    step = max(_STRIP // width - 2 * _REACH, _REACH)
    result = rgb.copy()

    def work(number: int) -> None:
        rows = slice(number * step, min((number + 1) * step, height))
        band = (alpha[rows] != 0) & (alpha[rows] != 255)
        if not band.any():
            return
        wide = slice(max(rows.start - _REACH, 0), min(rows.stop + _REACH, height))
        found = _fuse(rgb[wide], alpha[wide])[rows.start - wide.start : rows.stop - wide.start]
        np.copyto(result[rows], found, where=band[..., None])

    strips.each(work, -(-height // step))
    return result


def _fuse(rgb: Bytes, alpha: Bytes) -> Bytes:
    """Both passes over a picture, or over rows of one; truncated to 8 bits as the reference is."""
    share = alpha * _UNIT
    rest = 1 - share
    covers = [_mean(share, side) for side in (WIDE, NARROW)]
    found = np.empty_like(rgb)
    for channel in range(3):
        picture = rgb[..., channel] * _UNIT
        front, behind = picture, picture
        for side, cover in zip((WIDE, NARROW), covers, strict=True):
            front, behind = step(picture, front, behind, (share, rest), cover, side)
        front *= 255
        found[..., channel] = front
    return found


def step(
    picture: Floats,
    front: Floats,
    behind: Floats,
    shares: tuple[Floats, Floats],
    cover: Floats,
    side: int,
) -> tuple[Floats, Floats]:
    """One pass of one channel, all float32 [H,W] in 0..1: foreground, and blurred background.

    ``shares``: alpha and 1 - alpha; ``cover``: alpha's mean over the window.
    """
    share, rest = shares
    blurred = _mean(front * share, side)
    blurred /= cover + _EPSILON
    background = _mean(behind * rest, side)
    background /= (1 - cover) + _EPSILON
    missing = picture - share * blurred
    missing -= rest * background
    missing *= share
    blurred += missing
    return np.clip(blurred, 0, 1, out=blurred), background


def _mean(values: Floats, side: int) -> Floats:
    return np.asarray(cv2.blur(values, (side, side)), np.float32)
