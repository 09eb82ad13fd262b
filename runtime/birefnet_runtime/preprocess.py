"""Frame -> Tensor: what the network was trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime import strips
from birefnet_runtime.frame import Bytes, Floats, Frame, Slot, View

# Rows that are handed to Pillow at once, and pixels from which threads are worth it.
_STRIP, _MANY = 256, 1 << 22


class Preprocess:
    """Squeezes pictures to a contract's size and normalises them.

    The reference is Pillow's bilinear ``resize`` (a triangle filter that widens when it scales
    down, so nothing aliases; 8-bit result), then / 255, - mean, / std: the very call that
    BiRefNet's own example makes, so this is Pillow too.
    """

    def __init__(self, contract: Contract) -> None:
        self._table = table(contract)

    def run(self, frame: Frame, slot: Slot, view: View | None = None) -> None:
        """Write ``frame`` into row 0 of ``slot.tensor``: float32 [3,h,w], RGB, normalised.

        With a view only its box, into its ``inner``; around that the tensor becomes 0.
        """
        rgb, planes = frame.rgb, slot.tensor[0]
        if view is not None:
            rgb = rgb[view.box.slices]
            if view.inner.size != planes.shape[1:]:
                planes[:] = 0
            planes = planes[(slice(None), *view.inner.slices)]
        small = resize(rgb, (planes.shape[2], planes.shape[1]))
        for channel, plane in enumerate(planes):
            values = plane if plane.flags.c_contiguous else np.empty_like(plane, order="C")
            np.take(self._table[channel], small[..., channel], out=values, mode="clip")
            if values is not plane:
                plane[:] = values


def resize(rgb: Bytes, size: tuple[int, int]) -> Bytes:
    """uint8 [h,w,3] from uint8 [H,W,3], perhaps a part of a larger picture; ``size`` is (w, h).

    Rows first, in strips, then columns, with 8 bits in between: what one call of Pillow does up to
    version 12, and what the kernels do. Pillow 13 takes columns first where that is less work,
    which may differ by one level.
    """
    width, height = size

    def narrow(number: int) -> Bytes:
        strip = rgb[number * _STRIP : (number + 1) * _STRIP]
        return _bilinear(strip, (width, len(strip)))

    threads = None if rgb.shape[0] * rgb.shape[1] >= _MANY else 1
    rows = strips.each(narrow, -(-len(rgb) // _STRIP), threads)
    return _bilinear(np.concatenate(rows), (width, height))


def _bilinear(rgb: Bytes, size: tuple[int, int]) -> Bytes:
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def table(contract: Contract) -> Floats:
    """float32 [3,256]: the normalised value of each of a channel's 256 levels."""
    levels = np.arange(256) / 255
    mean, std = (np.asarray(values)[:, None] for values in (contract.mean, contract.std))
    normal: Floats = ((levels - mean) / std).astype(np.float32)
    return normal
