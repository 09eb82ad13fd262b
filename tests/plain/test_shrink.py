"""Pictures scaled down before they are cut out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import Matting, Options, animation
from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Frame
from birefnet_runtime.shrink import shrink, size_within
from helpers.pictures import disc, encoded, noise


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [
        ((300, 400), None, (300, 400)),
        ((300, 400), 120_000, (300, 400)),
        ((300, 400), 30_000, (150, 200)),
        ((400, 300), 30_000, (200, 150)),
        ((1, 4000), 10, (1, 10)),
        ((4000, 2), 100, (100, 1)),
        ((3000, 4000), 1, (1, 1)),
    ],
)
def test_sizes(size: tuple[int, int], pixels: int | None, expected: tuple[int, int]) -> None:
    assert size_within(size, pixels) == expected


def test_pixels_are_means_of_what_they_cover() -> None:
    rgb, alpha = noise(40, 60), noise(40, 60, channels=1)
    wide = np.random.default_rng(1).integers(0, 65536, (40, 60, 3), dtype=np.uint16)
    small = shrink(Frame(rgb, alpha, "x"), 600)
    means = rgb.reshape(20, 2, 30, 2, 3).mean((1, 3))
    # 600 of 2400 pixels are a quarter: blocks of 2 x 2; a mean is rounded to a whole level.
    assert np.abs(small.rgb - means).max() <= 0.5
    assert small.alpha is not None
    assert np.abs(small.alpha - alpha.reshape(20, 2, 30, 2).mean((1, 3))).max() <= 0.5
    deep = shrink(Frame(rgb, None, "x", wide=wide), 600)
    assert deep.wide is not None
    assert np.array_equal(deep.rgb, np.rint(deep.wide / 257).astype(np.uint8))


def test_a_cut_out_of_fewer_pixels(matting: Matting, tmp_path: Path) -> None:
    cutout = matting.remove(disc(300, 400), Options(shrink=30_000))
    assert cutout.rgba.shape == (150, 200, 4)
    assert (cutout.alpha[75, 100], cutout.alpha[0, 0]) == (255, 0)
    with pytest.raises(OptionError, match="shrink"):
        Options(shrink=0)
    film = encoded(disc(60, 80), "GIF", save_all=True, append_images=[])
    moving = animation.remove(matting, film, ".webp", Options(shrink=1200))
    with animation.Film(moving, 10**6) as found:
        assert found.size == (30, 40)
