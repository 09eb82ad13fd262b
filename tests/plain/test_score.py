"""Scores of masks whose scores are known."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime.score import SMALLEST_SHARE, score


def test_a_hard_mask_is_certain() -> None:
    alpha = np.zeros((100, 100), np.uint8)
    alpha[:25] = 255
    found = score(alpha)
    # Exact but for float64's last digits.
    assert found.share == pytest.approx(0.25)
    assert (found.uncertainty, found.soft, found.found) == (0.0, 0.0, True)
    assert str(found) == "foreground 25.0%, uncertainty 0.00"


def test_half_and_half_is_all_doubt() -> None:
    found = score(np.full((10, 10), 128, np.uint8))
    # 128 is half a level above the middle.
    assert found.uncertainty == pytest.approx(1.0, abs=1e-4)
    assert found.soft == 1.0


def test_figures_equal_their_definitions() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8)
    a = alpha / 255
    band = (alpha > 0) & (alpha < 255)
    found = score(alpha)
    # Sums of the same numbers in another order.
    assert found.share == pytest.approx(a.mean())
    assert found.uncertainty == pytest.approx((4 * a * (1 - a))[band].mean())
    assert found.soft == pytest.approx(band.mean())


def test_nothing_found_is_said() -> None:
    empty = score(np.zeros((50, 50), np.uint8))
    assert (empty.share, empty.uncertainty, empty.found) == (0.0, 0.0, False)
    assert str(empty) == "nothing found"
    # Faint everywhere, as models are of an empty scene.
    assert not score(np.full((500, 500), 3, np.uint8)).found


def test_a_subject_has_so_many_pixels() -> None:
    alpha = np.zeros((1000, 1000), np.uint8)
    alpha.flat[: int(SMALLEST_SHARE * alpha.size) - 1] = 255
    assert not score(alpha).found
    alpha.flat[int(SMALLEST_SHARE * alpha.size) - 1] = 255
    assert score(alpha).found


def test_one_pixel_is_enough_of_a_small_picture() -> None:
    assert score(np.array([[255, 0]], np.uint8)).found
