"""A frame -> the same with fewer pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.frame import Frame
from birefnet_runtime.picture import to_eight_bits


def size_within(size: tuple[int, int], pixels: int | None) -> tuple[int, int]:
    """(height, width) of the same shape with at most ``pixels``, none of them 0; ``size`` itself
    where it has no more, or ``pixels`` is None."""
    height, width = size
    if pixels is None or height * width <= pixels:
        return size
    scale = (pixels / (height * width)) ** 0.5
    low, high = (max(1, int(side * scale)) for side in sorted(size))
    # A line of one pixel cannot get thinner, only shorter.
    high = min(high, pixels // low)
    return (low, high) if height <= width else (high, low)


def shrink(frame: Frame, pixels: int | None) -> Frame:
    """``frame`` scaled down to at most ``pixels``, averaged over areas; itself where it is."""
    height, width = size_within(frame.size, pixels)
    if (height, width) == frame.size:
        return frame

    def scale(plane: NDArray[Any]) -> NDArray[Any]:
        small = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, plane.dtype)

    wide = None if frame.wide is None else scale(frame.wide)
    alpha = None if frame.alpha is None else scale(frame.alpha)
    rgb = scale(frame.rgb) if wide is None else to_eight_bits(wide)
    return replace(frame, rgb=rgb, alpha=alpha, wide=wide)
