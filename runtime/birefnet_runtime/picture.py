"""A Pillow image -> the pixels, orientation and metadata of a frame."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from birefnet_runtime.errors import DecodeError
from birefnet_runtime.formats import exif
from birefnet_runtime.frame import Bytes, Frame, Metadata, Words
from birefnet_runtime.options import Options

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
# Rows rounded to 8 bits at a time, so that what lies between stays in cache.
_STRIP = 64


@dataclass(frozen=True)
class Keep:
    """What of a picture is kept beside its 8-bit colours: ``depth`` 16 its 16 bits, ``exif`` its
    EXIF tags, ``gps`` the place among them."""

    depth: int = 8
    exif: bool = False
    gps: bool = False

    @classmethod
    def of(cls, options: Options) -> Keep:
        """What ``options`` ask for."""
        return cls(options.depth, options.keep_exif, options.keep_gps)


def to_frame(image: Image.Image, name: str, keep: Keep) -> Frame:
    """The upright frame of ``image``, which is decoded if it was only opened.

    Grey, 1-bit, palette and CMYK become RGB, CMYK by its profile where it has one; 16-bit grey is
    divided by 257 and rounded; 16-bit colour comes from Pillow as its high byte. Raises DecodeError
    for float pixels.
    """
    image.load()
    if image.mode in _SIXTEEN_BIT:
        grey = np.asarray(image)
        return upright(grey if grey.dtype == np.uint16 else _to_words(grey), name, image, keep)
    if image.mode == "F":
        reason = "has float pixels, whose range is not known: save it with 8 or 16 bits"
        raise DecodeError(name, reason)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if image.mode == "CMYK":
        return upright(np.asarray(_from_ink(image)), name, image, keep)
    return upright(
        np.asarray(image if image.mode == mode else image.convert(mode)), name, image, keep
    )


def _from_ink(image: Image.Image) -> Image.Image:
    """sRGB of CMYK by the profile that came with it, else as if the inks were ideal."""
    ink = profile(image, b"CMYK")
    if ink is not None:
        try:
            srgb = ImageCms.createProfile("sRGB")
            found = ImageCms.profileToProfile(image, io.BytesIO(ink), srgb, outputMode="RGB")
        except ImageCms.PyCMSError:
            # A damaged profile: viewers show the picture without it.
            found = None
        if found is not None:
            return found
    return image.convert("RGB")


def _to_words(grey: NDArray[np.generic]) -> Words:
    """Grey of more than 16 bits, whose range is 0..65535 all the same."""
    return np.clip(grey.astype(np.int64), 0, 65535).astype(np.uint16)


def to_eight_bits(wide: Words) -> Bytes:
    """0..65535 to 0..255, rounded: 257 is 65535 / 255.

    (t - (t >> 8)) >> 8 with t = v + 128 is v / 257 rounded for every v; t itself would overflow.
    """
    narrow = np.empty(wide.shape, np.uint8)
    for top in range(0, len(wide), _STRIP):
        rows = wide[top : top + _STRIP]
        high = ((rows >> 7) + 1) >> 1
        narrow[top : top + _STRIP] = (rows - high + 128) >> 8
    return narrow


def split(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """RGB [H,W,3] and alpha [H,W], None when it is opaque, of grey, RGB or RGBA pixels."""
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2), None
    rgb = np.ascontiguousarray(pixels[..., :3])
    if pixels.shape[2] == 3:
        return rgb, None
    alpha = np.ascontiguousarray(pixels[..., 3])
    return rgb, None if alpha.min() == np.iinfo(pixels.dtype).max else alpha


def upright(pixels: Bytes | Words, name: str, image: Image.Image, keep: Keep) -> Frame:
    """The frame of pixels as they lie in the file, turned by the orientation tag of ``image``."""
    turn = ORIENTATIONS.get(_orientation(image), ORIENTATIONS[1])
    block = exif.kept(image, keep.gps) if keep.exif else None
    metadata = Metadata(profile(image, b"RGB "), _dpi(image, swap=turn[0]), block)
    return from_pixels(_turn(pixels, turn), name, keep, metadata)


def from_pixels(
    pixels: Bytes | Words, name: str, keep: Keep, metadata: Metadata | None = None
) -> Frame:
    """The frame of grey, RGB or RGBA pixels that stand upright, in 8 or 16 bits."""
    if pixels.dtype != np.uint16:
        return Frame(*split(pixels), name, metadata or Metadata())
    wide, alpha = split(pixels)
    if alpha is not None:
        alpha = to_eight_bits(alpha)
        alpha = None if alpha.min() == 255 else alpha
    kept = wide if keep.depth == 16 else None
    return Frame(to_eight_bits(wide), alpha, name, metadata or Metadata(), kept)


def _turn(pixels: NDArray[Any], turn: tuple[bool, bool, bool]) -> NDArray[Any]:
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


def profile(image: Image.Image, space: bytes) -> bytes | None:
    """The ICC profile when its colour space field, bytes 16 to 19, says ``space``."""
    found = image.info.get("icc_profile")
    return found if isinstance(found, bytes) and found[16:20] == space else None


def _dpi(image: Image.Image, swap: bool) -> tuple[float, float] | None:
    """Dots per inch as the file's own fields say, else as its EXIF block does."""
    try:
        x, y = (float(number) for number in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        x, y = exif.resolution(image) or (0.0, 0.0)
    if not (0 < x < MAX_DPI and 0 < y < MAX_DPI):
        return None
    return (y, x) if swap else (x, y)
