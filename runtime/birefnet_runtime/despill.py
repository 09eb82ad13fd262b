"""Colour thrown by a green or blue screen, taken out of the soft band."""

from __future__ import annotations

import numpy as np

from birefnet_runtime.frame import Bytes

# The channel of a screen's colour.
CHANNELS = {"green": 1, "blue": 2}
# Rows at a time: what lies between stays in cache.
_ROWS = 64


def apply(rgb: Bytes, alpha: Bytes, screen: str) -> Bytes:
    """uint8 [H,W,3], a new array: in the soft band the screen's channel is at most the larger of
    the other two; elsewhere ``rgb``.

    ``screen``: ``green`` or ``blue``. What is really of that colour turns grey there, so this is
    for pictures taken in front of a screen.
    """
    channel = CHANNELS[screen]
    one, other = (rgb[..., index] for index in range(3) if index != channel)
    result = rgb.copy()
    for top in range(0, len(rgb), _ROWS):
        rows = slice(top, top + _ROWS)
        limit = np.maximum(one[rows], other[rows])
        clean = np.minimum(rgb[rows, :, channel], limit)
        band = (alpha[rows] != 0) & (alpha[rows] != 255)
        np.copyto(result[rows, :, channel], clean, where=band)
    return result
