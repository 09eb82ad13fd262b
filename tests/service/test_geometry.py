"""Lengths, regions and margins as texts; where a subject goes; pixels on their canvas."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Box
from birefnet_runtime.serve.canvas import flatten, lay, over
from birefnet_runtime.serve.geometry import Layout, Placement, Sight
from birefnet_runtime.serve.lengths import (
    Length,
    Margins,
    parse_margins,
    parse_position,
    parse_region,
    parse_scale,
)
from birefnet_runtime.serve.order import parse_paint
from birefnet_runtime.shrink import size_within
from helpers.pictures import noise

# Drawn layouts; each takes some 50 us.
DRAWS = 2000


def whole(height: int, width: int) -> Sight:
    """The sight of a picture that was cut out as it is."""
    size = (height, width)
    return Sight(size, Box(0, 0, height, width), size, size)


def within(box: Box, size: tuple[int, int]) -> bool:
    return (
        min(box.top, box.left) >= 0
        and min(box.size) >= 1
        and box.top + box.height <= size[0]
        and box.left + box.width <= size[1]
    )


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0% 0% 100% 100%", Box(0, 0, 100, 200)),
        ("0 0 100% 100%", Box(0, 0, 100, 200)),
        ("10px 20px 50px 60px", Box(20, 10, 40, 40)),
        ("25% 10px 75% 50%", Box(10, 50, 40, 100)),
        ("150,50,900,900", Box(50, 150, 50, 50)),
    ],
)
def test_a_region_is_what_lies_inside_the_picture(text: str, box: Box) -> None:
    assert parse_region(text).box((100, 200)) == box


@pytest.mark.parametrize("text", ["0 0 0 0", "50% 0 50% 100%", "60 0 40 90", "200 0 300 50"])
def test_a_region_without_a_pixel_is_refused(text: str) -> None:
    region = parse_region(text)
    with pytest.raises(OptionError, match="200 wide and 100 high"):
        region.box((100, 200))


@pytest.mark.parametrize(
    ("text", "margins"),
    [
        ("0", (0, 0, 0, 0)),
        ("30px", (30, 30, 30, 30)),
        ("10%", (4, 8, 4, 8)),
        ("10% 5px", (4, 5, 4, 5)),
        ("1 2px 3 4%", (1, 2, 3, 3)),
        ("500px", (500, 500, 500, 500)),
        ("50%", (20, 40, 20, 40)),
    ],
)
def test_margins_go_round_from_the_top(text: str, margins: tuple[int, int, int, int]) -> None:
    top, right, bottom, left = margins
    box, canvas = parse_margins(text).around((40, 80))
    assert box == Box(top, left, 40, 80)
    assert canvas == (40 + top + bottom, 80 + left + right)


@pytest.mark.parametrize(
    "text", ["1 2 3", "501px", "51%", "-3", "", "ten", "1e2", "nan", "1 2 3 4 5"]
)
def test_other_margins_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="crop_margin"):
        parse_margins(text)


@pytest.mark.parametrize(
    "text", ["0 0 50%", "0 0 101% 50%", "a b c d", "", "0 0 1 1 1", "-1 0 9 9"]
)
def test_other_regions_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="roi"):
        parse_region(text)


def test_scales_and_positions_are_shares() -> None:
    assert parse_scale("original") is None
    assert [parse_scale(text) for text in ("10%", "62.5%", "100%")] == [0.1, 0.625, 1.0]
    assert parse_position("original") is None
    assert parse_position("center") == (0.5, 0.5)
    assert parse_position("20%") == (0.2, 0.2)
    assert parse_position("0% 100%") == (0.0, 1.0)


@pytest.mark.parametrize("text", ["9%", "101%", "80", "80px", "0.8", "", "80% 80%", "big"])
def test_other_scales_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="scale"):
        parse_scale(text)


@pytest.mark.parametrize("text", ["middle", "101%", "5px", "1% 2% 3%", "", "5"])
def test_other_positions_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="position"):
        parse_position(text)


@pytest.mark.parametrize(
    ("text", "paint"),
    [
        ("f00", (255, 0, 0, 255)),
        ("#f008", (255, 0, 0, 136)),
        ("81d4fa", (129, 212, 250, 255)),
        ("#81D4FA77", (129, 212, 250, 119)),
        ("green", (0, 128, 0, 255)),
    ],
)
def test_a_colour_may_have_its_own_alpha(text: str, paint: tuple[int, int, int, int]) -> None:
    assert parse_paint(text) == paint


@pytest.mark.parametrize("text", ["12345", "#12", "f00g", "rgb(1,2,3)", "x.png", "blur", ""])
def test_other_colours_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="bg_color"):
        parse_paint(text)


def test_nothing_moves_where_nothing_is_asked_for() -> None:
    placement = Layout().place(whole(30, 40), Box(5, 6, 7, 8))
    assert placement == Placement(Box(0, 0, 30, 40), Box(0, 0, 30, 40), (30, 40))


@pytest.mark.parametrize(
    ("layout", "at"),
    [
        # 20 x 10 on 100 x 200: the height reaches half of the canvas before the width does.
        (Layout(scale=0.5, position=(0.5, 0.5)), Box(25, 88, 50, 25)),
        (Layout(position=(0.0, 1.0)), Box(80, 0, 20, 10)),
        (Layout(position=(1.0, 0.0)), Box(0, 190, 20, 10)),
        # Its middle was at (20, 15), which it cannot keep: half of it would be outside.
        (Layout(scale=1.0), Box(0, 0, 100, 50)),
        (Layout(scale=0.1), Box(15, 12, 10, 5)),
    ],
)
def test_a_subject_is_scaled_and_put_where_it_is_asked_for(layout: Layout, at: Box) -> None:
    subject = Box(10, 10, 20, 10)
    assert layout.place(whole(100, 200), subject) == Placement(subject, at, (100, 200))


def test_a_crop_is_the_subject_and_its_margins() -> None:
    margins = Margins(*(Length(value) for value in (1, 2, 3, 4)))
    subject = Box(0, 0, 20, 10)
    found = Layout(crop=True, margins=margins, position=(1.0, 1.0)).place(whole(100, 200), subject)
    assert found == Placement(subject, Box(1, 4, 20, 10), (24, 16))


def test_a_region_lies_in_its_place_on_a_smaller_canvas() -> None:
    # The left half of 200 x 400, cut out as it is; the canvas is half as large.
    sight = Sight((200, 400), Box(0, 0, 200, 200), (200, 200), (100, 200))
    assert Layout().place(sight, None) == Placement(
        Box(0, 0, 200, 200), Box(0, 0, 100, 100), (100, 200)
    )
    # A region away from the edge, cut out at half its size.
    sight = Sight((200, 400), Box(100, 40, 100, 200), (50, 100), (200, 400))
    assert sight.in_picture(Box(10, 10, 20, 30)) == Box(120, 60, 40, 60)


def test_drawn_layouts_stay_on_their_canvas() -> None:
    rng = np.random.default_rng(7)
    for _ in range(DRAWS):
        sight, subject = _drawn_sight(rng)
        layout = Layout(
            scale=None if rng.random() < 0.3 else float(rng.uniform(0.1, 1)),
            position=None if rng.random() < 0.3 else (float(rng.random()), float(rng.random())),
            crop=bool(rng.random() < 0.3),
            margins=Margins(*(Length(float(value), True) for value in rng.uniform(0, 50, 4))),
        )
        found = layout.place(sight, subject)
        assert within(found.at, found.canvas), (sight, subject, layout)
        assert within(found.part, sight.cut), (sight, subject, layout)
        assert within(sight.in_picture(subject), sight.picture), (sight, subject)
        if not layout.crop:
            assert found.canvas == sight.canvas
        if layout.scale is not None:
            share = max(
                side / whole for side, whole in zip(found.at.size, sight.canvas, strict=True)
            )
            # Off by half a pixel at most, and never below one pixel.
            pixel = max(1 / sight.canvas[0], 1 / sight.canvas[1])
            assert layout.crop or abs(share - layout.scale) <= pixel, (sight, subject, layout)


def _drawn_sight(rng: np.random.Generator) -> tuple[Sight, Box]:
    """Any picture, region and size of its cut-out, and a box in that."""
    picture = (int(rng.integers(1, 300)), int(rng.integers(1, 300)))
    region = _drawn_box(rng, picture)
    shrink = int(rng.integers(1, 4))
    cut = (max(1, region.height // shrink), max(1, region.width // shrink))
    canvas = size_within(picture, int(rng.integers(1, 90_000)))
    return Sight(picture, region, cut, canvas), _drawn_box(rng, cut)


def _drawn_box(rng: np.random.Generator, size: tuple[int, int]) -> Box:
    top, left = (int(rng.integers(0, side)) for side in size)
    return Box(
        top, left, int(rng.integers(1, size[0] - top + 1)), int(rng.integers(1, size[1] - left + 1))
    )


def test_pixels_that_stay_are_not_touched() -> None:
    rgba = noise(6, 8, 4)
    place = Layout().place(whole(6, 8), None)
    assert lay(rgba, place) is rgba
    moved = lay(rgba, Placement(Box(1, 2, 3, 4), Box(5, 6, 3, 4), (20, 30)))
    np.testing.assert_array_equal(moved[5:8, 6:10], rgba[1:4, 2:6])
    assert moved.shape == (20, 30, 4)
    assert moved.sum() == rgba[1:4, 2:6].sum(dtype=np.int64)


@pytest.mark.parametrize("size", [(4, 8), (64, 128), (8, 64)])
def test_what_alpha_hides_does_not_show_after_resizing(size: tuple[int, int]) -> None:
    rgba = np.zeros((16, 32, 4), np.uint8)
    # Red is seen on the left, green is hidden on the right.
    rgba[:, :16] = (200, 0, 0, 255)
    rgba[:, 16:] = (0, 255, 0, 0)
    found = lay(rgba, Placement(Box(0, 0, 16, 32), Box(0, 0, *size), size))
    seen = found[found[..., 3] > 0]
    assert seen[:, 1].max() == 0
    # Below a 16th of alpha the weighed colours have too few steps for a whole level.
    seen = seen[seen[:, 3] >= 16]
    assert np.abs(seen[:, 0].astype(int) - 200).max() <= 1
    assert found[found[..., 3] == 0].max() == 0
    # Half of it is subject, whatever its size: within what one column of pixels is worth.
    assert abs(found[..., 3].mean() / 255 - 0.5) <= 1 / size[1]


def test_a_colour_with_alpha_lies_behind() -> None:
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [255, 0, 0, 51]]], np.uint8)
    found = over(rgba, (0, 0, 255, 102))
    assert found[0, 0].tolist() == [10, 20, 30, 255]
    assert found[0, 1].tolist() == [0, 0, 255, 102]
    # Alpha 0.2 over 0.4 is 0.52, of which red has 0.2 / 0.52; Pillow rounds each channel.
    np.testing.assert_allclose(found[0, 2], [98, 0, 157, 133], atol=1)


def test_an_opaque_background_is_a_colour_or_a_picture_that_covers() -> None:
    rgba = np.zeros((10, 20, 4), np.uint8)
    rgba[:, :10] = (1, 2, 3, 255)
    flat = flatten(rgba, (7, 8, 9))
    assert flat[0, 0].tolist() == [1, 2, 3] and flat[0, 19].tolist() == [7, 8, 9]
    picture = np.full((5, 5, 3), 50, np.uint8)
    assert flatten(rgba, picture)[9, 19].tolist() == [50, 50, 50]
