"""A picture as its client sent it, opened in a worker: all of it or a region."""

from __future__ import annotations

import numpy as np

from birefnet_runtime.decode import decode
from birefnet_runtime.frame import Box, Bytes, Frame, Metadata
from birefnet_runtime.serve.geometry import Sight
from birefnet_runtime.serve.lengths import Region, Size
from birefnet_runtime.shrink import size_within


class Sent:
    """Opens ``data`` once, when a worker calls it, and remembers what the result needs.

    ``region``: what of the picture is cut out, None for all of it. ``max_pixels``: above which it
    is refused. ``limit``: pixels of the result before anything is moved or cropped, None for any.
    """

    def __init__(
        self, data: bytes, region: Region | None, max_pixels: int, limit: int | None
    ) -> None:
        self._data = data
        self._region = region
        self._max_pixels = max_pixels
        self._limit = limit
        self._size: Size = (0, 0)
        self._box = Box(0, 0, 0, 0)
        self.metadata = Metadata()

    @property
    def shrink(self) -> int | None:
        """To how many pixels it may be scaled down before it is cut out; None keeps all. A region
        is cut out as it is, and scaled when its place on the canvas is known."""
        return self._limit if self._region is None else None

    def open(self) -> Bytes:
        """uint8 [h,w,3] or [h,w,4], upright: the picture or its region. Raises InputError, and
        OptionError for a region without pixels."""
        frame = decode(self._data, self._max_pixels)
        self._size, self.metadata = frame.size, frame.metadata
        whole = Box(0, 0, *frame.size)
        self._box = whole if self._region is None else self._region.box(frame.size)
        return _pixels(frame, self._box)

    def sight(self, cut: Size) -> Sight:
        """How the pixels of its cut-out lie, ``cut`` (h, w), once it was opened."""
        if self._region is None:
            return Sight(self._size, self._box, cut, cut)
        return Sight(self._size, self._box, cut, size_within(self._size, self._limit))


def _pixels(frame: Frame, box: Box) -> Bytes:
    rgb = frame.rgb[box.slices]
    if frame.alpha is None:
        return rgb
    return np.dstack([rgb, frame.alpha[box.slices]])
