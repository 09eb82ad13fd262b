"""The pictures that are cut out: photographs from ``examples/`` at any size, as JPEG bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from record import ROOT

EXAMPLES = ROOT / "examples"
# 4:3 pictures of 1, 12 and 24 megapixels, width x height.
SIZES = {1: (1152, 864), 12: (4000, 3000), 24: (5656, 4242)}
# Megapixels of a mixed folder: from a web picture to a telephone's.
MIXED = (0.3, 12.0)
QUALITY = 92
# Standard deviation of the grain, in levels: an enlarged picture without it would be a blur, which
# codecs find too easy.
GRAIN = 6


def photograph(megapixels: int) -> bytes:
    """The dahlia at one of ``SIZES``.

    Always this picture: how much of it is foreground decides what encoding costs.
    """
    return enlarge(EXAMPLES / "dahlia.jpg", SIZES[megapixels], 0)


def enlarge(path: Path, size: tuple[int, int], seed: int) -> bytes:
    """JPEG bytes of the picture at ``path`` resized to ``size`` (width, height), with grain."""
    with Image.open(path) as image:
        large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(large, np.int16)
    grain = np.random.default_rng(seed).normal(0, GRAIN, pixels.shape[:2]).astype(np.int16)
    noisy = np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def mixed_sizes(count: int, largest: float = MIXED[1], seed: int = 0) -> list[tuple[int, int]]:
    """``count`` sizes (width, height), spread evenly over the logarithm of their megapixels, in an
    order drawn once for all; upright and lying in turn."""
    spread = np.geomspace(min(MIXED[0], largest), largest, count)
    order = np.random.default_rng(seed).permutation(count)
    sizes = []
    for place, index in enumerate(order):
        short = (float(spread[index]) * 1e6 * 3 / 4) ** 0.5
        pair = (round(short * 4 / 3), round(short))
        sizes.append(pair if place % 2 else pair[::-1])
    return sizes


def mixed(folder: Path, count: int, largest: float = MIXED[1]) -> list[Path]:
    """Write ``count`` JPEG files of mixed sizes to ``folder``: the examples in turn."""
    examples = sorted(EXAMPLES.glob("*.jpg"))
    paths = []
    for number, size in enumerate(mixed_sizes(count, largest)):
        path = folder / f"{number:03}.jpg"
        path.write_bytes(enlarge(examples[number % len(examples)], size, number))
        paths.append(path)
    return paths
