"""Tiles lie along soft edges, are not scaled, and count only where the first pass is unsure."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime import tiles
from birefnet_runtime.frame import Box, Floats
from birefnet_runtime.matte import sample

SIZE, MODEL = (600, 900), (128, 96)


def soft_disc(side: int = 64) -> Floats:
    y, x = np.mgrid[:side, :side]
    radius = np.hypot(y - side / 2, x - side / 2)
    disc: Floats = np.clip((side / 4 - radius) / 3 + 0.5, 0, 1).astype(np.float32)
    return disc


@pytest.mark.parametrize("whole", [1, 95, 96, 97, 168, 169, 1000, 5000])
def test_tiles_cover_an_axis_and_overlap(whole: int) -> None:
    starts = tiles.starts(whole, 96)
    side = min(96, whole)
    assert starts[0] == 0
    assert starts[-1] + side == whole
    steps = np.diff(starts)
    # Rounded to whole pixels.
    assert (steps <= 96 * (1 - tiles.OVERLAP) + 1).all()


def test_views_are_the_pictures_own_pixels_along_the_edge() -> None:
    views, count = tiles.views(soft_disc(), SIZE, MODEL)
    assert len(views) == count
    everywhere = len(tiles.starts(SIZE[0], 128)) * len(tiles.starts(SIZE[1], 96))
    assert 4 < count < everywhere
    for view in views:
        assert view.box.size == view.inner.size == MODEL
        assert view.box.top + 128 <= SIZE[0]
        assert view.box.left + 96 <= SIZE[1]


def test_a_picture_narrower_than_the_model() -> None:
    views, _ = tiles.views(soft_disc(), (50, 900), MODEL)
    assert {view.box.size for view in views} == {(50, 96)}
    assert {view.inner.size for view in views} == {(50, 96)}
    assert {view.inner.top for view in views} == {39}


def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    every, count = tiles.views(soft_disc(), SIZE, MODEL)
    monkeypatch.setattr(tiles, "MOST_PIXELS", 3 * 128 * 96)
    few, still = tiles.views(soft_disc(), SIZE, MODEL)
    assert still == count
    assert few == every[:3]


def test_a_hard_edge_is_in_question() -> None:
    coarse = np.zeros((8, 8), np.float32)
    coarse[:, 4:] = 1
    unsure = tiles.band(coarse)
    assert unsure[:, 3:5].min() > 0.6
    assert not unsure[:, [0, 1, 6, 7]].any()


def test_nothing_in_question() -> None:
    for value in (0.0, 1.0):
        assert tiles.views(np.full((64, 64), value, np.float32), SIZE, MODEL) == ((), 0)


def test_a_tile_counts_only_in_the_band() -> None:
    coarse = soft_disc()
    views, _ = tiles.views(coarse, SIZE, MODEL)
    planes = [np.full(MODEL, 0.5, np.float32) for _ in views]
    patches = tiles.patches(coarse, SIZE, views, planes)
    kept = [patch for patch in patches if patch is not None]
    assert kept
    unsure = tiles.band(coarse)
    for patch in kept:
        assert patch.weight.max() <= 1
        rows, columns = (
            np.clip(
                ((start + (np.arange(points) + 0.5) * side / points) * 64 / whole).astype(int),
                0,
                63,
            )
            for start, points, side, whole in zip(
                (patch.box.top, patch.box.left),
                patch.weight.shape,
                patch.box.size,
                SIZE,
                strict=True,
            )
        )
        near = unsure[np.ix_(rows, columns)]
        # Bilinear between neighbours: what is far from the band is 0.
        assert not patch.weight[near == 0].size or patch.weight[near == 0].max() < 0.5


def test_a_tile_that_contradicts_is_left_out() -> None:
    coarse, whole = soft_disc(), Box(0, 0, *SIZE)
    views, _ = tiles.views(coarse, SIZE, MODEL)
    agreed = [sample(coarse, whole, view.box, MODEL) for view in views]
    assert None not in tiles.patches(coarse, SIZE, views, agreed)
    contrary = [1 - plane for plane in agreed]
    assert tiles.patches(coarse, SIZE, views, contrary) == [None] * len(views)
