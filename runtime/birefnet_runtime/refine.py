"""The model's answer -> full-resolution alpha; and composition on a colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import strips
from birefnet_runtime.frame import Bytes, Floats

# Pixels of a plane that is enlarged at once: 128 MiB of float32.
WHOLE = 1 << 25
# Pixels rounded at a time: 1 MiB of float32, which a core's cache holds.
_ROWS = 1 << 18
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

    Enlarged as ``Enlarged`` says. ``own`` (uint8 [H,W]), the picture's own alpha, is multiplied in.
    Float until the end, clipped to 0..1, then rounded once.
    """
    alpha = np.empty(size, np.uint8)
    enlarged = Enlarged(small, size)
    step = max(1, _ROWS // size[1])
    for top in range(0, size[0], step):
        bottom = min(top + step, size[0])
        values = enlarged.rows(top, bottom)
        multiply(values, None if own is None else own[top:bottom])
        alpha[top:bottom] = round_to(values)
    return alpha


class Enlarged:
    """A plane at a picture's size, some rows at a time: float32 [h,w] in 0..1 to ``size`` (H, W).

    An axis that grows is interpolated with a bicubic kernel (a = -0.75), an axis that shrinks is
    averaged over the exact area of each pixel, so that nothing aliases. Up to ``WHOLE`` pixels it
    is made at once, by OpenCV; above that only along rows, and columns are interpolated as they are
    asked for, in float32 too, within 1e-5 of the same.
    """

    def __init__(self, small: Floats, size: tuple[int, int]) -> None:
        height, width = size
        self._whole = height * width <= WHOLE
        if self._whole:
            self._plane = resize(small, size)
            return
        averaged = resize(small, (min(small.shape[0], height), width), clip=False)
        self._plane = averaged
        self._bounds, self._weights = _cubic(len(averaged), height)

    def rows(self, top: int, bottom: int) -> Floats:
        """float32 [bottom - top, W] in 0..1, the caller's to overwrite."""
        if self._whole:
            return self._plane[top:bottom].copy()
        taps = zip(self._bounds[:, top:bottom], self._weights[:, top:bottom, None], strict=True)
        total = np.zeros((bottom - top, self._plane.shape[1]), np.float32)
        for places, weights in taps:
            total += self._plane[places] * weights
        return np.clip(total, 0, 1, out=total)


def _cubic(before: int, after: int) -> tuple[NDArray[np.int64], Floats]:
    """Places int64 [4,after] in an axis of ``before`` and their weights float32 [4,after].

    Keys's kernel, Cubic Convolution Interpolation (1981), with a = -0.75 as in OpenCV; the border
    is repeated.
    """
    a = -0.75
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    first = np.floor(centres).astype(np.int64)
    near = centres - first
    far = 1 - near
    inner = [((a + 2) * x - (a + 3)) * x * x + 1 for x in (near, far)]
    outer = [((a * x - 5 * a) * x + 8 * a) * x - 4 * a for x in (near + 1, far + 1)]
    weights = np.stack([outer[0], inner[0], inner[1], outer[1]])
    places = np.clip(first + np.arange(-1, 3)[:, None], 0, before - 1)
    return places, weights.astype(np.float32)


def resize(small: Floats, size: tuple[int, int], clip: bool = True) -> Floats:
    """float32 [H,W] in 0..1, owned by the caller; area average to shrink, bicubic to grow.

    Without ``clip`` the kernel's overshoot stays.
    """
    height, width = size
    rows, columns = min(small.shape[0], height), min(small.shape[1], width)
    averaged = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_AREA)
    full = cv2.resize(averaged, (width, height), interpolation=cv2.INTER_CUBIC)
    alpha: Floats = np.asarray(full, np.float32)
    return np.clip(alpha, 0, 1, out=alpha) if clip else alpha


def multiply(alpha: Floats, own: Bytes | None) -> None:
    """Multiply ``alpha`` in 0..1, in place, by a picture's own, uint8 of the same shape."""
    if own is not None:
        alpha *= own * np.float32(1 / 255)


def round_to(alpha: Floats, depth: int = 8) -> Floats:
    """0..1 becomes whole numbers in 0..2**depth - 1, half to even, in place and still float32."""
    alpha *= (1 << depth) - 1
    return np.rint(alpha, out=alpha)


def compose(
    rgb: NDArray[Any], alpha: NDArray[Any], behind: tuple[int, int, int] | NDArray[Any]
) -> NDArray[Any]:
    """[H,W,3]: straight ``rgb`` [H,W,3] over ``behind`` by ``alpha`` [H,W], exactly rounded.

    All uint8, or all uint16. ``behind``: a colour, or [H,W,3].
    (t + half + ((t + half) >> bits)) >> bits is t / (2**bits - 1) rounded, for every product.
    """
    bits = 8 * rgb.itemsize
    whole, half = (1 << bits) - 1, np.uint32(1 << bits - 1)
    kind: Any = np.uint16 if bits == 8 else np.uint32
    result = np.empty_like(rgb, order="C")
    colour = np.asarray(behind, rgb.dtype)
    if colour.ndim == 1:
        # One strip of it, in one piece: broadcasting three values at a time is slow.
        colour = np.tile(colour, (min(_STRIP, len(rgb)), rgb.shape[1], 1))

    def work(number: int) -> None:
        rows = slice(number * _STRIP, min((number + 1) * _STRIP, len(rgb)))
        under = colour[rows] if len(colour) == len(rgb) else colour[: rows.stop - rows.start]
        share = np.asarray(cv2.merge([alpha[rows]] * 3)).astype(kind)
        total = rgb[rows] * share
        np.subtract(kind(whole), share, out=share)
        share *= under
        total += share
        total += kind(half)
        share = total >> bits
        total += share
        np.right_shift(total, bits, out=total)
        result[rows] = total

    strips.each(work, -(-len(rgb) // _STRIP))
    return result
