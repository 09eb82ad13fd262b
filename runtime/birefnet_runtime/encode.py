"""Pixels -> file bytes, and onto the disk in one step.

PNG and TIFF are written here, in strips and threads (see ``png``, ``tiff``); JPEG, WebP and AVIF by
Pillow. ZIP holds colours and mask apart; ``.npy`` is NumPy's file, ``.raw`` and ``.rgba`` are the
samples and nothing else, row by row, words with their least byte first.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from birefnet_export.contract import write_atomically
from birefnet_runtime.errors import OutputError, one_line
from birefnet_runtime.formats import archive, exif
from birefnet_runtime.formats.png import to_png
from birefnet_runtime.formats.tiff import to_tiff
from birefnet_runtime.frame import Bytes, Metadata, Words

Pixels = Bytes | Words

# Without visible loss on a photograph. Alpha is exact in WebP, and as lossy as colour in AVIF.
JPEG_QUALITY = 92
AVIF_QUALITY = 85
# Of 0 (best) to 10: a third of the time of Pillow's 6, at 2 % more bytes.
_AVIF_SPEED = 8
# Lossless WebP at its second least effort: the least is larger than a PNG on a product shot, more
# takes longer and is no smaller.
_LOSSLESS: dict[str, Any] = {"lossless": True, "quality": 0, "method": 1, "exact": True}


@dataclass(frozen=True)
class Settings:
    """``quality``: of lossy formats, 1..100, or None; ``clear``: nothing is behind alpha 0;
    ``threads``: as ``strips.each`` takes it."""

    quality: int | None = None
    clear: bool = True
    threads: int | None = None


Writer = Callable[[Pixels, Metadata, Settings], bytes]


@dataclass(frozen=True)
class Format:
    """``deep``: holds 16 bits. ``transparent``: holds alpha; ``opaque``: goes without it."""

    write: Writer
    deep: bool = False
    transparent: bool = True
    opaque: bool = True


def encode(
    pixels: Pixels,
    suffix: str = ".png",
    metadata: Metadata | None = None,
    *,
    quality: int | None = None,
    clear: bool = True,
    threads: int | None = None,
) -> bytes:
    """The file bytes of ``pixels``: uint8 or uint16, [H,W] grey, [H,W,3] RGB or [H,W,4] straight
    RGBA.

    ``quality``: 1..100 of JPEG, AVIF, the colours in a ZIP, and of WebP, which is lossless without
    it. ``clear``: colours under alpha 0 mean nothing and may be replaced. ``threads``: at most so
    many, None for a core each. Raises OutputError for a suffix that is not known, transparency in
    JPEG, 16 bits where the format has 8, or a size the format lacks.
    """
    transparent = pixels.ndim == 3 and pixels.shape[2] == 4
    kind = check_suffix(suffix, transparent, 8 * pixels.itemsize)
    metadata = metadata or Metadata()
    if pixels.ndim == 2:
        # An RGB profile does not fit grey pixels.
        metadata = Metadata(None, metadata.dpi, metadata.exif)
    try:
        return FORMATS[kind].write(pixels, metadata, Settings(quality, clear, threads))
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise OutputError(
            f"{kind} cannot hold {height}x{width} pixels: {one_line(error)}"
        ) from error


def check_suffix(suffix: str, transparent: bool, depth: int = 8) -> str:
    """The suffix in lower case; OutputError when no such file can be written."""
    kind = suffix.lower()
    known = FORMATS.get(kind)
    if known is None:
        raise OutputError(
            f"no format for {suffix or 'a name without suffix'}: use {', '.join(SUFFIXES)}"
        )
    if transparent and not known.transparent:
        raise OutputError(
            "JPEG has no transparency: choose a background (--background white) or .png"
        )
    if not transparent and not known.opaque:
        raise OutputError(
            f"{kind} is for a cut-out, colours and mask apart: use .png for a mask or a background"
        )
    if depth > 8 and not known.deep:
        deep = ", ".join(name for name in SUFFIXES if FORMATS[name].deep)
        raise OutputError(f"{kind} has 8 bits per channel: use {deep}, or leave out --depth 16")
    _check_avif(kind)
    return kind


def _check_avif(kind: str) -> None:
    if kind == ".avif":
        Image.init()
        if "AVIF" not in Image.SAVE:
            raise OutputError("this Pillow has no AVIF: pip install 'pillow>=11.3'")


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` at ``path`` whole or not at all; OutputError when that fails."""
    try:
        write_atomically(Path(path), data)
    except OSError as error:
        raise OutputError(
            f"{os.fspath(path)} cannot be written: {error.strerror or error}"
        ) from error


def _png(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    return to_png(pixels, metadata, settings.threads)


def _tiff(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    return to_tiff(pixels, metadata, settings.threads)


def _jpeg(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    extra: dict[str, Any] = {} if metadata.dpi is None else {"dpi": metadata.dpi}
    quality = settings.quality or JPEG_QUALITY
    return _pillow(pixels, metadata.icc, metadata.exif, format="JPEG", quality=quality, **extra)


def _webp(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    how = _LOSSLESS
    if settings.quality is not None:
        how = {"quality": settings.quality, "alpha_quality": 100, "exact": not settings.clear}
    block = exif.with_resolution(metadata.exif, metadata.dpi)
    return _pillow(pixels, metadata.icc, block, format="WEBP", **how)


def _avif(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    how = {"quality": settings.quality or AVIF_QUALITY, "speed": _AVIF_SPEED}
    block = exif.with_resolution(metadata.exif, metadata.dpi)
    return _pillow(pixels, metadata.icc, block, format="AVIF", **how)


def _pillow(pixels: Pixels, icc: bytes | None, block: bytes | None, **how: Any) -> bytes:
    if icc is not None:
        how["icc_profile"] = icc
    if block is not None:
        how["exif"] = exif.PREFIX + block
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **how)
    return stream.getvalue()


def _zip(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    threads, rgba = settings.threads, np.asarray(pixels, np.uint8)
    colours = archive.fill(rgba) if settings.clear else np.array(rgba[..., :3])
    mask = to_png(rgba[..., 3], Metadata(dpi=metadata.dpi), threads)
    colour = _jpeg(colours, metadata, settings)
    return archive.to_zip({archive.COLOUR: colour, archive.ALPHA: mask})


def _npy(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels, allow_pickle=False)
    return stream.getvalue()


def _raw(pixels: Pixels, metadata: Metadata, settings: Settings) -> bytes:
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


FORMATS = {
    ".png": Format(_png, deep=True),
    ".webp": Format(_webp),
    ".jpg": Format(_jpeg, transparent=False),
    ".jpeg": Format(_jpeg, transparent=False),
    ".tif": Format(_tiff, deep=True),
    ".tiff": Format(_tiff, deep=True),
    ".avif": Format(_avif),
    ".zip": Format(_zip, opaque=False),
    ".npy": Format(_npy, deep=True),
    ".raw": Format(_raw, deep=True),
    ".rgba": Format(_raw, deep=True, opaque=False),
}
SUFFIXES = tuple(FORMATS)
