"""What of a picture's EXIF block goes into its result."""

from __future__ import annotations

from typing import Any

from PIL import Image

PREFIX = b"Exif\0\0"
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_INCHES, _CENTIMETRES = 2, 3
# ImageDescription, Make, Model, Software, DateTime, Artist, HostComputer, Rating, RatingPercent,
# Copyright, and Windows' title, comment, author, keywords and subject. Only these are taken from
# the first directory: in a TIFF it also says where the pixels lie.
_TEXTS = (
    *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298),
    *range(0x9C9B, 0x9CA0),
)
# Not taken from the EXIF directory: the maker's note (its offsets are wrong in another file, and
# nobody knows what is in it), the picture's size (that of the file it comes from) and the pointer
# to the interoperability directory.
_LEFT_OUT = (0x927C, 0xA002, 0xA003, 0xA005)


def kept(image: Image.Image, gps: bool) -> bytes | None:
    """The EXIF block of ``image`` from its TIFF header on, None where nothing of it is kept.

    Without orientation, which is applied, thumbnail, resolution, which is kept apart, maker's note,
    and, unless ``gps``, without the place. None for a block that cannot be read.
    """
    try:
        source = image.getexif()
        result = Image.Exif()
        for tag in _TEXTS:
            if tag in source:
                result[tag] = source[tag]
        _copy(source, result, _EXIF_IFD)
        if gps:
            _copy(source, result, _GPS_IFD)
        return block(result) if len(result) else None
    except Exception:
        # Pillow raises what it meets in a damaged block, from KeyError to struct.error.
        return None


def _copy(source: Image.Exif, result: Image.Exif, ifd: int) -> None:
    tags = {tag: value for tag, value in source.get_ifd(ifd).items() if tag not in _LEFT_OUT}
    if tags:
        result[ifd] = tags


def block(exif: Image.Exif) -> bytes:
    """The bytes of ``exif`` from the TIFF header on."""
    data = exif.tobytes()
    return data[len(PREFIX) :] if data.startswith(PREFIX) else data


def with_resolution(data: bytes | None, dpi: tuple[float, float] | None) -> bytes | None:
    """``data`` with ``dpi`` in it, for formats that have no other place for it."""
    if dpi is None:
        return data
    exif = Image.Exif()
    if data is not None:
        _load(exif, data)
    exif[_X_RESOLUTION], exif[_Y_RESOLUTION] = dpi
    exif[_RESOLUTION_UNIT] = _INCHES
    return block(exif)


def directories(data: bytes) -> dict[int, Any]:
    """The tags of a block from ``kept``; its inner directories are dicts under their pointer."""
    exif = Image.Exif()
    _load(exif, data)
    tags = {tag: exif[tag] for tag in exif if tag not in (_EXIF_IFD, _GPS_IFD)}
    inner = {ifd: dict(exif.get_ifd(ifd)) for ifd in (_EXIF_IFD, _GPS_IFD) if ifd in exif}
    return {**tags, **inner}


def _load(exif: Image.Exif, data: bytes) -> None:
    """Fill ``exif``, directories included, which Pillow else would write as bare pointers."""
    exif.load(PREFIX + data)
    for ifd in (_EXIF_IFD, _GPS_IFD):
        if ifd in exif:
            exif[ifd] = dict(exif.get_ifd(ifd))


def resolution(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, (x, y), as the EXIF block says; None where it says nothing."""
    try:
        exif = image.getexif()
        scale = 2.54 if exif.get(_RESOLUTION_UNIT, _INCHES) == _CENTIMETRES else 1.0
        return (float(exif[_X_RESOLUTION]) * scale, float(exif[_Y_RESOLUTION]) * scale)
    except Exception:
        return None
