"""16-bit colour of PNG and TIFF, read by OpenCV."""

from __future__ import annotations

from typing import IO, Any

import cv2
import numpy as np
from PIL import Image

from birefnet_runtime.errors import DecodeError
from birefnet_runtime.frame import Words

# Where a PNG says how many bits a sample has.
_PNG_DEPTH = 24
_BITS, _PHOTOMETRIC, _PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 284, 338, 339
_RGB, _UNSIGNED, _INTERLEAVED = 2, 1, 1
# TIFF's kinds of a fourth sample that are, or are taken for, straight alpha.
_STRAIGHT = (0, 2)


def is_deep(image: Image.Image, stream: IO[bytes]) -> bool:
    """Whether ``image``, opened from ``stream``, has several samples of 16 bits a pixel."""
    if image.format == "PNG":
        stream.seek(_PNG_DEPTH)
        return stream.read(1) == b"\x10" and image.mode in ("RGB", "RGBA", "LA")
    bits = _tags(image).get(_BITS, ())
    return image.format == "TIFF" and len(bits) > 1 and set(bits) == {16}


def is_readable(image: Image.Image) -> bool:
    """Whether OpenCV gives what a picture that ``is_deep`` has, and not something like it: of TIFF
    only RGB, pixel by pixel, alone or with straight alpha."""
    if image.format == "PNG":
        return True
    tags = _tags(image)
    extra = tags.get(_EXTRA_SAMPLES, ())
    return (
        tags.get(_PHOTOMETRIC) == _RGB
        and tags.get(_PLANAR, _INTERLEAVED) == _INTERLEAVED
        and set(tags.get(_SAMPLE_FORMAT, ())) <= {_UNSIGNED}
        and len(tags[_BITS]) == 3 + len(extra)
        and len(extra) <= 1
        and all(kind in _STRAIGHT for kind in extra)
    )


def _tags(image: Image.Image) -> Any:
    return getattr(image, "tag_v2", {})


def read_deep(image: Image.Image, stream: IO[bytes], name: str) -> Words:
    """uint16 [H,W,3] or [H,W,4], as the file has them; DecodeError when OpenCV gives nothing."""
    stream.seek(0)
    data = np.frombuffer(stream.read(), np.uint8)
    found = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    height, width = image.size[::-1]
    if found is None or found.dtype != np.uint16 or found.shape[:2] != (height, width):
        raise DecodeError(name, "its 16-bit colours cannot be read: save it with 8 bits")
    code = cv2.COLOR_BGR2RGB if found.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    pixels = np.asarray(cv2.cvtColor(found, code), np.uint16)
    key = image.info.get("transparency")
    return _with_key(pixels[..., :3], key) if isinstance(key, tuple) else pixels


def _with_key(rgb: Words, key: tuple[int, ...]) -> Words:
    """``rgb`` with the alpha of a PNG in which one colour is transparent."""
    hidden = (rgb == np.asarray(key, np.uint16)).all(axis=2)
    alpha = np.where(hidden, 0, 65535).astype(np.uint16)
    return np.dstack([rgb, alpha])
