"""Frame -> Tensor: what the network was trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Bytes, Floats, Frame, Slot, View

# Pixels that are handed to Pillow at once, at 4 bytes each, and rows of those that are too many.
_WHOLE, _STRIP = 1 << 25, 256


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

    Of a large picture the axes are taken one after the other, as Pillow does inside, columns in
    strips: it would need four bytes for each of its pixels otherwise.
    """
    width, height = size
    if rgb.shape[0] * rgb.shape[1] > _WHOLE:
        strips = [
            _bilinear(rgb[top : top + _STRIP], (width, min(_STRIP, len(rgb) - top)))
            for top in range(0, len(rgb), _STRIP)
        ]
        rgb = np.concatenate(strips)
    return _bilinear(rgb, (width, height))


def _bilinear(rgb: Bytes, size: tuple[int, int]) -> Bytes:
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def table(contract: Contract) -> Floats:
    """float32 [3,256]: the normalised value of each of a channel's 256 levels."""
    levels = np.arange(256) / 255
    mean, std = (np.asarray(values)[:, None] for values in (contract.mean, contract.std))
    normal: Floats = ((levels - mean) / std).astype(np.float32)
    return normal
