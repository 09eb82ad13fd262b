"""Frame -> Tensor: what the network was trained on."""

from __future__ import annotations

import numpy as np
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Bytes, Floats, Frame, Slot


class Preprocess:
    """Squeezes pictures to a contract's size and normalises them.

    The reference is Pillow's bilinear ``resize`` (a triangle filter that widens when it scales
    down, so nothing aliases; 8-bit result), then / 255, - mean, / std: the very call that
    BiRefNet's own example makes, so this is Pillow too.
    """

    def __init__(self, contract: Contract) -> None:
        self._size = (contract.width, contract.height)
        self._table = table(contract)

    def run(self, frame: Frame, slot: Slot) -> None:
        """Write ``frame`` into row 0 of ``slot.tensor``: float32 [3,h,w], RGB, normalised."""
        small = resize(frame.rgb, self._size)
        for channel, plane in enumerate(slot.tensor[0]):
            np.take(self._table[channel], small[..., channel], out=plane, mode="clip")


def resize(rgb: Bytes, size: tuple[int, int]) -> Bytes:
    """uint8 [h,w,3] from uint8 [H,W,3]; ``size`` is (w, h)."""
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def table(contract: Contract) -> Floats:
    """float32 [3,256]: the normalised value of each of a channel's 256 levels."""
    levels = np.arange(256) / 255
    mean, std = (np.asarray(values)[:, None] for values in (contract.mean, contract.std))
    normal: Floats = ((levels - mean) / std).astype(np.float32)
    return normal
