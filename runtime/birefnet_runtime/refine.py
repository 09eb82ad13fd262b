"""The model's answer -> full-resolution alpha; and composition on a colour."""

from __future__ import annotations

import cv2
import numpy as np

from birefnet_runtime.frame import Bytes, Floats

# Rows composed at a time, so that the 16-bit intermediate of a 4000 pixel wide picture stays in
# cache.
_STRIP = 16


def activate(values: Floats, activation: str) -> Floats:
    """float32 [h,w] in 0..1 from alpha (``none``) or logits (``sigmoid``); never stretched.

    The sigmoid is taken through tanh, which does not overflow for any float.
    """
    if activation == "sigmoid":
        values = np.tanh(values * np.float32(0.5)) * np.float32(0.5) + np.float32(0.5)
    alpha: Floats = np.clip(values, np.float32(0), np.float32(1))
    return alpha


def to_alpha(small: Floats, size: tuple[int, int], own: Bytes | None = None) -> Bytes:
    """uint8 [H,W] from float32 [h,w] in 0..1; ``size`` is (H, W).

    An axis that grows is interpolated with a bicubic kernel (OpenCV's, a = -0.75), an axis that
    shrinks is averaged over the exact area of each pixel, so that nothing aliases. ``own`` (uint8
    [H,W]), the picture's own alpha, is multiplied in. Float until the end, clipped to 0..1, then
    rounded once.
    """
    alpha = resize(small, size)
    if own is not None:
        alpha *= own * np.float32(1 / 255)
    return quantise(alpha)


def resize(small: Floats, size: tuple[int, int]) -> Floats:
    """float32 [H,W] in 0..1, owned by the caller; area average to shrink, bicubic to grow."""
    height, width = size
    rows, columns = min(small.shape[0], height), min(small.shape[1], width)
    averaged = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
    full = cv2.resize(averaged, (width, height), interpolation=cv2.INTER_CUBIC)
    alpha: Floats = np.asarray(full, np.float32)
    return np.clip(alpha, 0, 1, out=alpha)


def quantise(alpha: Floats) -> Bytes:
    """uint8 from float32 in 0..1, rounded half to even; ``alpha`` is overwritten."""
    alpha *= 255
    return np.rint(alpha, out=alpha).astype(np.uint8)


def compose(rgb: Bytes, alpha: Bytes, colour: tuple[int, int, int]) -> Bytes:
    """uint8 [H,W,3]: straight ``rgb`` [H,W,3] over ``colour`` by ``alpha`` [H,W], exactly rounded.

    (t + 128 + ((t + 128) >> 8)) >> 8 is t / 255 rounded for every t up to 255 * 255, in 16 bits.
    """
    result = np.empty_like(rgb, order="C")
    behind = np.asarray(colour, np.uint16)
    for top in range(0, len(rgb), _STRIP):
        rows = slice(top, top + _STRIP)
        share = alpha[rows, :, None].astype(np.uint16)
        total = rgb[rows] * share + behind * (255 - share) + np.uint16(128)
        total += total >> 8
        result[rows] = total >> 8
    return result
