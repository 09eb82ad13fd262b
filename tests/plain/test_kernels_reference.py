"""The twins of the kernels agree with the CPU path: refine.py and Cutout."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime import launches, refine
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.frame import Bytes
from helpers import reference
from helpers.kernel_cases import matte
from helpers.pictures import noise

# Full sizes for an alpha of 96x96 and one of 1024x1024.
SMALL = [
    (96, 96),
    (192, 192),
    (97, 131),
    (48, 32),
    (70, 300),
    (300, 70),
    (95, 95),
    (1, 1),
    (1, 999),
]
LARGE = [(1023, 1025), (1500, 1000), (700, 333)]


@pytest.mark.parametrize("size", [(96, full) for full in SMALL] + [(1024, full) for full in LARGE])
@pytest.mark.parametrize("own", [False, True])
def test_cutout_equals_refine(size: tuple[int, tuple[int, int]], own: bool) -> None:
    side, full = size
    alpha = matte(side, side)
    mask: Bytes | None = noise(*full, 1) if own else None
    _, plane = reference.cutout(alpha, np.zeros((*full, 3), np.uint8), mask)
    difference = np.abs(plane.astype(int) - refine.to_alpha(alpha, full, mask))
    # Sums in another order, and some builds of cv2 round positions to float32, which moves alpha by
    # up to 6e-5 near column 1000: only values that close to a tie between two levels may differ.
    assert difference.max() <= 1
    # 6e-5 * 255 on both sides of a tie is 3 % of the values at the very worst; 0.15 % was measured
    # on noise with such positions, 0.006 % without.
    assert np.count_nonzero(difference) <= 0.005 * difference.size


@pytest.mark.parametrize("full", [*SMALL, *LARGE])
def test_float_alpha_equals_refine(full: tuple[int, int]) -> None:
    # A smooth matte, so that a position off by 6e-5 hardly matters: what is left is rounding.
    y, x = np.mgrid[:96, :96] / 96
    alpha = (0.5 + 0.5 * np.sin(7 * x + 5 * y * y)).astype(np.float32)
    mask, plane = reference.cutout(alpha, np.zeros((*full, 3), np.uint8), None, launches.MASK)
    exact = refine.resize(alpha, full) * 255
    # Half a level of rounding, and 255 * 1e-5.
    assert np.abs(mask - exact).max() <= 0.5 + 3e-3
    assert np.array_equal(mask, plane)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_activate_equals_refine(activation: str) -> None:
    values = np.linspace(-110, 110, 1_000_001, dtype=np.float32)
    alpha, bad = reference.activate(values, activation)
    assert not bad
    # Two roundings near 1 on each side: tanh's here, a division's there.
    assert np.abs(alpha - refine.activate(values, activation)).max() < 2.5e-7


def test_values_that_are_not_finite_are_found() -> None:
    for value in (np.nan, np.inf, -np.inf):
        for activation in launches.ACTIVATIONS:
            alpha, bad = reference.activate(np.array([0.5, value], np.float32), activation)
            assert bad
            assert 0 <= alpha[1] <= 1


@pytest.mark.parametrize("channels", [3, 4])
def test_images_equal_the_cutouts(channels: int) -> None:
    rgb, alpha = noise(256, 300, channels), matte(256, 300)
    image, plane = reference.cutout(alpha, rgb)
    foreground = np.ascontiguousarray(rgb[..., :3])
    assert {0, 255} < set(plane.ravel().tolist())
    assert np.array_equal(image, Cutout(foreground, plane).rgba)
    colour = (10, 192, 255)
    over, _ = reference.cutout(alpha, rgb, None, launches.COLOUR, 0x0AC0FF)
    assert np.array_equal(over, refine.compose(foreground, plane, colour))
