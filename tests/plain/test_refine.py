"""Alpha is activated, brought to the picture's size and rounded once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from birefnet_runtime.frame import Floats
from birefnet_runtime.refine import activate, compose, resize, round_to, to_alpha
from helpers.pictures import noise


def random_alpha(height: int, width: int) -> Floats:
    return np.random.default_rng(0).random((height, width), dtype=np.float32)


def test_sigmoid_is_stable_and_right() -> None:
    logits = np.array([[-np.float32(3e38), -1000, -90, -5, 0], [5, 20, 90, 1000, 3e38]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alpha = activate(logits, "sigmoid")
    exact = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -700, 700)))
    assert alpha.dtype == np.float32
    # tanh in float32 is off by a few units in the last place of a number near 1.
    assert np.abs(alpha - exact).max() < 3e-7


def test_alpha_is_clipped_and_never_stretched() -> None:
    values = np.array([[0.4, 0.6], [-0.25, 1.5]], np.float32)
    assert np.array_equal(activate(values, "none"), np.array([[0.4, 0.6], [0, 1]], np.float32))
    faint = np.full((8, 8), 0.001, np.float32)
    assert not to_alpha(faint, (16, 16)).any()


def test_a_flat_alpha_stays_flat() -> None:
    for value in (0.0, 0.25, 1.0):
        for size in ((5, 70), (70, 5), (5, 5), (70, 70), (32, 32), (1, 1)):
            full = resize(np.full((32, 32), value, np.float32), size)
            assert full.shape == size
            # The kernel's weights sum to one within float32.
            assert np.abs(full - value).max() < 1e-6


def test_same_size_is_unchanged() -> None:
    alpha = random_alpha(32, 32)
    assert np.array_equal(resize(alpha, (32, 32)), alpha)


def test_scaling_up_is_bicubic() -> None:
    # A smooth ramp: any interpolating cubic kernel gives it back away from the edges.
    ramp = np.repeat(np.linspace(0.2, 0.8, 32, dtype=np.float32)[None], 32, axis=0)
    full = resize(ramp, (128, 128))
    centres = (np.arange(128) + 0.5) / 4 - 0.5
    wanted = 0.2 + 0.6 * centres / 31
    # OpenCV's kernel (a = -0.75) bends a ramp a little: within 5 % of its step of 0.019.
    assert np.abs(full[64] - wanted)[8:-8].max() < 1e-3
    kernel = Image.Resampling.BICUBIC
    alpha = random_alpha(32, 32)
    pillow = np.asarray(Image.fromarray(alpha).resize((128, 96), kernel)).clip(0, 1)
    # Pillow's bicubic has a = -0.5: on noise, the worst case, the two differ, but not in kind.
    assert np.abs(resize(alpha, (96, 128)) - pillow).mean() < 0.03


def test_scaling_down_averages() -> None:
    alpha = random_alpha(64, 64)
    blocks = alpha.reshape(16, 4, 16, 4).mean((1, 3))
    # Sums of 16 float32 in another order.
    assert np.abs(resize(alpha, (16, 16)) - blocks).max() < 1e-6


@pytest.mark.parametrize("size", [(50, 400), (400, 50), (37, 41)])
def test_an_axis_that_shrinks_does_not_alias(size: tuple[int, int]) -> None:
    board = (np.indices((128, 128)).sum(0) % 2).astype(np.float32)
    full = resize(board, size)
    shrinks = [axis for axis in (0, 1) if size[axis] < 128]
    for axis in shrinks:
        # The mean over the axis that shrinks is half; one cell of 128 more or less fits in.
        assert np.abs(full.mean(axis) - 0.5).max() < 0.02


def test_extreme_shapes() -> None:
    alpha = random_alpha(16, 16)
    for size in ((1, 40000), (40000, 1), (1, 1)):
        assert to_alpha(alpha, size).shape == size


def test_rounding_happens_once_at_the_end() -> None:
    steps = np.array([[0.5 / 255 - 1e-6, 0.5 / 255 + 1e-6, 254.5 / 255 + 1e-6, 1]], np.float32)
    assert round_to(steps).tolist() == [[0, 1, 255, 255]]
    # 0.998 is 254.49 and the picture's own 128 makes it 127.74: rounding twice would give 127.
    own = np.array([[128]], np.uint8)
    assert to_alpha(np.array([[0.998]], np.float32), (1, 1), own).tolist() == [[128]]


def test_own_alpha_is_multiplied_in() -> None:
    own = noise(40, 30, channels=1)
    full = np.ones((8, 8), np.float32)
    assert np.array_equal(to_alpha(full, (40, 30), own), own)
    half = to_alpha(full * np.float32(0.5), (40, 30), own)
    # Half of an odd number lies half-way: float32 decides to which side, so half a level and a bit.
    assert np.abs(half - own / 2).max() < 0.501


def test_composition_is_exact() -> None:
    rgb, alpha = noise(256, 256), np.repeat(np.arange(256, dtype=np.uint8)[:, None], 256, axis=1)
    colour = (10, 128, 255)
    share = alpha[..., None] / 255
    exact = rgb * share + np.array(colour) * (1 - share)
    result = compose(rgb, alpha, colour)
    assert result.dtype == np.uint8
    # Correctly rounded: never further than half a level (and float64's last digit) from exact.
    assert np.abs(result - exact).max() <= 0.5 + 1e-9
    assert np.array_equal(result[255], rgb[255])
    assert (result[0] == colour).all()
