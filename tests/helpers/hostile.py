"""Files that are made to harm whoever opens them."""

from __future__ import annotations

import random
import struct
import zlib

from helpers.pictures import disc, encoded

# More than any limit: width and height as GIF and JPEG can write them.
_MOST = 65_535


def png(width: int, height: int, data: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """An 8-bit RGB PNG with a header of that size, ``extra`` chunks and compressed ``data``."""
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its length and checksum."""
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def zeros(mebi: int) -> bytes:
    """``mebi`` MiB of bytes 0 as zlib packs them, about a thousandfold."""
    packer = zlib.compressobj(9)
    head, block = packer.compress(b""), packer.compress(bytes(1 << 20))
    block += packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same bytes may come again; the checksum of zeros is their count.
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    return head + block * mebi + end + struct.pack(">2H", (mebi << 20) % 65521, 1)


def tile_bomb(side: int, data: bytes) -> bytes:
    """A grey TIFF of 16x16 pixels in one deflated tile of ``side`` x ``side``."""
    tags = [(256, 4, 16), (257, 4, 16), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    start = 8 + 2 + 12 * 10 + 4
    tags += [(322, 4, side), (323, 4, side), (324, 4, start), (325, 4, len(data))]
    return b"II*\0" + struct.pack("<I", 8) + _directory(tags, 0) + data


def gif(width: int, height: int, frames: int = 1, frame: tuple[int, int] = (1, 1)) -> bytes:
    """A GIF with a canvas of that size and ``frames`` frames, each of one pixel's data."""
    header = b"GIF89a" + struct.pack("<2H3B", width, height, 0x80, 0, 0) + bytes(6)
    one = b"\x2c" + struct.pack("<4HB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00"
    return header + one * frames + b"\x3b"


def tiff(width: int, height: int, directories: int = 1, loop: bool = False) -> bytes:
    """A grey TIFF of one byte of data, with a chain of ``directories``, or one that is its own
    successor."""
    size = 2 + 12 * 8 + 4
    parts = [b"II*\0", struct.pack("<I", 8)]
    for number in range(directories):
        tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1)]
        tags += [(262, 3, 1), (273, 4, 0), (278, 4, height), (279, 4, 1)]
        end = 8 + (number + 1) * size
        after = 8 if loop else end if number + 1 < directories else 0
        parts.append(_directory(tags, after))
    return b"".join(parts)


def _directory(tags: list[tuple[int, int, int]], after: int) -> bytes:
    """A TIFF's directory of ``tags`` with one value each, and where the next one is."""
    entries = b"".join(struct.pack("<2H2I", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", after)


def webp(width: int, height: int) -> bytes:
    """A lossless WebP whose header says that size (at most 16384 each), and no data."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(8)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int) -> bytes:
    """A 24-bit BMP whose header says that size, and no data."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 3, 0, 0, 54) + header + bytes(3)


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose frame header says that size."""
    data = bytearray(encoded(disc(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">2H", height, width)
    return bytes(data)


def scans(count: int) -> bytes:
    """A progressive JPEG that refines the same pixels ``count`` times."""
    data = encoded(disc(), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data.rindex(b"\xff\xda")
    return data[:end] + data[last:end] * count + data[end:]


TOO_LARGE = {
    "png": lambda: png(100_000, 100_000, zeros(0)),
    "png of 2^31": lambda: png(2**31 - 1, 2**31 - 1, zeros(0)),
    "jpeg": lambda: jpeg(_MOST, _MOST),
    "gif": lambda: gif(_MOST, _MOST),
    "webp": lambda: webp(16_384, 16_384),
    "tiff": lambda: tiff(100_000, 100_000),
    "bmp": lambda: bmp(60_000, 60_000),
}


def mutations(seeds: list[bytes], count: int, seed: int = 0) -> list[bytes]:
    """``count`` damaged versions of the files ``seeds``, each by one to four random changes."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.choice((1, 1, 2, 4))):
            rng.choice(_CHANGES)(data, rng, seeds)
        made.append(bytes(data))
    return made


def _flip(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """Some bytes become others."""
    for _ in range(rng.choice((1, 2, 8, 32))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)


def _flip_head(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """A byte among the first, where sizes and kinds are."""
    if data:
        data[rng.randrange(min(64, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


def _cut(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """The end is missing, or a piece within."""
    start = rng.randrange(len(data) + 1)
    del data[start : rng.choice((len(data), start + rng.randrange(1, 64)))]


def _length(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """A number of two or four bytes is as small or large as it can be."""
    width, order = rng.choice((2, 4)), rng.choice(("<", ">"))
    value = rng.choice((0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1))
    at = rng.randrange(max(1, len(data) - width))
    data[at : at + width] = struct.pack(order + {2: "H", 4: "I"}[width], value)


def _splice(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """The end is another file's."""
    other = rng.choice(seeds)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other)) :]


def _double(data: bytearray, rng: random.Random, seeds: list[bytes]) -> None:
    """A piece, from a marker or chunk on where there is one, comes again, often."""
    start = rng.randrange(len(data) + 1)
    for mark in rng.sample((b"\xff\xc4", b"\xff\xda", b"IDAT", b"IHDR", b"VP8", b"\x2c\0"), 6):
        if mark in data:
            start = data.index(mark)
            break
    piece = data[start : start + rng.randrange(1, 128)]
    data[start:start] = piece * rng.choice((1, 2, 16))


_CHANGES = (_flip, _flip, _flip_head, _cut, _length, _splice, _double)
