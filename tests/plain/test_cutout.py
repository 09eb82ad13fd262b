"""What a cut-out gives out: every output on every background, whole and cropped, 8 and 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime.cutout import Cutout
from birefnet_runtime.errors import OptionError, OutputError
from birefnet_runtime.frame import Box, Bytes, Words
from birefnet_runtime.options import Options
from birefnet_runtime.picture import to_eight_bits
from helpers.pictures import decoded, encoded, noise, smooth


def mask(height: int = 60, width: int = 80) -> Bytes:
    """uint8 [H,W]: a box of 255 with a soft column on its left, nothing else."""
    alpha = np.zeros((height, width), np.uint8)
    alpha[10:30, 21:50] = 255
    alpha[10:30, 20] = 100
    return alpha


def cutout(**options: object) -> Cutout:
    return Cutout(noise(60, 80), mask(), options=Options(**options))  # type: ignore[arg-type]


def deep(**options: object) -> tuple[Cutout, Words, Words]:
    """A cut-out with 16 bits whose foreground is not the picture; its picture and its mask."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 65536, (60, 80, 3), dtype=np.uint16)
    alpha = mask().astype(np.uint16) * np.uint16(257)
    alpha[10:30, 20] += 77
    found = to_eight_bits(wide)
    found[:, 20] = 7
    asked = Options(depth=16, **options)  # type: ignore[arg-type]
    return Cutout(found, mask(), options=asked, wide=wide, wide_alpha=alpha), wide, alpha


def test_straight_colours_are_cleared_where_nothing_is_seen() -> None:
    one = cutout()
    image = one.image
    assert image.shape == (60, 80, 4)
    assert np.array_equal(image[..., 3], one.alpha)
    seen = one.alpha > 0
    assert np.array_equal(image[seen][:, :3], one.foreground[seen])
    assert not image[~seen].any()
    kept = cutout(clear=False).image
    assert np.array_equal(kept[..., :3], one.foreground)
    assert np.array_equal(kept[..., 3], one.alpha)


def test_premultiplied_is_rounded_exactly() -> None:
    one = cutout(output="premultiplied")
    exact = one.foreground * (one.alpha[..., None] / 255)
    # Correctly rounded: never further than half a level.
    assert np.abs(one.image[..., :3] - exact).max() <= 0.5
    assert np.array_equal(one.image[..., 3], one.alpha)
    # The straight pixels are at hand too.
    assert np.array_equal(one.rgba, cutout().rgba)


def test_parts_of_it() -> None:
    assert np.array_equal(cutout(output="alpha").image, mask())
    assert np.array_equal(cutout(output="foreground").image, noise(60, 80))


@pytest.mark.parametrize("background", ["#102030", "blur", "checker", encoded(smooth(30, 30))])
def test_on_a_background(background: str | bytes) -> None:
    one = cutout(background=background)
    image = one.image
    assert image.shape == (60, 80, 3)
    assert image.dtype == np.uint8
    inside = one.alpha == 255
    assert np.array_equal(image[inside], one.foreground[inside])
    soft = one.alpha == 100
    assert (image[soft] != one.foreground[soft]).any()
    assert decoded(one.encode(".jpg")).shape == (60, 80, 3)


def test_the_subjects_box() -> None:
    assert cutout().box == Box(10, 20, 20, 30)
    assert Cutout(noise(60, 80), np.zeros((60, 80), np.uint8)).box is None
    faint = mask()
    faint[40, 70] = 25
    # Less than a tenth is not seen.
    assert Cutout(noise(60, 80), faint).box == Box(10, 20, 20, 30)


@pytest.mark.parametrize(
    ("margin", "area"),
    [
        ("0px", Box(10, 20, 20, 30)),
        ("5px", Box(5, 15, 30, 40)),
        ("10%", Box(7, 17, 26, 36)),
        ("1000", Box(0, 0, 60, 80)),
        ("15px", Box(0, 5, 45, 60)),
    ],
)
@pytest.mark.parametrize(
    "asked",
    [
        {"output": "rgba"},
        {"output": "premultiplied"},
        {"output": "alpha"},
        {"output": "foreground"},
        {"background": "white"},
        {"background": "blur"},
    ],
)
def test_a_crop_is_a_part_of_the_whole(margin: str, area: Box, asked: dict[str, str]) -> None:
    whole, cropped = cutout(**asked), cutout(**asked, crop=True, margin=margin)
    assert cropped.area == area
    assert np.array_equal(cropped.image, whole.image[area.slices])


