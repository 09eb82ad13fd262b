"""What a second pass sees, and when there is one."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet_runtime import Matting
from birefnet_runtime.edges import (
    ASPECT,
    HR_SIDE,
    MARGIN,
    Plan,
    check,
    check_one_pass,
    first,
    follow,
    inside,
    judge,
    subject,
    widen,
)
from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Box, Floats, View
from birefnet_runtime.options import Options
from helpers.bright import contract

MODEL = contract(64, 64)


def coarse(share: tuple[float, float], at: tuple[float, float] = (0.5, 0.5)) -> Floats:
    """float32 [64,64]: a rectangle of so much of height and width, its middle ``at``."""
    plane = np.zeros((64, 64), np.float32)
    rows, columns = (
        slice(max(0, round(64 * (middle - part / 2))), round(64 * (middle + part / 2)))
        for part, middle in zip(share, at, strict=True)
    )
    plane[rows, columns] = 1
    return plane


# --- views


def test_the_whole_picture_is_stretched_or_keeps_its_shape() -> None:
    assert first((300, 400), Options(), MODEL) is None
    view = first((300, 400), Options(fit="pad"), MODEL)
    assert view == View(Box(0, 0, 300, 400), Box(8, 0, 48, 64))
    assert first((300, 400), Options(), contract(64, 64, fit="pad")) == view
    assert first((300, 400), Options(fit="stretch"), contract(64, 64, fit="pad")) is None
    for size in ((1, 4000), (4000, 1), (1, 1), (64, 64)):
        view = first(size, Options(fit="pad"), MODEL)
        assert view is not None
        assert min(view.inner.size) >= 1
        assert max(view.inner.size) == 64


def test_boxes_of_random_subjects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = (int(rng.integers(1, 5000)), int(rng.integers(1, 5000)))
        model = contract(int(rng.integers(1, 1200)), int(rng.integers(1, 1200)))
        top, left = (int(rng.integers(0, side)) for side in size)
        height, width = (
            int(rng.integers(1, side - start + 1))
            for side, start in zip(size, (top, left), strict=True)
        )
        found = Box(top, left, height, width)
        box = widen(found, size, model)
        assert box.top >= 0 and box.left >= 0
        assert box.top + box.height <= size[0] and box.left + box.width <= size[1]
        assert box.top <= top and box.top + box.height >= top + height
        assert box.left <= left and box.left + box.width >= left + width
        least = (min(model.height, size[0]), min(model.width, size[1]))
        assert box.height >= least[0] and box.width >= least[1]
        margin = round(MARGIN * max(found.size))
        for side, one, whole in zip(box.size, found.size, size, strict=True):
            assert side >= min(one + 2 * margin, whole) - 1
        longer = max(height, width) + 2 * margin
        # Where the picture has room. Half a pixel of rounding.
        for side, whole in zip(box.size, size, strict=True):
            assert side >= min(longer / ASPECT - 0.5, whole)


def test_the_part_of_an_answer_that_a_view_filled() -> None:
    answer = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    view = first((300, 400), Options(fit="pad"), MODEL)
    assert np.array_equal(inside(answer, view, MODEL), answer[8:56])
    assert inside(answer, None, MODEL) is answer
    # An answer of another size than the input is brought to it first.
    assert inside(answer[::2, ::2].copy(), view, MODEL).shape == (48, 64)


# --- the subject


def test_the_subject_without_specks() -> None:
    plane = coarse((0.25, 0.5))
    plane[60, 1] = 1
    assert subject(plane, (640, 1280)) == Box(240, 320, 160, 640)
    # A second subject is no speck.
    plane[2:10, 2:10] = 1
    assert subject(plane, (64, 64)) == Box(2, 2, 38, 46)


def test_faint_hair_belongs_to_it_and_a_haze_does_not() -> None:
    plane = coarse((0.25, 0.25))
    plane[20:24, 24:40] = 0.2
    assert subject(plane, (64, 64)) == Box(20, 24, 20, 16)
    plane[50:60, 5:60] = 0.3
    assert subject(plane, (64, 64)) == Box(20, 24, 20, 16)
    assert subject(np.full((64, 64), 0.3, np.float32), (64, 64)) is None
    assert subject(np.zeros((64, 64), np.float32), (64, 64)) is None


# --- the choice


@pytest.mark.parametrize(
    ("edge", "size", "plane", "mode", "note"),
    [
        ("single", (3000, 4000), coarse((0.3, 0.3)), "single", ""),
        ("hr", (3000, 4000), coarse((0.3, 0.3)), "hr", ""),
        ("zoom", (3000, 4000), coarse((0.3, 0.3)), "zoom", "times finer"),
        ("auto", (3000, 4000), coarse((0.3, 0.3)), "zoom", "times finer"),
        # By the longer share: a tall subject gains no row.
        ("auto", (3000, 4000), coarse((0.9, 0.2)), "single", "fills 91%"),
        ("zoom", (3000, 4000), coarse((0.75, 0.75)), "single", "fills 75%"),
        ("zoom", (3000, 4000), coarse((0.66, 0.66)), "zoom", "1.2 times finer"),
        ("auto", (60, 64), coarse((0.3, 0.3)), "single", "no larger"),
        ("zoom", (60, 64), coarse((0.3, 0.3)), "single", "no larger"),
        ("tiles", (60, 64), coarse((0.3, 0.3)), "single", "no larger"),
        # A box of the model's own size would be most of this picture.
        ("auto", (70, 70), coarse((0.3, 0.3)), "single", "no finer pixels"),
        ("auto", (3000, 4000), coarse((0, 0)), "single", "nothing"),
        ("auto", (3000, 4000), coarse((1, 1)), "single", "fills 100%"),
        ("tiles", (3000, 4000), coarse((0, 0)), "single", "no soft edge"),
        ("tiles", (300, 400), coarse((0.3, 0.3)) * np.float32(0.9), "tiles", "along the edges"),
    ],
)
def test_what_follows(
    edge: str, size: tuple[int, int], plane: Floats, mode: str, note: str
) -> None:
    plan = follow(plane, size, Options(edge=edge), MODEL)
    assert plan.mode == mode
    assert note in plan.note
    assert bool(plan.views) == (mode in ("zoom", "tiles"))


def test_an_hr_model() -> None:
    large = contract(HR_SIDE, HR_SIDE)
    assert follow(coarse((1, 1)), (3000, 4000), Options(edge="auto"), large).mode == "hr"
    assert follow(coarse((0.3, 0.3)), (6000, 8000), Options(edge="auto"), large).mode == "zoom"
    check(Options(edge="hr"), large)
    with pytest.raises(OptionError, match=r"BiRefNet_HR.*--size 2048"):
        check(Options(edge="hr"), MODEL)
    check(Options(edge="auto"), MODEL)


def test_results_on_a_gpu_take_one_pass() -> None:
    check_one_pass(Options(edge="auto"), MODEL)
    for options in (
        Options(edge="zoom"),
        Options(edge="tiles"),
        Options(fit="pad"),
        Options(depth=16),
        Options(feather=1.0),
    ):
        with pytest.raises(OptionError, match=r"remove\(\)"):
            check_one_pass(options, MODEL)


# --- the second pass against the first


def zoomed(plane: Floats, answer: Floats) -> tuple[Plan, Floats, str]:
    """The plan for a first pass ``plane``, and the weight and words for a second ``answer``."""
    plan = follow(plane, (640, 640), Options(edge="zoom"), MODEL)
    verdict = judge(plane, (640, 640), plan, [answer], MODEL)
    (patch,) = verdict.patches
    return plan, patch.weight, verdict.note


def test_an_answer_that_agrees_is_taken_but_for_the_seam() -> None:
    plane = coarse((0.3, 0.3))
    plan, weight, note = zoomed(plane, np.zeros((64, 64), np.float32))
    (view,) = plan.views
    # What the first pass says of the box, at ten times its resolution.
    grid = np.repeat(np.repeat(plane, 10, 0), 10, 1)[view.box.slices]
    rows = np.linspace(0, len(grid) - 1, 64).round().astype(int)
    plan, weight, note = zoomed(plane, grid[rows][:, rows])
    assert note == ""
    # Along the edge, a few pixels to both sides.
    edge = (weight > 0.99) & (grid[rows][:, rows] > 0)
    assert edge[:, 32].any() and edge[32].any()
    assert weight[32, 32] == 0
    assert weight[0].max() < 0.5
    assert weight[:, -1].max() < 0.5


def test_an_answer_that_lost_the_subject_is_not_believed() -> None:
    plane = coarse((0.4, 0.4))
    _, weight, note = zoomed(plane, np.zeros((64, 64), np.float32))
    # Edge and all: what lies on both sides of it is in dispute.
    assert not weight.any()
    assert "kept from the first pass" in note


def test_a_stream_refuses_before_it_reads_a_picture(matting: Matting) -> None:
    with pytest.raises(OptionError, match="BiRefNet_HR"):
        matting.stream(["nowhere.jpg"], Options(edge="hr"))
