"""Planes of parts of a picture come out seamless at its own resolution."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime import refine
from birefnet_runtime.frame import Box, Floats
from birefnet_runtime.matte import Matte, Patch, ramp, sample
from birefnet_runtime.refine import Enlarged, resize, to_alpha
from helpers.pictures import noise

WHOLE = (301, 403)


def random_plane(height: int, width: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def slope(box: Box, size: tuple[int, int], whole: tuple[int, int] = WHOLE) -> Floats:
    """float32 of ``size`` over ``box``: the column's share of the whole picture's width."""
    columns = box.left + (np.arange(size[1]) + 0.5) * box.width / size[1]
    return np.repeat((columns / whole[1])[None], size[0], axis=0).astype(np.float32)


def patch(box: Box, plane: Floats, whole: tuple[int, int] = WHOLE) -> Patch:
    return Patch(plane, box, ramp(box, whole, plane.shape, (6, 6)))


@pytest.mark.parametrize("size", [WHOLE, (1, 500), (500, 1), (32, 32), (20, 700), (1, 1)])
def test_without_patches_it_is_what_one_pass_gives(size: tuple[int, int]) -> None:
    plane = random_plane(32, 32)
    own = noise(*size, channels=1)
    assert np.array_equal(Matte(size, plane).render(own), to_alpha(plane, size, own))
    assert np.array_equal(Matte(size, plane).render(), to_alpha(plane, size))


BOXES = (Box(40, 50, 120, 200), Box(100, 180, 201, 160), Box(0, 0, 64, 403), Box(90, 33, 7, 300))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_stays_constant_across_seams(value: float) -> None:
    planes = tuple(patch(box, np.full((32, 48), value, np.float32)) for box in BOXES)
    alpha = Matte(WHOLE, np.full((32, 32), value, np.float32), planes).render(depth=16)
    # Float32 of a weighted mean, in units of 1/65535.
    assert np.abs(alpha - value * 65535).max() <= 1


def test_a_slope_stays_a_slope_across_seams() -> None:
    whole = Box(0, 0, *WHOLE)
    planes = tuple(patch(box, slope(box, (40, 64))) for box in BOXES)
    alpha = Matte(WHOLE, slope(whole, (32, 64)), planes).render()
    exact = slope(whole, WHOLE) * 255
    away = np.ones(WHOLE[1], bool)
    # At the sides of planes the border is repeated: half of a plane's pixel is flat there.
    away[:7] = away[-7:] = False
    # OpenCV's kernel bends a slope by 5 % of its step of 4 levels, and rounding adds a half.
    assert np.abs(alpha - exact)[:, away].max() < 1.5


def test_a_patch_covers_where_its_weight_is_one() -> None:
    box, fine = Box(50, 60, 64, 64), random_plane(64, 64)
    alone = Patch(fine, box, np.ones((16, 16), np.float32))
    alpha = Matte(WHOLE, np.zeros((32, 32), np.float32), (alone,)).render()
    assert np.array_equal(alpha[box.slices], to_alpha(fine, (64, 64)))
    alpha[box.slices] = 0
    assert not alpha.any()


def test_patches_share_by_their_weights() -> None:
    box = Box(10, 10, 50, 50)
    values = (0.2, 0.8)
    both = tuple(
        Patch(np.full((8, 8), value, np.float32), box, np.ones((8, 8), np.float32))
        for value in values
    )
    alpha = Matte(WHOLE, np.ones((32, 32), np.float32), both).render()
    # 127.5 in float32 falls to either side.
    assert set(np.unique(alpha[box.slices])) <= {127, 128}


def test_large_planes_are_rendered_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step beside the one that makes small planes at once."""
    planes = tuple(patch(box, random_plane(32, 48, seed)) for seed, box in enumerate(BOXES))
    matte, own = Matte(WHOLE, random_plane(32, 32), planes), noise(*WHOLE, channels=1)
    wanted = matte.render(own)
    monkeypatch.setattr(refine, "WHOLE", 1)
    monkeypatch.setattr("birefnet_runtime.matte._STRIP", 5000)
    difference = np.abs(matte.render(own).astype(int) - wanted)
    # OpenCV keeps positions in float32: within 1e-5, which may fall to the other side of a half.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("size", [(97, 211), (40, 16), (16, 300), (3, 5), (200, 1), (1, 200)])
def test_strips_equal_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    plane = random_plane(32, 48)
    whole = resize(plane, size)
    monkeypatch.setattr(refine, "WHOLE", 0)
    enlarged = Enlarged(plane, size)
    rows = [enlarged.rows(top, min(top + 7, size[0])) for top in range(0, size[0], 7)]
    # OpenCV's positions, float32 up to 200, are off by 1e-5 at most; the slope is below 2 per one.
    assert np.abs(np.concatenate(rows) - whole).max() < 1e-4


def test_sixteen_bits() -> None:
    plane = random_plane(32, 32)
    wide = Matte(WHOLE, plane).render(depth=16)
    assert wide.dtype == np.uint16
    # Half a step of 1/65535, and float32's own of numbers near 1.
    assert np.abs(wide / 65535 - resize(plane, WHOLE)).max() < 0.51 / 65535
    assert np.array_equal(
        Matte((32, 32), np.ones((4, 4), np.float32)).render(depth=16).ravel()[:1], [65535]
    )


def test_sampling_a_part() -> None:
    whole = Box(0, 0, *WHOLE)
    plane = slope(whole, (64, 64))
    for box in BOXES:
        found = sample(plane, whole, box, (24, 40))
        # Bilinear keeps a slope, but for half a pixel of the plane at the picture's sides, and
        # OpenCV's warp has steps of 1/32 pixel.
        assert np.abs(found - slope(box, (24, 40))).max() < 0.6 / 64


def test_a_ramp_does_not_fall_at_the_pictures_own_sides() -> None:
    inner = ramp(Box(10, 10, 50, 50), WHOLE, (20, 20), (4, 4))
    assert inner[0].max() < 0.2 and inner[:, -1].max() < 0.2 and inner[10, 10] == 1
    corner = ramp(Box(0, 0, 50, 50), WHOLE, (20, 20), (4, 4))
    assert corner[0, 0] == 1 and corner[-1, 0] < 0.2
    assert (ramp(Box(0, 0, *WHOLE), WHOLE, (20, 20), (4, 4)) == 1).all()
