"""A Pillow image -> the pixels, orientation and metadata of a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from birefnet_runtime.errors import DecodeError
from birefnet_runtime.frame import Bytes, Frame, Metadata

# EXIF orientation -> (transpose rows and columns, then mirror rows, then mirror columns).
ORIENTATIONS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# PNG and TIFF store dots per metre or centimetre in 32 bits; more than this is no resolution.
MAX_DPI = 1e6
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def to_frame(image: Image.Image, name: str) -> Frame:
    """The upright frame of ``image``, which is decoded if it was only opened.

    Grey, 1-bit, palette and CMYK become RGB; 16-bit grey is divided by 257 and rounded; 16-bit
    colour comes from Pillow as its high byte. Raises DecodeError for float pixels.
    """
    image.load()
    if image.mode in _SIXTEEN_BIT:
        return upright(*split(_to_eight_bits(np.asarray(image))), name, image)
    if image.mode == "F":
        reason = "has float pixels, whose range is not known: save it with 8 or 16 bits"
        raise DecodeError(name, reason)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return upright(*split(pixels), name, image)


def _to_eight_bits(grey: NDArray[np.generic]) -> Bytes:
    """16-bit grey 0..65535 to 0..255, rounded: 257 is 65535 / 255."""
    wide = np.clip(grey.astype(np.int64), 0, 65535)
    return ((wide + 128) // 257).astype(np.uint8)


def split(pixels: Bytes) -> tuple[Bytes, Bytes | None]:
    """RGB [H,W,3] and alpha [H,W], None when it is opaque, of grey, RGB or RGBA pixels."""
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2), None
    rgb = np.ascontiguousarray(pixels[..., :3])
    if pixels.shape[2] == 3:
        return rgb, None
    alpha = np.ascontiguousarray(pixels[..., 3])
    return rgb, None if alpha.min() == 255 else alpha


def upright(rgb: Bytes, alpha: Bytes | None, name: str, image: Image.Image) -> Frame:
    """The frame of pixels as they lie in the file, turned by the orientation tag of ``image``."""
    turn = ORIENTATIONS.get(_orientation(image), ORIENTATIONS[1])
    metadata = Metadata(_icc(image), _dpi(image, swap=turn[0]))
    return Frame(_turn(rgb, turn), None if alpha is None else _turn(alpha, turn), name, metadata)


def _turn(pixels: Bytes, turn: tuple[bool, bool, bool]) -> Bytes:
    transpose, mirror_rows, mirror_columns = turn
    if transpose:
        pixels = pixels.swapaxes(0, 1)
    if mirror_rows:
        pixels = pixels[::-1]
    if mirror_columns:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 without one or in a broken EXIF block, as viewers do."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in ORIENTATIONS else 1


def _icc(image: Image.Image) -> bytes | None:
    """The ICC profile when its colour space field, bytes 16 to 19, says RGB."""
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " else None


def _dpi(image: Image.Image, swap: bool) -> tuple[float, float] | None:
    try:
        x, y = (float(number) for number in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (0 < x < MAX_DPI and 0 < y < MAX_DPI):
        return None
    return (y, x) if swap else (x, y)
