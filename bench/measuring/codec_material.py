"""What the codecs are measured on: 12 megapixels made of the dahlia in ``examples/``."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from birefnet_runtime import Matting, Options
from birefnet_runtime.frame import Bytes, Floats
from measuring.pictures import EXAMPLES, SIZES, photograph

MEGAPIXELS = 12
# Where a product shot's subject lies: 40 % of the width and height, in the middle.
_SHARE = 0.4


def small_alpha() -> Bytes:
    """uint8 [H,W]: the mask that the embedded model finds for the dahlia, at its own size."""
    with Matting.open("nano", "cpu") as matting:
        return matting.remove(EXAMPLES / "dahlia.jpg", Options(foreground="off")).alpha


def model_alpha(side: int) -> Floats:
    """float32 [side, side] in 0..1: the same mask as an answer of a model of that size."""
    alpha = cv2.resize(small_alpha(), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(alpha, np.float32) / np.float32(255)


def materials() -> dict[str, Bytes]:
    """uint8 [H,W,4] by name: a photograph, opaque; a cut-out, and a product shot, which is that
    cut-out smaller on an empty page, both with nothing behind alpha 0."""
    with Image.open(io.BytesIO(photograph(MEGAPIXELS))) as image:
        photo = np.asarray(image.convert("RGB"))
    width, height = SIZES[MEGAPIXELS]
    alpha = cv2.resize(small_alpha(), (width, height), interpolation=cv2.INTER_CUBIC)
    cut = _clear(np.dstack([photo, np.asarray(alpha, np.uint8)]))
    small = cv2.resize(cut, None, fx=_SHARE, fy=_SHARE, interpolation=cv2.INTER_AREA)
    product = np.zeros_like(cut)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    product[top : top + small.shape[0], left : left + small.shape[1]] = _clear(
        np.asarray(small, np.uint8)
    )
    opaque = np.full((height, width), 255, np.uint8)
    return {"photograph": np.dstack([photo, opaque]), "cut-out": cut, "product shot": product}


def _clear(rgba: Bytes) -> Bytes:
    cleared: Bytes = rgba * (rgba[..., 3:] > 0)
    return cleared
