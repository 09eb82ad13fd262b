"""Pictures of one size -> an animated WebP, PNG or GIF.

Each frame is compressed on its own, in whatever thread, by ``part``; ``join`` puts the parts behind
one another. So only compressed frames are held, and every frame stands for itself: none shows
through the next.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from birefnet_runtime.encode import Pixels, encode
from birefnet_runtime.errors import OutputError
from birefnet_runtime.formats import png
from birefnet_runtime.frame import Bytes, Metadata

_LONGEST_SIDE = {".webp": 16384, ".gif": 65535}
# WebP's container: which features a file uses, and how a frame is put over the one before.
_ICC, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02
_REPLACE = 0x02
_PICTURE_CHUNKS = (b"ALPH", b"VP8 ", b"VP8L")
# GIF: what becomes of a frame when its time is over, and which alpha is seen at all.
_KEEP, _CLEAR = 1, 2
_TRANSPARENT = 0x01
_SEEN = 128
_HIDDEN_INDEX = 255


@dataclass(frozen=True)
class Reel:
    """What an animation is beside its frames.

    ``size``: (height, width); ``channels``: 1, 3 or 4; ``millis``: how long each frame stands, in
    milliseconds; ``plays``: how often it is shown, 0 without end; ``icc``: an RGB profile.
    """

    size: tuple[int, int]
    channels: int
    millis: Sequence[int]
    plays: int
    icc: bytes | None = None


def check(suffix: str) -> str:
    """The suffix in lower case; OutputError where no animation can be written."""
    kind = suffix.lower()
    if kind not in _FORMATS:
        raise OutputError(f"{suffix} holds no animation: use {', '.join(_FORMATS)}")
    return kind


def part(pixels: Bytes, kind: str, quality: int | None = None) -> bytes:
    """One frame for ``join``, from uint8 [H,W], [H,W,3] or [H,W,4].

    ``quality``: 1..100 for lossy WebP, None for lossless. GIF has 255 colours a frame, and a pixel
    is seen or not: alpha from 128 on is.
    """
    longest = _LONGEST_SIDE.get(kind)
    if longest is not None and max(pixels.shape[:2]) > longest:
        height, width = pixels.shape[:2]
        raise OutputError(f"{kind} cannot hold {height}x{width} pixels: use .png")
    return _FORMATS[kind].part(pixels, quality)


def join(parts: Sequence[bytes], kind: str, reel: Reel) -> bytes:
    """The bytes of the file whose frames are ``parts``, in their order."""
    return _FORMATS[kind].join(parts, reel)


def _webp_part(pixels: Pixels, quality: int | None) -> bytes:
    """The chunks of a still WebP that hold its picture."""
    data = encode(pixels, ".webp", quality=quality)
    chunks, at = [], 12
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + size + size % 2
        if data[at : at + 4] in _PICTURE_CHUNKS:
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)


def _webp_join(parts: Sequence[bytes], reel: Reel) -> bytes:
    height, width = reel.size
    extent = _three(width - 1) + _three(height - 1)
    flags = _ANIMATION | (_ALPHA if reel.channels == 4 else 0) | (_ICC if reel.icc else 0)
    chunks = [b"WEBP", _riff(b"VP8X", struct.pack("<I", flags) + extent)]
    if reel.icc:
        chunks.append(_riff(b"ICCP", reel.icc))
    chunks.append(_riff(b"ANIM", struct.pack("<IH", 0, min(reel.plays, 65535))))
    for picture, millis in zip(parts, reel.millis, strict=True):
        place = bytes(6) + extent + _three(min(millis, 0xFFFFFF)) + bytes([_REPLACE])
        chunks.append(_riff(b"ANMF", place + picture))
    return _riff(b"RIFF", b"".join(chunks))


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _png_part(pixels: Pixels, quality: int | None) -> bytes:
    return b"".join(png.deflate(pixels, 1))


def _png_join(parts: Sequence[bytes], reel: Reel) -> bytes:
    height, width = reel.size
    chunks = [
        png.SIGNATURE,
        png.header((height, width), reel.channels, 8),
        *png.about(Metadata(reel.icc)),
        png.chunk(b"acTL", struct.pack(">2I", len(parts), reel.plays)),
    ]
    sequence = 0
    for number, (picture, millis) in enumerate(zip(parts, reel.millis, strict=True)):
        delay = (millis, 1000) if millis < 65536 else (min(millis // 1000, 65535), 1)
        control = struct.pack(">5I2H2B", sequence, width, height, 0, 0, *delay, 0, 0)
        chunks.append(png.chunk(b"fcTL", control))
        sequence += 1
        if number == 0:
            # The first frame is also what programs show that know no animated PNG.
            chunks.append(png.chunk(b"IDAT", picture))
        else:
            chunks.append(png.chunk(b"fdAT", struct.pack(">I", sequence) + picture))
            sequence += 1
    return b"".join([*chunks, png.chunk(b"IEND", b"")])


def _gif_part(pixels: Bytes, quality: int | None) -> bytes:
    """Whether a colour is transparent, which, and the image block with its own table."""
    alpha = pixels[..., 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    colours = Image.fromarray(np.ascontiguousarray(pixels if alpha is None else pixels[..., :3]))
    image = colours.convert("RGB").quantize(_HIDDEN_INDEX)
    extra = {}
    if alpha is not None:
        indices = np.where(alpha < _SEEN, np.uint8(_HIDDEN_INDEX), np.asarray(image))
        table = image.getpalette()
        image = Image.fromarray(indices).convert("P")
        image.putpalette(table or [])
        extra["transparency"] = _HIDDEN_INDEX
    stream = io.BytesIO()
    image.save(stream, "GIF", **extra)
    return _cut_gif(stream.getvalue())


def _cut_gif(data: bytes) -> bytes:
    """The only picture of a GIF, its table made its own, after two bytes about transparency."""
    flags = data[10]
    bits = flags & 7
    table = data[13 : 13 + 3 * (2 << bits)]
    at, hidden = 13 + len(table), bytes(2)
    while data[at] != 0x2C:
        if data[at : at + 2] == b"\x21\xf9":
            hidden = bytes([data[at + 3] & _TRANSPARENT, data[at + 6]])
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    assert flags & 0x80 and not data[at + 9] & 0x80
    descriptor = data[at : at + 9] + bytes([data[at + 9] | 0x80 | bits])
    return hidden + descriptor + table + data[at + 10 : -1]


def _gif_join(parts: Sequence[bytes], reel: Reel) -> bytes:
    height, width = reel.size
    chunks = [b"GIF89a", struct.pack("<2H3B", width, height, 0, 0, 0)]
    if reel.plays != 1:
        again = min(max(reel.plays - 1, 0), 65535)
        chunks.append(b"\x21\xff\x0bNETSCAPE2.0" + struct.pack("<2BHB", 3, 1, again, 0))
    clock, shown = 0, 0
    for picture, millis in zip(parts, reel.millis, strict=True):
        clock += millis
        # Hundredths of a second, rounded so that errors do not add up.
        delay = min(round(clock / 10) - shown, 65535)
        shown += delay
        flags = picture[0] | (_CLEAR if picture[0] else _KEEP) << 2
        control = struct.pack("<4BH2B", 0x21, 0xF9, 4, flags, delay, picture[1], 0)
        chunks += [control, picture[2:]]
    return b"".join([*chunks, b"\x3b"])


@dataclass(frozen=True)
class _Format:
    part: Callable[[Bytes, int | None], bytes]
    join: Callable[[Sequence[bytes], Reel], bytes]


_FORMATS = {
    ".webp": _Format(_webp_part, _webp_join),
    ".png": _Format(_png_part, _png_join),
    ".apng": _Format(_png_part, _png_join),
    ".gif": _Format(_gif_part, _gif_join),
}
SUFFIXES = tuple(_FORMATS)
