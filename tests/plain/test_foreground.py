"""The subject's own colours: multi-level against PyMatting, closed forms, blur fusion."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet_runtime import despill, foreground, fusion, multilevel, pyramid
from birefnet_runtime.frame import Bytes
from birefnet_runtime.options import Options
from helpers.pictures import noise, smooth

# A crop of PyMatting's lemur (CC0) over a background made from numbers: ``alpha``, ``foreground``,
# ``picture``, and what PyMatting 1.1.16 makes of the last, rounded to 8 bits.
LEMUR = Path(__file__).parents[1] / "golden" / "foreground_lemur.npz"


def error(found: Bytes, truth: Bytes, alpha: Bytes) -> float:
    """Mean of alpha |found - truth| over the soft band, in levels: what is seen of an error."""
    band = (alpha != 0) & (alpha != 255)
    gaps = np.abs(found.astype(np.float64) - truth) * (alpha[..., None] / 255)
    return float(gaps[band].mean())


def soft_disc(height: int, width: int, edge: float = 12.0) -> Bytes:
    """uint8 [H,W]: 255 inside, 0 outside, a slope of ``edge`` pixels between."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    alpha: Bytes = np.rint(255 * np.clip((min(height, width) / 3 - radius) / edge, 0, 1)).astype(
        np.uint8
    )
    return alpha


def over(front: NDArray[np.uint8], behind: NDArray[np.uint8], alpha: Bytes) -> Bytes:
    share = alpha[..., None] / 255
    composed: Bytes = np.rint(front * share + behind * (1 - share)).astype(np.uint8)
    return composed


@pytest.fixture
def lemur() -> dict[str, Bytes]:
    with np.load(LEMUR) as data:
        return dict(data)


def test_as_near_to_the_truth_as_pymatting(lemur: dict[str, Bytes]) -> None:
    alpha, truth = lemur["alpha"], lemur["foreground"]
    theirs = error(lemur["pymatting"], truth, alpha)
    ours = error(pyramid.estimate(lemur["picture"], alpha), truth, alpha)
    kept = error(lemur["picture"], truth, alpha)
    blurred = error(fusion.estimate(lemur["picture"], alpha), truth, alpha)
    # The promise: within 5 % of PyMatting's error, which is an eighth of doing nothing.
    assert ours <= 1.05 * theirs
    assert ours < blurred < kept / 4


def test_colours_that_do_not_vary_come_back() -> None:
    alpha = soft_disc(150, 190)
    front = np.broadcast_to(np.array([200, 100, 50], np.uint8), (*alpha.shape, 3))
    behind = np.broadcast_to(np.array([30, 60, 220], np.uint8), front.shape)
    found = foreground.estimate(over(front, behind, alpha), alpha, "ml")
    # Below a tenth a level of rounding in the picture is ten of them in the foreground.
    seen = alpha > 25
    gaps = np.abs(found.astype(int) - front)[seen] * (alpha[seen][:, None] / 255)
    # As it is seen: half a level of the picture's rounding, half of the result's.
    assert gaps.max() <= 1.0


def test_what_is_not_soft_keeps_the_pictures_colours() -> None:
    alpha, rgb = soft_disc(80, 90), noise(80, 90)
    hard = (alpha == 0) | (alpha == 255)
    for method in ("ml", "blur"):
        found = foreground.estimate(rgb, alpha, method)
        assert found.dtype == np.uint8
        assert np.array_equal(found[hard], rgb[hard])
        assert (found[~hard] != rgb[~hard]).any()


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("method", ["ml", "blur", "off"])
def test_a_hard_mask_changes_nothing(method: str, value: int) -> None:
    rgb = noise(20, 30)
    assert foreground.estimate(rgb, np.full((20, 30), value, np.uint8), method) is rgb


@pytest.mark.parametrize("method", ["ml", "blur"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (33, 64), (65, 129)])
def test_any_size(size: tuple[int, int], method: str) -> None:
    rgb, alpha = noise(*size), noise(*size, channels=1, seed=1)
    found = foreground.estimate(rgb, alpha, method)
    assert found.shape == rgb.shape
    assert found.flags.c_contiguous


@pytest.mark.parametrize("value", [1, 128, 254])
def test_a_mask_that_is_soft_everywhere(value: int) -> None:
    rgb = smooth(70, 90)
    found = foreground.estimate(rgb, np.full((70, 90), value, np.uint8), "ml")
    # No pixel is surely anything: black is the first guess for both layers, and nothing overflows.
    assert found.shape == rgb.shape


def test_tiles_do_not_show() -> None:
    alpha, rgb = soft_disc(300, 437, 40), noise(300, 437)
    whole = pyramid.estimate(rgb, alpha, tile=512)
    for tile in (16, 64, 128):
        assert np.array_equal(pyramid.estimate(rgb, alpha, tile), whole)


