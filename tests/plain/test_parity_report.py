"""The figures behind ``make parity`` against hand and brute force, and the report they end in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime.errors import InputError, OptionError
from birefnet_runtime.frame import Bytes, Floats
from parity_report import earlier, inputs, page, run, truth
from parity_report.errors import Unavailable
from parity_report.figures import LEVEL, PSNR_LIMIT, Pool, boundary, compare, distances, iou
from parity_report.inputs import Item
from parity_report.page import Report
from parity_report.verdicts import Gate, Verdict

SIDE = 32
CONTRACT = Contract("made", SIDE, SIDE)


def noise(seed: int, shape: tuple[int, ...] = (40, 30)) -> Floats:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_figures_of_a_case_by_hand() -> None:
    reference, other = np.zeros((10, 10), np.float32), np.zeros((10, 10), np.float32)
    reference[:, :5] = 1
    other[:, :5] = 1
    # Two pixels: one just over a level away, one on the other side of the threshold.
    other[0, 0], other[9, 9] = 1 - 1.5 * LEVEL, 0.6
    found = compare(reference, other)
    # float32 holds 1 - 1.5/255 to 6e-8.
    assert found.max == pytest.approx(0.6, abs=1e-7)
    assert found.mean == pytest.approx((0.6 + 1.5 * LEVEL) / 100, abs=1e-8)
    assert (found.beyond1, found.beyond2) == (0.02, 0.01)
    assert found.iou == 50 / 51
    assert found.psnr == pytest.approx(-10 * math.log10((0.36 + (1.5 * LEVEL) ** 2) / 100), 1e-6)
    assert found.finite


def test_equal_alphas_are_perfect_and_finite_in_json() -> None:
    found = compare(noise(0), noise(0))
    assert (found.max, found.iou, found.boundary, found.psnr) == (0, 1, 1, PSNR_LIMIT)
    assert "Infinity" not in json.dumps(found.as_dict())


def test_what_is_not_finite_is_as_wrong_as_can_be() -> None:
    other = noise(1)
    other[3, 4] = np.nan
    found = compare(noise(1), other)
    assert (found.finite, found.max) == (False, 1.0)
    assert found.mean == pytest.approx(1 / other.size)


def test_iou_of_empty_masks() -> None:
    empty, some = np.zeros((5, 5), bool), np.eye(5, dtype=bool)
    assert iou(empty, empty) == 1
    assert iou(empty, some) == iou(some, empty) == 0
    assert not boundary(empty).any()
    # Alphas below one half everywhere: both masks are empty and agree.
    assert compare(noise(0) * 0.4, noise(1) * 0.4).boundary == 1


@pytest.mark.parametrize("shape", [(40, 30), (150, 200)])
def test_boundary_against_brute_force(shape: tuple[int, int]) -> None:
    mask = noise(2, shape) > 0.02
    width = max(1, round(0.02 * math.hypot(*shape)))
    outside = np.pad(~mask, width, constant_values=True)
    expected = np.zeros(shape, bool)
    for y, x in zip(*np.nonzero(mask), strict=True):
        expected[y, x] = outside[y : y + 2 * width + 1, x : x + 2 * width + 1].any()
    assert np.array_equal(boundary(mask), expected)


def test_the_pool_has_the_exact_percentile_of_all_pixels() -> None:
    pictures = [noise(seed, (64, 64)) ** 9 for seed in range(5)]
    reference = np.zeros((64, 64), np.float32)
    pool = Pool(5 * 64 * 64)
    for picture in pictures:
        pool.add(distances(reference, picture)[0], compare(reference, picture))
    every = np.stack(pictures).astype(np.float64)
    assert pool.total().p999 == pytest.approx(np.quantile(every, 0.999), rel=1e-12)
    assert pool.total().max == every.max()
    assert pool.counts.sum() == every.size


def test_sad_and_mse_by_hand() -> None:
    alpha, true = np.full((20, 50), 0.75, np.float32), np.full((20, 50), 0.5, np.float32)
    found = truth.measure(alpha, true)
    assert found["sad"] == 0.25
    assert found["mse"] == 0.0625
    # Sums of the kernel's weights in float64.
    assert found["grad"] < 1e-20


def test_grad_against_brute_force() -> None:
    sigma, half = 1.4, 4

    def bell(x: float) -> float:
        return math.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))

    steps = range(-half, half + 1)
    kernel = np.array([[bell(y) * -x * bell(x) / sigma**2 for x in steps] for y in steps])
    kernel /= np.sqrt((kernel**2).sum())

    def length(alpha: Floats) -> NDArray[np.float64]:
        wide = np.pad(alpha.astype(np.float64), half, mode="edge")
        result = np.zeros(alpha.shape)
        for y, x in np.ndindex(*alpha.shape):
            part = wide[y : y + 2 * half + 1, x : x + 2 * half + 1]
            result[y, x] = math.hypot((part * kernel).sum(), (part * kernel.T).sum())
        return result

    a, b = noise(3, (14, 11)), noise(4, (14, 11))
    expected = ((length(a) - length(b)) ** 2).sum() / 1000
    assert truth.measure(a, b)["grad"] == pytest.approx(expected, rel=1e-9)


def test_conn_of_an_island_by_hand() -> None:
    true = np.zeros((6, 6), np.float32)
    true[:2, :3] = true[5, 5] = 1
    alpha = true.copy()
    # Not connected to the source at any level: its degree falls from 1 - 1 to 1 - 0.5.
    alpha[5, 5] = 0.5
    assert truth.measure(alpha, true)["conn"] == pytest.approx(0.5 / 1000)
    # Connected up to 0.8: 1 - 0.2 against the source's 1.
    alpha = true.copy()
    alpha[0, 0] = 0.8
    assert truth.measure(alpha, true)["conn"] == pytest.approx(0.2 / 1000)
    # A corner does not connect; of two regions the larger is the source.
    corner = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], bool)
    assert truth.largest(corner).sum() == 4


@pytest.mark.skipif(truth.missing() is not None, reason=str(truth.missing()))
def test_saliency_measures_of_a_perfect_mask() -> None:
    true = np.zeros((64, 64), np.float32)
    true[10:40, 20:50] = 1
    found = truth.measure(true, true)
    assert (found["mae"], found["hce"]) == (0, 0)
    # The library's epsilons keep both a hair below 1.
    assert found["sm"] == pytest.approx(1, abs=1e-6)
    assert found["wfm"] == pytest.approx(1, abs=1e-6)
    worse = truth.measure(np.roll(true, 8, 0), true)
    assert worse["sm"] < found["sm"]
    assert worse["em"] < found["em"]


def save(path: Path, pixels: Bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    "layout", ["DIS-VD/im DIS-VD/gt", "P3M-500-NP/original_image P3M-500-NP/mask", "original mask"]
)
def test_datasets_are_recognised(tmp_path: Path, layout: str) -> None:
    pictures, alphas = layout.split()
    save(tmp_path / pictures / "one.jpg", np.full((8, 6, 3), 200, np.uint8))
    save(tmp_path / alphas / "one.png", np.full((8, 6), 51, np.uint8))
    save(tmp_path / alphas / "alone.png", np.full((8, 6), 51, np.uint8))
    (item,) = inputs.in_dataset(tmp_path)
    assert item.name == f"{pictures}/one.jpg"
    alpha = item.true_alpha((8, 6))
    assert alpha is not None
    assert np.all(alpha == np.float32(0.2))
    with pytest.raises(InputError, match="8 x 6, its picture 6 x 8"):
        item.true_alpha((6, 8))
    save(tmp_path / pictures / "two.jpg", np.zeros((8, 6, 3), np.uint8))
    with pytest.raises(OptionError, match=r"1 pictures of .* have no alpha .* two\.jpg first"):
        inputs.in_dataset(tmp_path)


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="none of the layouts im/ \\+ gt/"):
        inputs.in_dataset(tmp_path)
    with pytest.raises(OptionError, match="holds no picture"):
        inputs.in_folder(tmp_path)
    many = [Item(str(number)) for number in range(10)]
    assert [item.name for item in inputs.spread(many, 4)] == ["0", "2", "5", "7"]


class Made:
    """An executor whose alpha is the red channel plus ``error`` on the pictures that it names.

    ``crossed``: rows of a batch come back in another order.
    """

    def __init__(self, name: str, error: dict[int, float], crossed: bool = False) -> None:
        self.name, self.detail, self.precision = name, f"made {name}", "fp32"
        self.error, self.crossed = error, crossed

    def alphas(self, pictures: Bytes) -> Floats:
        alphas = (pictures[..., 0] / 255).astype(np.float32)
        for alpha, picture in zip(alphas, pictures, strict=True):
            alpha[5:9, 5:9] += self.error.get(int(picture[0, 0, 2]), 0.0)
        return alphas

    def rows(self, pictures: Bytes, batch: int) -> Floats:
        if self.name == "first":
            raise Unavailable("has batch 1 only")
        return self.alphas(pictures)[:: -1 if self.crossed else 1]

    def close(self) -> None:
        pass


def pictures() -> Iterator[Item]:
    for number in range(10):
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[:, : SIDE // 2, 0] = 200 + number
        pixels[..., 2] = number
        yield Item(f"<picture {number}>", pixels=pixels)


def report() -> Report:
    executors = [
        Made("first", {}),
        Made("near", {3: 0.01}),
        Made("far", {7: -0.3, 2: 0.02, 4: math.nan}, crossed=True),
    ]
    found = run.run(CONTRACT, list(executors), list(pictures()), 2, 3, lambda text: None)
    gate = Gate({"max": LEVEL, "mean": LEVEL}, "design")
    verdicts = {"near": Verdict(gate), "far": Verdict(gate, ["max <too> far"])}
    return Report("made 32x32", [("commit", "abc")], found, verdicts, {"tensorrt": "no <GPU>"})


def test_a_run_finds_what_was_planted() -> None:
    first, near, far = report().comparison.outcomes
    assert first.rows == "has batch 1 only"
    assert (near.rows, near.total.finite) == (0, True)
    # 1/255 between the neighbours' red channels: what a mix-up of the rows looks like here.
    assert far.rows == pytest.approx(LEVEL, rel=1e-3)
    assert not far.total.finite
    assert [case.name for case in far.worst] == ["<picture 4>", "<picture 7>", "<picture 2>"]
    assert near.worst[0].name == "<picture 3>"
    # The 8-bit mask of 0.3 less.
    assert far.pool.rows[7].mask_max == pytest.approx(0.3 * 255, abs=1)


def test_the_report_has_the_worst_first_and_stands_alone() -> None:
    text = page.render(report())
    cases = re.findall(r"<h3>\d+\. &lt;picture (\d)&gt;</h3>", text)
    assert cases[:4] == ["4", "7", "2", "3"]
    assert len(cases) == 6
    for reason in ("max &lt;too&gt; far", "no &lt;GPU&gt;", "Outside the gate: far"):
        assert reason in text
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]{1,20})', text)
    assert sources
    assert all(source.startswith("data:image/webp;base64,"[:20]) for source in sources)
    for outside in ("http:", "https:", "<script", "<link", "@import"):
        assert outside not in text
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text


def test_an_earlier_run_says_what_got_worse(tmp_path: Path) -> None:
    before = {"findings": {"total": {"near": compare(noise(0), noise(0)).as_dict()}}}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(before))
    then = compare(noise(0), noise(0))
    now = {"near": replace(then, mean=0.01, iou=0.9).as_dict(), "new": then.as_dict()}
    worse = [change for change in earlier.compare(earlier.read(path), now) if change.worse]
    assert [(change.executor, change.kind.key) for change in worse] == [
        ("near", "mean"),
        ("near", "iou"),
    ]
    same = earlier.compare(earlier.read(path), {"near": then.as_dict()})
    assert not any(change.worse for change in same)
    path.write_text('{"findings": {}}')
    with pytest.raises(OptionError, match="no record of make parity"):
        earlier.read(path)


def test_unlike_runs_are_named() -> None:
    before = {"findings": {"pictures": ["a"], "reference": "x", "size": "s"}, "hashes": {"m": "1"}}
    now = {"pictures": ["b"], "reference": "x", "size": "s"}
    text = earlier.differences(before, now, {"m": "2"})
    assert text == "other pictures; other bytes in m"
