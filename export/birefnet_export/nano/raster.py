"""Float pictures and the few drawing calls that the scenes are made of (OpenCV underneath).

A *plane* is float32 [H,W] in 0..1, a *picture* float32 [H,W,3] RGB in 0..1. Points are float [N,2],
x then y, in units of the canvas side, so 0..1 is inside.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Picture = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]
Rng = np.random.Generator

# fillPoly and polylines take fixed-point coordinates with this many fractional bits.
FRACTION = 4


def as_float(image: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers as contiguous float32."""
    return np.ascontiguousarray(image, dtype=np.float32)


def to_bytes(image: NDArray[np.float32]) -> Bytes:
    """0..1 floats rounded to the nearest of 0..255."""
    levels: Bytes = np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
    return levels


def to_float(image: Bytes) -> NDArray[np.float32]:
    """0..255 bytes as float32 in 0..1."""
    return as_float(image) / np.float32(255.0)


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian of ``sigma`` pixels; wide ones are taken on a reduced copy, which costs a fifth."""
    if sigma < 0.2:
        return image
    if sigma <= 4.0:
        return as_float(cv2.GaussianBlur(image, (0, 0), sigma))
    height, width = image.shape[:2]
    factor = max(2, int(sigma / 2.0))
    small = resize(image, max(2, height // factor), max(2, width // factor))
    return resize(as_float(cv2.GaussianBlur(small, (0, 0), sigma / factor)), height, width)


def resize(image: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    """Area average when shrinking, cubic when growing. Keeps the number of channels."""
    shrinks = height < image.shape[0] or width < image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return as_float(cv2.resize(as_float(image), (width, height), interpolation=how))


def warp(image: NDArray[np.float32], matrix: NDArray[Any], size: int) -> NDArray[np.float32]:
    """``matrix`` [2,3] maps source pixels to a canvas of ``size``; outside is 0."""
    return as_float(cv2.warpAffine(image, as_float(matrix), (size, size), flags=cv2.INTER_AREA))


def fixed(points: Points, size: int) -> NDArray[np.int32]:
    """Canvas points as the integers that OpenCV draws with."""
    return np.rint(points * size * (1 << FRACTION)).astype(np.int32)


def polygon(points: Points, size: int) -> Plane:
    """Filled, antialiased polygon as a plane of ``size`` x ``size``."""
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [fixed(points, size)], 255, cv2.LINE_AA, FRACTION)
    return to_float(canvas)


def strokes(lines: list[Points], size: int, width: int = 1, value: int = 255) -> Plane:
    """Antialiased open polylines, ``width`` pixels wide, of strength ``value`` / 255."""
    canvas = np.zeros((size, size), np.uint8)
    cv2.polylines(
        canvas, [fixed(line, size) for line in lines], False, value, width, cv2.LINE_AA, FRACTION
    )
    return to_float(canvas)


def mix(base: Picture, top: Picture, plane: Plane | float) -> Picture:
    """``top`` over ``base`` with coverage ``plane``."""
    weight = plane[..., None] if isinstance(plane, np.ndarray) else np.float32(plane)
    return as_float(base + (top - base) * weight)


def luma(picture: Picture) -> Plane:
    """BT.601 luminance."""
    return as_float(picture @ np.array([0.299, 0.587, 0.114], np.float32))