def test_only_tiles_that_the_soft_band_needs_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = np.zeros((1024, 1024), np.uint8)
    alpha[:, 300:] = 255
    alpha[:, 299] = 100
    solved: list[int] = []
    solve = pyramid._Bench.solve

    def counted(bench: pyramid._Bench, core: pyramid.Core) -> NDArray[np.float32]:
        solved.append(bench._level.alpha.shape[0])
        return solve(bench, core)

    monkeypatch.setattr(pyramid._Bench, "solve", counted)
    pyramid.estimate(noise(1024, 1024), alpha)
    # One column of eight by eight tiles; at half size one or, with what the sweeps reach, two of 4.
    assert solved.count(1024) == 8
    assert solved.count(512) in (4, 8)


def test_a_picture_that_is_a_view() -> None:
    wide = noise(64, 200)
    rgb, alpha = wide[:, ::2], soft_disc(64, 100)
    assert not rgb.flags.c_contiguous
    found = pyramid.estimate(rgb, alpha)
    assert np.array_equal(found, pyramid.estimate(np.ascontiguousarray(rgb), alpha))


def test_memory_is_bounded() -> None:
    height, width = 1500, 2000
    rgb, alpha = smooth(height, width), cv2.resize(soft_disc(150, 200), (width, height))
    pyramid.estimate(rgb[:64, :64], np.ascontiguousarray(alpha[:64, :64]))
    tracemalloc.start()
    try:
        pyramid.estimate(rgb, np.asarray(alpha, np.uint8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The result takes 3 bytes a pixel; beside it levels and masks, and buffers that do not grow:
    # 100 megapixels stay below 1 GiB.
    assert peak < 8 * height * width + (24 << 20)


def test_level_sizes() -> None:
    sizes = multilevel.level_sizes(3000, 4001)
    assert sizes[:3] == [(3000, 4001), (1500, 2001), (750, 1001)]
    assert sizes[-1] == (1, 1)
    assert multilevel.level_sizes(1, 1) == [(1, 1)]
    for size in ((7, 1), (640, 480)):
        for number, (height, width) in enumerate(multilevel.level_sizes(*size)):
            step = 1 << number
            assert np.empty(size, bool)[::step, ::step].shape == (height, width)


def test_blur_fusion_is_the_two_passes_of_birefnet() -> None:
    rgb, alpha = smooth(120, 140), soft_disc(120, 140)
    picture, share = rgb / 255.0, (alpha / 255.0)[..., None]

    def mean(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
        # Windows of even size reach one pixel further up and left; the border is mirrored.
        after = side - 1 - side // 2
        padded = np.pad(values, ((side // 2, after), (side // 2, after), (0, 0)), "reflect")
        sums = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0), (0, 0)))
        total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side]
        result: NDArray[np.float64] = (total + sums[:-side, :-side]) / side**2
        return result

    front, behind = picture, picture
    for side in (90, 6):
        cover = mean(share, side)
        blurred = mean(front * share, side) / (cover + 1e-5)
        behind = mean(behind * (1 - share), side) / (1 - cover + 1e-5)
        front = blurred + share * (picture - share * blurred - (1 - share) * behind)
        front = front.clip(0, 1)
    band = (alpha != 0) & (alpha != 255)
    gaps = np.abs(fusion.estimate(rgb, alpha).astype(int) - np.floor(255 * front))
    # float32 beside float64, truncated at the end: one level, and only now and then.
    assert gaps[band].max() <= 1
    assert gaps[band].mean() < 0.01


def test_blur_fusion_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, alpha = noise(400, 50), soft_disc(400, 50, 30)
    whole = fusion.estimate(rgb, alpha)
    monkeypatch.setattr(fusion, "_STRIP", 1)
    # Sums that begin in another row: a value near a whole number may be truncated the other way.
    assert np.abs(fusion.estimate(rgb, alpha).astype(int) - whole).max() <= 1


def test_a_screens_colour_is_taken_out_of_the_soft_band() -> None:
    rgb = np.array([[[90, 200, 60], [90, 200, 60], [90, 80, 60], [200, 90, 210]]], np.uint8)
    alpha = np.array([[255, 100, 100, 100]], np.uint8)
    green = despill.apply(rgb, alpha, "green")
    assert green.tolist() == [[[90, 200, 60], [90, 90, 60], [90, 80, 60], [200, 90, 210]]]
    blue = despill.apply(rgb, alpha, "blue")
    assert blue.tolist() == [[[90, 200, 60], [90, 200, 60], [90, 80, 60], [200, 90, 200]]]
    assert rgb[0, 1, 1] == 200


def test_colours_as_the_options_say() -> None:
    rgb, alpha = smooth(50, 60), soft_disc(50, 60)
    assert foreground.colours(rgb, alpha, Options(output="alpha", foreground="ml")) is rgb
    assert foreground.colours(rgb, alpha, Options(foreground="off")) is rgb
    found = foreground.colours(rgb, alpha, Options(foreground="ml", despill="green"))
    estimated = foreground.estimate(rgb, alpha, "ml")
    assert np.array_equal(found, despill.apply(estimated, alpha, "green"))
