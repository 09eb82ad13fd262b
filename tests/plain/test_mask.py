"""Guided, grown, feathered and stretched masks."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

from birefnet_runtime import mask
from birefnet_runtime.options import Options
from helpers.pictures import noise

KINDS = [np.uint8, np.uint16]


def step(kind: type = np.uint8, height: int = 40, width: int = 60) -> mask.Alpha:
    """[H,W]: nothing on the left half, all on the right."""
    alpha: mask.Alpha = np.zeros((height, width), kind)
    alpha[:, width // 2 :] = np.iinfo(kind).max
    return alpha


def test_nothing_asked_is_nothing_done() -> None:
    alpha = step()
    assert not mask.adjusts(Options())
    assert mask.adjust(alpha, noise(40, 60), Options()) is alpha


@pytest.mark.parametrize(
    "options",
    [
        Options(guided=True),
        Options(feather=1.5),
        Options(levels=(0.1, 0.9)),
        Options(offset=2),
        Options(offset=-2),
    ],
)
def test_each_option_adjusts(options: Options) -> None:
    assert mask.adjusts(options)
    alpha = noise(40, 60, channels=1)
    before = alpha.copy()
    changed = mask.adjust(alpha, noise(40, 60, seed=1), options)
    assert changed.dtype == np.uint8
    assert changed.shape == alpha.shape
    assert (changed != alpha).any()
    assert np.array_equal(alpha, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixels", [1, 3, 8, 20])
def test_the_mask_grows_and_shrinks_by_so_many_pixels(kind: type, pixels: int) -> None:
    alpha = step(kind)
    whole = np.iinfo(kind).max
    assert ((mask.grow(alpha, pixels) == whole).sum(axis=1) == 30 + pixels).all()
    assert ((mask.grow(alpha, -pixels) == whole).sum(axis=1) == 30 - pixels).all()


@pytest.mark.parametrize("pixels", [1, 5, 8, 24])
def test_a_point_grows_to_a_disc(pixels: int) -> None:
    alpha = np.zeros((61, 61), np.uint8)
    alpha[30, 30] = 200
    y, x = np.nonzero(mask.grow(alpha, pixels))
    radius = np.hypot(y - 30, x - 30)
    # Of the disc's outline, pixel by pixel: half a pixel for each of the discs that it is made of.
    slack = 0.5 * -(-pixels // 8)
    assert radius.max() <= pixels + slack
    assert np.pi * pixels**2 < len(y) < np.pi * (pixels + 1) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_feather_is_a_gaussian(kind: type) -> None:
    sigma = 3.0
    alpha = mask.feather(step(kind), sigma)
    whole = np.iinfo(kind).max
    places = np.arange(60) - 29.5
    # A step blurred by a Gaussian is its distribution function.
    wanted = [0.5 + 0.5 * erf(place / sigma / 2**0.5) for place in places]
    # Sampled at whole pixels: a tenth of its slope within one.
    assert np.abs(alpha[20] / whole - wanted).max() < 0.004
    assert (alpha == alpha[0]).all()


def test_levels_stretch_and_clip() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    stretched = mask.feather(ramp, 0.0, (0.1, 0.9))
    exact = np.clip((np.arange(256) / 255 - 0.1) / 0.8, 0, 1) * 255
    # Rounded once: half a level, and float32's last digit.
    assert np.abs(stretched[0] - exact).max() <= 0.501
    assert np.array_equal(mask.feather(ramp, 0.0, (0.0, 1.0)), ramp)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, rgb = noise(200, 50, channels=1), noise(200, 50, seed=1)
    options = Options(guided=True, feather=2.0, levels=(0.1, 0.9), offset=1)
    whole = mask.adjust(alpha, rgb, options)
    monkeypatch.setattr(mask, "_STRIP", 700)
    parts = mask.adjust(alpha, rgb, options)
    # The same sums; where vector code adds them in another order a value may round the other way.
    assert np.abs(parts.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_guided_filter_follows_the_colours(kind: type) -> None:
    whole = np.iinfo(kind).max
    rgb = np.where(step()[..., None] > 0, np.uint8(220), np.uint8(30)) * np.ones(3, np.uint8)
    # The colours' edge lies in the middle of a mask that is far too soft.
    ramp = np.clip((np.arange(60) - 26) / 7, 0, 1)
    alpha: mask.Alpha = np.rint(np.broadcast_to(ramp, (40, 60)) * whole).astype(kind)
    guided = mask.guide(alpha, rgb)
    hard = (alpha == 0) | (alpha == whole)
    assert np.array_equal(guided[hard], alpha[hard])
    sharp = step(kind) / whole
    # Boxes of five pixels find a fifth of what a slope of seven is wrong by.
    assert np.abs(guided / whole - sharp).mean() < 0.8 * np.abs(alpha / whole - sharp).mean()


def test_coefficients_recover_a_mask_that_is_linear_in_the_colours() -> None:
    rng = np.random.default_rng(0)
    colours = rng.random((30, 40, 3), dtype=np.float32)
    target = (colours @ np.array([0.5, -0.2, 0.3], np.float32) + np.float32(0.2)).astype(np.float32)
    found = mask.coefficients(colours, target)
    # The regularisation is 1e-5 beside a variance of 1/12.
    assert np.abs(found - [0.5, -0.2, 0.3, 0.2]).max() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2)])
def test_small_pictures(size: tuple[int, int]) -> None:
    alpha, rgb = noise(*size, channels=1), noise(*size)
    options = Options(guided=True, feather=4.0, levels=(0.1, 0.9), offset=-3)
    assert mask.adjust(alpha, rgb, options).shape == size


@pytest.mark.parametrize("value", [0, 255])
def test_all_or_nothing_stays(value: int) -> None:
    alpha = np.full((30, 40), value, np.uint8)
    options = Options(guided=True, feather=4.0, levels=(0.1, 0.9), offset=5)
    assert (mask.adjust(alpha, noise(30, 40), options) == value).all()