def test_a_crop_on_a_picture_is_as_large_as_the_subject() -> None:
    behind = encoded(smooth(20, 30))
    for background in (behind, "checker"):
        assert cutout(background=background, crop=True).image.shape == (20, 30, 3)


def test_a_crop_where_nothing_was_found_is_the_whole_picture() -> None:
    empty = Cutout(noise(9, 8), np.zeros((9, 8), np.uint8), options=Options(crop=True))
    assert empty.image.shape == (9, 8, 4)
    assert str(empty.score) == "nothing found"


def test_what_the_device_made_is_cropped_too() -> None:
    made = noise(60, 80, channels=4)
    one = Cutout(noise(60, 80), mask(), options=Options(crop=True), rendered=made)
    assert np.array_equal(one.image, made[10:30, 20:50])
    multiplied = Options(output="premultiplied")
    other = Cutout(noise(60, 80), mask(), options=multiplied, rendered=made)
    assert other.image is not other.rgba
    assert np.array_equal(other.image, made)
    assert np.array_equal(other.rgba, cutout().rgba)


def test_16_bits_stay() -> None:
    one, wide, alpha = deep(clear=False)
    image = one.image
    assert image.dtype == np.uint16
    assert np.array_equal(image[..., 3], alpha)
    other = np.arange(80) != 20
    assert np.array_equal(image[:, other, :3], wide[:, other])
    # Where 8 bits found another colour, its change is added to the 16 bits.
    eight = to_eight_bits(wide[:, 20]).astype(np.int64)
    wanted = np.clip(wide[:, 20] + 257 * (7 - eight), 0, 65535)
    assert np.array_equal(image[:, 20, :3], wanted)
    assert np.array_equal(deep(output="alpha")[0].image, alpha)
    assert not deep()[0].image[alpha == 0].any()


def test_16_bits_are_composed_exactly() -> None:
    one, _, alpha = deep(output="premultiplied")
    colours = deep(output="foreground")[0].image.astype(np.float64)
    share = alpha[..., None] / 65535
    # Correctly rounded: half a level, and float64's last digits.
    assert np.abs(one.image[..., :3] - colours * share).max() <= 0.5 + 1e-6
    white = deep(background="white")[0].image
    assert white.dtype == np.uint16
    assert np.abs(white - (colours * share + 65535 * (1 - share))).max() <= 0.5 + 1e-6
    assert deep(background="checker", crop=True)[0].image.dtype == np.uint16


def test_16_bits_only_where_a_format_has_them() -> None:
    one = deep()[0]
    assert decoded(one.encode(".png")).shape == (60, 80, 4)
    with pytest.raises(OutputError, match=r"\.png"):
        one.encode(".webp")


def test_eight_bits_of_a_picture_without_more() -> None:
    wide_alpha = mask().astype(np.uint16) * np.uint16(257)
    one = Cutout(noise(60, 80), mask(), options=Options(depth=16), wide_alpha=wide_alpha)
    assert one.image.dtype == np.uint8


def test_the_same_again_on_another_background(tmp_path: Path) -> None:
    one = cutout()
    white = one.again(background="white", crop=True)
    assert np.array_equal(white.image, cutout(background="white", crop=True).image)
    assert np.array_equal(one.again(output="alpha").image, mask())
    with pytest.raises(OptionError, match="foreground cannot change"):
        one.again(foreground="blur")
    with pytest.raises(OptionError, match="no colours"):
        cutout(output="alpha").again(output="rgba")


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1)])
def test_lines_and_points(size: tuple[int, int]) -> None:
    rgb, alpha = noise(*size), np.full(size, 200, np.uint8)
    for asked in (Options(), Options(crop=True, margin="5%"), Options(background="blur")):
        image = Cutout(rgb, alpha, options=asked).image
        assert image.shape[:2] == size
