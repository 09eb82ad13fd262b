"""Preprocessing equals the reference: Pillow's bilinear resize, / 255, mean, std."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime import preprocess
from birefnet_runtime.frame import Box, Floats, Frame, Slot, View
from birefnet_runtime.preprocess import Preprocess
from helpers.pictures import Pixels, noise

CONTRACT = Contract(name="test", height=24, width=40, mean=(0.485, 0.456, 0.5), std=(0.2, 0.3, 1.0))


def run(pixels: Pixels, contract: Contract) -> Floats:
    slot = Slot.create(contract.shape)
    Preprocess(contract).run(Frame(pixels, None, "test"), slot)
    return slot.tensor


def reference(pixels: Pixels, contract: Contract) -> NDArray[np.float64]:
    """float64 [h,w,3], as BiRefNet's example computes it."""
    size = (contract.width, contract.height)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)) / 255
    normal: NDArray[np.float64] = (small - np.array(contract.mean)) / np.array(contract.std)
    return normal


@pytest.mark.parametrize(
    "shape",
    [(24, 40), (7, 5), (300, 211), (1, 1), (1, 999), (999, 1), (24, 400), (400, 40), (2, 3)],
)
def test_equals_the_reference(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    tensor = run(pixels, CONTRACT)
    assert tensor.shape == (1, 3, 24, 40)
    assert tensor.dtype == np.float32
    difference = np.abs(tensor[0].transpose(1, 2, 0) - reference(pixels, CONTRACT))
    # float32 against float64, for values up to 5.
    assert difference.max() < 1e-6


def test_scaling_down_does_not_alias() -> None:
    stripes = np.zeros((480, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    contract = Contract(name="test", height=24, width=40, mean=(0, 0, 0), std=(1, 1, 1))
    # The mean of black and white stripes is half; the 8-bit result rounds it by half a level,
    # and at the two edges the filter is cut off.
    assert np.abs(run(stripes, contract)[..., 1:-1] - 0.5).max() <= 1 / 255


def test_colour_order_and_other_rows() -> None:
    contract = Contract(name="test", height=8, width=8, batch=3, mean=(0, 0, 0), std=(1, 1, 1))
    tensor = run(np.full((9, 9, 3), (255, 51, 0), np.uint8), contract)
    # 51 / 255 in float32.
    assert tensor[0, :, 0, 0] == pytest.approx([1, 0.2, 0], abs=1e-7)
    assert not tensor[1:].any()


def test_the_slot_is_reused_in_place() -> None:
    slot = Slot.create(CONTRACT.shape)
    address = slot.tensor.ctypes.data
    step = Preprocess(CONTRACT)
    for seed in range(3):
        pixels = noise(30, 30, seed=seed)
        step.run(Frame(pixels, None, "test"), slot)
        assert slot.tensor.ctypes.data == address
        assert np.array_equal(slot.tensor, run(pixels, CONTRACT))


def test_a_view_is_resized_into_its_place() -> None:
    pixels, view = noise(90, 70), View(Box(10, 20, 50, 40), Box(3, 5, 12, 30))
    slot = Slot.create(CONTRACT.shape)
    step = Preprocess(CONTRACT)
    # What a picture before it left there has to go.
    step.run(Frame(noise(8, 8), None, "test"), slot)
    step.run(Frame(pixels, None, "test"), slot, view)
    smaller = Contract(name="test", height=12, width=30, mean=CONTRACT.mean, std=CONTRACT.std)
    inside = slot.tensor[0, :, 3:15, 5:35]
    assert np.array_equal(inside, run(pixels[10:60, 20:60].copy(), smaller)[0])
    around = slot.tensor.copy()
    around[0, :, 3:15, 5:35] = 0
    assert not around.any()


def test_the_whole_picture_as_a_view_changes_nothing() -> None:
    pixels, slot = noise(90, 70), Slot.create(CONTRACT.shape)
    view = View(Box(0, 0, 90, 70), Box(0, 0, 24, 40))
    Preprocess(CONTRACT).run(Frame(pixels, None, "test"), slot, view)
    assert np.array_equal(slot.tensor, run(pixels, CONTRACT))


@pytest.mark.parametrize("shape", [(600, 211), (257, 50), (300, 1), (20, 40), (2049, 2100)])
def test_rows_first_whatever_the_strips(shape: tuple[int, int]) -> None:
    """The bits of the two passes one after the other, each in one piece."""
    pixels = noise(*shape)
    rows = Image.fromarray(pixels).resize((40, shape[0]), Image.Resampling.BILINEAR)
    wanted = np.asarray(rows.resize((40, 24), Image.Resampling.BILINEAR))
    assert np.array_equal(preprocess.resize(pixels, (40, 24)), wanted)


@pytest.mark.parametrize("shape", [(600, 211), (300, 1), (20, 40), (1700, 300), (300, 1700)])
def test_one_call_of_pillow(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    one = Image.fromarray(pixels).resize((40, 24), Image.Resampling.BILINEAR)
    ours = preprocess.resize(pixels, (40, 24)).astype(int)
    # Pillow 13 may take columns first, and rounds to 8 bits in between: one level.
    assert np.abs(ours - np.asarray(one)).max() <= 1
