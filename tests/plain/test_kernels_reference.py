"""The twins of the kernels agree with the CPU path: refine.py and Cutout."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime import foreground, launches, multilevel, refine
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.frame import Bytes
from birefnet_runtime.levels import Pyramid
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


def scene(height: int, width: int) -> tuple[Bytes, Bytes, Bytes]:
    """(picture, alpha, true foreground): smooth colours, a round edge and thin lines."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (9 + 3 * k) + k) * np.cos(y / (14 - 2 * k) - k) for k in range(6)]
    front, back = (np.stack(part, axis=-1) * 55 for part in (waves[:3], waves[3:]))
    front = np.rint(front + np.array([180, 120, 60]))
    back = np.rint(back + np.array([60, 110, 170]))
    radius = np.hypot(y - height / 2, x - width / 2)
    hairs = np.clip(1.5 - np.abs((x + 2 * y) % 13 - 6), 0, 0.7) * (radius < 0.45 * width)
    a = np.maximum(np.clip((0.33 * width - radius) / 4, 0, 1), hairs)
    alpha = np.rint(a * 255).astype(np.uint8)
    share = alpha[..., None] / 255
    picture = np.rint(share * front + (1 - share) * back).astype(np.uint8)
    return picture, alpha, front.astype(np.uint8)


@pytest.mark.parametrize("size", [(120, 150), (400, 600)])
def test_estimated_colours_are_as_near_to_the_truth_as_the_cpus(size: tuple[int, int]) -> None:
    picture, alpha, truth = scene(*size)
    soft = (alpha > 0) & (alpha < 255)
    pyramid = Pyramid.of(size)
    levels, first = len(pyramid.sizes) - pyramid.small, pyramid.sizes[pyramid.small]
    sweeps = multilevel.sweeps(pyramid.small, first)
    plates = reference.colours_coarse(picture, alpha, levels, pyramid.small, sweeps)
    for level in range(pyramid.small - 1, pyramid.last - 1, -1):
        for turn in range(multilevel.sweeps(level, pyramid.sizes[level]) // launches.LEVEL_SWEEPS):
            plates = reference.colours_level(picture, alpha, plates, level, int(turn == 0))
    found, _ = reference.colours_image(picture, alpha, plates, launches.COLOURS)
    host = foreground.estimate(picture, alpha, "ml")

    def error(colours: Bytes) -> float:
        return float(np.abs(colours.astype(int) - truth)[soft].mean())

    # 0.1 to 0.5 % was measured; panes with nothing soft are not swept, and what is kept between
    # levels is rounded otherwise.
    assert error(found) == pytest.approx(error(host), rel=0.05)
    assert error(found) < 0.3 * error(picture)
    # As in test_cuda_colour.py.
    assert np.abs(found.astype(int) - host).max() <= 2
    assert np.array_equal(found[~soft], picture[~soft])
