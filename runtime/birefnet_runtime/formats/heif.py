"""HEIC, which Pillow reads only with a package beside it, and AVIF, which old ones do not read."""

from __future__ import annotations

import importlib
import threading
from typing import IO

from PIL import Image

from birefnet_runtime.errors import DecodeError

# Bytes 8 to 11 of an ISO base media file whose bytes 4 to 7 are "ftyp": the brands of HEVC
# pictures and sequences (ISO/IEC 23008-12, annex B) and those that leave the codec open.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_OPEN = (b"mif1", b"msf1", b"mif2")
_AVIF = (b"avif", b"avis")
# Either registers itself with Pillow under the name HEIF; the first one only reads.
_READERS = ("pi_heif", "pillow_heif")
_LOCK = threading.Lock()


def check(stream: IO[bytes], name: str) -> None:
    """Make Pillow able to read ``stream`` if it is HEIC; DecodeError when it cannot be."""
    stream.seek(0)
    start = stream.read(64)
    if start[4:8] != b"ftyp":
        return
    size = int.from_bytes(start[:4], "big")
    # The main brand, then, after four bytes, those that it is compatible with.
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, min(size, len(start)), 4))]
    if any(brand in _AVIF for brand in brands):
        if "AVIF" not in Image.OPEN:
            raise DecodeError(name, "is AVIF, which this Pillow lacks: pip install 'pillow>=11.3'")
    elif any(brand in _HEIC + _OPEN for brand in brands) and not _register():
        raise DecodeError(
            name, "is HEIC, which needs a reader of its own: pip install 'birefnet-trt[heif]'"
        )


def _register() -> bool:
    """Whether Pillow reads HEIC; a reader that is installed is brought in on the first call."""
    with _LOCK:
        if "HEIF" in Image.OPEN:
            return True
        for module in _READERS:
            try:
                importlib.import_module(module).register_heif_opener()
            except ImportError:
                continue
            return True
    return False
