"""Files whose pixels are few and whose decoding is endless: told by their headers."""

from __future__ import annotations

import re
from typing import IO

from PIL import Image

from birefnet_runtime.errors import DecodeError

# Passes over a JPEG's pixels; encoders write about ten. libtiff has the same limit for JPEG in
# TIFF. Each takes 31 bytes and 35 ms at 16 megapixels, so 25 MiB of them took hours.
MOST_SCANS = 100
# Pixels of a TIFF's tile in a smaller picture; writers use 128x128 to 1024x1024. A tile is unpacked
# as a whole, and 1 MiB of deflated zeros unpacks to 1 GiB.
MOST_OF_A_TILE = 4096 * 4096
_TILE_WIDTH, _TILE_LENGTH = 322, 323
# The next marker: 0xFF (any number of them) and a byte that is neither stuffing nor a restart.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_ALONE = (0x01, 0xD8)
_ONE_PASS = (0xC0, 0xC1)
_SCAN, _END = 0xDA, 0xD9


def check(image: Image.Image, stream: IO[bytes], name: str) -> None:
    """DecodeError for what costs far more than its pixels; ``stream`` may stand anywhere after."""
    if image.format in ("JPEG", "MPO"):
        stream.seek(0)
        if _scans(stream.read()) > MOST_SCANS:
            raise DecodeError(name, f"has more than {MOST_SCANS} scans: save it as plain JPEG")
    elif image.format == "TIFF":
        _check_tile(image, name)


def _scans(data: bytes) -> int:
    """How many scans a JPEG has, counted a little beyond the limit; 0 for one of Huffman codes that
    are read once, which costs no more than its bytes."""
    at = found = 0
    while found <= MOST_SCANS and (match := _MARKER.search(data, at)):
        kind, at = match[1][0], match.end()
        if kind in _ONE_PASS:
            return 0
        if kind == _END:
            break
        found += kind == _SCAN
        if kind not in _ALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return found


def _check_tile(image: Image.Image, name: str) -> None:
    tags = getattr(image, "tag_v2", {})
    height, width = tags.get(_TILE_LENGTH, 0), tags.get(_TILE_WIDTH, 0)
    # A picture of one tile is rounded up to the next 16.
    most = max(MOST_OF_A_TILE, (image.height + 15) * (image.width + 15))
    if not (isinstance(height, int) and isinstance(width, int)):
        raise DecodeError(name, "is damaged: its tiles have no size")
    if height * width > most:
        raise DecodeError(name, f"has tiles of {height}x{width} pixels: save it with smaller ones")
