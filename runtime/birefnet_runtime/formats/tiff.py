"""Pixels -> TIFF bytes: strips deflated in threads, 8 or 16 bits (Pillow writes no 16-bit colour).

TIFF 6.0 with the deflate compression and horizontal differences of Adobe's supplements, which
Pillow, OpenCV and image editors read.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from birefnet_runtime import strips
from birefnet_runtime.formats import exif
from birefnet_runtime.frame import Bytes, Metadata, Words

# A tag's value: its type by TIFF 6.0, how many, and their bytes, least byte first.
Field = tuple[int, int, bytes]

# Bytes of a strip before it is deflated, and ISA-L's level: as in a PNG.
_STRIP = 1 << 19
_LEVEL = 2
_HEADER = struct.Struct("<2sHI")
_LITTLE_ENDIAN, _VERSION = b"II", 42
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 1, 2, 3, 4, 5, 7
_FORMATS = {_SHORT: "H", _LONG: "I"}
_DEFLATE, _DIFFERENCES, _STRAIGHT_ALPHA, _INCHES = 8, 2, 2, 2
_GREY, _RGB = 1, 2
# Numbers of the tags, by TIFF 6.0.
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _COUNTS = 273, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PREDICTOR, _EXTRA_SAMPLES, _ICC = 317, 338, 34675


def to_tiff(pixels: Bytes | Words, metadata: Metadata, threads: int | None = None) -> bytes:
    """TIFF bytes of uint8 or uint16 [H,W], [H,W,3] or [H,W,4], with profile, resolution and EXIF.

    ``threads``: at most so many, None for a core each.
    """
    step = max(1, _STRIP // (pixels[0].size * pixels.itemsize))
    tops = range(0, len(pixels), step)

    def squeeze(number: int) -> bytes:
        rows = _differences(pixels[tops[number] : tops[number] + step])
        return bytes(isal_zlib.compress(rows, _LEVEL))

    parts = [b"", *strips.each(squeeze, len(tops), threads)]
    sizes = [len(part) for part in parts[1:]]
    offsets = np.cumsum([_HEADER.size, *sizes]).tolist()
    end = offsets.pop()
    fields = {
        **_layout(pixels, step),
        _OFFSETS: _numbers(_LONG, *offsets),
        _COUNTS: _numbers(_LONG, *sizes),
        **_about(metadata),
    }
    end = _append(parts, end, b"")
    if metadata.exif is not None:
        for tag, value in exif.directories(metadata.exif).items():
            if isinstance(value, dict):
                fields[tag] = _numbers(_LONG, end)
                end = _append(parts, end, _inner(tag, value, end))
            else:
                fields[tag] = _text(value)
    parts[0] = _HEADER.pack(_LITTLE_ENDIAN, _VERSION, end)
    return b"".join([*parts, _directory(fields, end)])


def _differences(rows: NDArray[Any]) -> NDArray[Any]:
    """Each sample less the same one of the pixel to its left, least byte first."""
    found = np.array(rows, rows.dtype.newbyteorder("<"), order="C")
    np.subtract(rows[:, 1:], rows[:, :-1], out=found[:, 1:])
    return found


def _append(parts: list[bytes], end: int, data: bytes) -> int:
    """Add ``data``, which comes to lie at ``end``; where the next directory may begin: an even
    byte."""
    end += len(data)
    parts += [data, bytes(end % 2)]
    return end + end % 2


def _layout(pixels: NDArray[Any], step: int) -> dict[int, Field]:
    """What the strips hold."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    fields = {
        _WIDTH: _numbers(_LONG, width),
        _LENGTH: _numbers(_LONG, height),
        _BITS: _numbers(_SHORT, *[8 * pixels.itemsize] * channels),
        _COMPRESSION: _numbers(_SHORT, _DEFLATE),
        _PHOTOMETRIC: _numbers(_SHORT, _GREY if channels == 1 else _RGB),
        _SAMPLES: _numbers(_SHORT, channels),
        _ROWS_PER_STRIP: _numbers(_LONG, step),
        _PREDICTOR: _numbers(_SHORT, _DIFFERENCES),
    }
    if channels == 4:
        fields[_EXTRA_SAMPLES] = _numbers(_SHORT, _STRAIGHT_ALPHA)
    return fields


def _about(metadata: Metadata) -> dict[int, Field]:
    """Profile and resolution."""
    fields = {}
    if metadata.icc is not None:
        fields[_ICC] = (_UNDEFINED, len(metadata.icc), metadata.icc)
    if metadata.dpi is not None:
        for tag, number in zip((_X_RESOLUTION, _Y_RESOLUTION), metadata.dpi, strict=True):
            # In 32 bits each, for every number up to picture.MAX_DPI.
            exact = Fraction(number).limit_denominator(1000)
            fields[tag] = (_RATIONAL, 1, struct.pack("<2I", exact.numerator, exact.denominator))
        fields[_RESOLUTION_UNIT] = _numbers(_SHORT, _INCHES)
    return fields


def _numbers(kind: int, *values: int) -> Field:
    return (kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values))


def _text(value: object) -> Field:
    if isinstance(value, bytes):
        return (_BYTE, len(value), value)
    if isinstance(value, int):
        return _numbers(_SHORT, value)
    data = str(value).encode() + b"\0"
    return (_ASCII, len(data), data)


def _inner(pointer: int, tags: dict[int, Any], offset: int) -> bytes:
    """The directory that ``pointer`` leads to, as it lies at ``offset``."""
    directory = ImageFileDirectory_v2(_HEADER.pack(_LITTLE_ENDIAN, _VERSION, 0), group=pointer)
    for tag, value in tags.items():
        directory[tag] = value
    return directory.tobytes(offset)


def _directory(fields: dict[int, Field], offset: int) -> bytes:
    """The last directory, as it lies at ``offset``; values of more than four bytes follow it."""
    entries: list[bytes] = []
    values: list[bytes] = []
    end = offset + 2 + 12 * len(fields) + 4
    for tag, (kind, count, data) in sorted(fields.items()):
        place = data.ljust(4, b"\0")
        if len(data) > 4:
            place = struct.pack("<I", end)
            end = _append(values, end, data)
        entries.append(struct.pack("<2HI", tag, kind, count) + place)
    return b"".join([struct.pack("<H", len(entries)), *entries, bytes(4), *values])
