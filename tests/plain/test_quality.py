"""The bench of edge modes judges by exact truth: its scenes, oracle and figures are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import Matting, Options
from birefnet_runtime.frame import Box, Floats, Frame, View
from outlines import hair, sheet
from outlines.judging import KEYS, Judge, around
from outlines.oracle import Oracle

SIZE = (240, 320)


@pytest.fixture(scope="module")
def scene() -> hair.Scene:
    return hair.scene("wisps", SIZE, 0.6, 1)


def levels(alpha: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.rint(alpha * 255).astype(np.uint8)


@pytest.mark.parametrize("coat", ["smooth", "wisps"])
def test_a_scene_is_alpha_over_a_background(coat: str) -> None:
    scene, again, other = (hair.scene(coat, SIZE, 0.6, seed) for seed in (1, 1, 2))
    assert np.array_equal(scene.rgb, again.rgb)
    assert not np.array_equal(scene.rgb, other.rgb)
    assert scene.alpha.shape == SIZE
    assert scene.alpha.min() == 0
    assert scene.alpha.max() == 1
    soft = ((scene.alpha > 0) & (scene.alpha < 1)).mean()
    # A bare outline has only the pixels that it crosses.
    assert soft < 0.02 if coat == "smooth" else soft > 0.03
    box = around(scene.alpha > 0, 0)
    assert box.height < SIZE[0] and box.width < SIZE[1]


def test_coverage_is_an_area() -> None:
    """A straight strand of three pixels' thickness covers three pixels of a column, fewer at its
    tip."""
    points = np.stack([np.full(hair.POINTS, 20.0), np.linspace(5, 35, hair.POINTS)], axis=1)
    outline = np.array([[0.0, 0.0]] * 3)
    alpha = hair._coverage((40, 40), outline, [(points, 3.0)])
    # Thicknesses are whole quarters of a pixel, and OpenCV's thin lines up to three of them wider.
    assert alpha[:, 6].sum() == pytest.approx(3.0, abs=0.75)
    assert alpha[:, 34].sum() == pytest.approx(1.25, abs=0.75)


def test_the_truth_has_no_error(scene: hair.Scene) -> None:
    judge = Judge(scene.alpha)
    found = judge.figures(levels(scene.alpha))
    assert set(found) == set(KEYS)
    # Eight bits of alpha, half a level a soft pixel.
    assert all(value < 0.01 for value in found.values())
    nothing = judge.figures(np.zeros(SIZE, np.uint8))
    assert nothing["all"] == pytest.approx(scene.alpha.sum() / 1e3, rel=1e-3)
    assert nothing["sad"] < nothing["all"]


def test_the_oracle_answers_for_its_view(scene: hair.Scene) -> None:
    oracle = Oracle(scene.alpha, 64)
    (slot, _) = oracle.open_slots()
    view = View(Box(40, 60, 128, 64), Box(0, 16, 64, 32))
    oracle.preprocess(slot, 0, Frame(scene.rgb, None, "test"), view)
    answer = oracle.infer(slot)
    wanted = scene.alpha[40:168, 60:124].reshape(64, 2, 32, 2).mean((1, 3))
    # Sums of four in another order.
    assert np.abs(answer[:, 16:48] - wanted).max() < 1e-6
    assert not answer[:, :16].any()


def test_finer_passes_come_nearer_to_the_truth(scene: hair.Scene) -> None:
    judge, found = Judge(scene.alpha), {}
    for edge in ("single", "zoom", "tiles"):
        matting = Matting(Oracle(scene.alpha, 64))
        options = Options(edge=edge, foreground="off", output="alpha")
        found[edge] = judge.figures(matting.remove(scene.rgb, options).alpha)["sad"]
    assert found["tiles"] < found["zoom"] < found["single"]


def test_the_sheet(tmp_path: Path) -> None:
    cell = sheet.cell(np.zeros((50, 900), np.uint8), (10, 890), "way")
    assert cell.shape == (sheet.HEAD + sheet.SIDE, sheet.SIDE, 3)
    sheet.write([[cell, cell], [cell]], tmp_path / "a" / "sheet.png")
    assert (tmp_path / "a" / "sheet.png").is_file()
