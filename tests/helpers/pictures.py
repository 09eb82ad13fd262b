"""Pictures made from numbers, and the bytes of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]

# A colour profile for RGB.
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def disc(height: int = 48, width: int = 64) -> Pixels:
    """uint8 [H,W,3]: a bright disc on a dark ground, with a soft edge."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    inside = np.clip(min(height, width) / 3 - radius, 0, 1)
    rgb = 20 + inside[..., None] * np.array([220, 200, 180])
    pixels: Pixels = rgb.astype(np.uint8)
    return pixels


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """uint8 [H,W,C], or [H,W] for one channel: every value equally often."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """uint8 [H,W,3]: a picture without detail, which JPEG keeps within a few levels."""
    small = Image.fromarray(noise(4, 4, seed=seed))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file bytes of ``pixels`` as Pillow writes them."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(data: bytes) -> Pixels:
    """The pixels of file bytes as Pillow reads them."""
    return np.asarray(Image.open(io.BytesIO(data)))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header says ``width`` x ``height`` and whose data is one row."""
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 + 3 * width))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def png_16_bit(pixels: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG of uint16 [H,W] grey, [H,W,3] RGB or [H,W,4] RGBA."""
    height, width = pixels.shape[:2]
    kind = {2: 0, 3: 2, 4: 6}[pixels.shape[2] if pixels.ndim == 3 else 2]
    header = struct.pack(">2I5B", width, height, 16, kind, 0, 0, 0)
    rows = pixels.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def ink_profile() -> bytes:
    """A CMYK profile (ICC.1:2001, one lut8Type) in which each full ink takes 25 off L*: greys."""
    ramp = bytes(range(256))
    grid = [bytes([round(255 * (4 - bin(inks).count("1")) / 4), 128, 128]) for inks in range(16)]
    matrix = struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + b"".join(grid) + ramp * 3
    size = 128 + 4 + 12 + len(table)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", size, b"", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp"
    )
    # The white point of the connection space: D50.
    header = header.ljust(68, b"\0") + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    tags = struct.pack(">I4s2I", 1, b"A2B0", 144, len(table))
    return header.ljust(128, b"\0") + tags + table


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
