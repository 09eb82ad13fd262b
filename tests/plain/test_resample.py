"""The two passes of the resize kernels, by their twins, are Pillow's bilinear resize.

Bit for bit, where Pillow passes over the rows first. Every release up to 12 does; 13 takes the
columns first where that is less work and the height shrinks. The order decides on which side the
8-bit result between the passes was rounded: half a level at most, so one level in the end.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Floats, Frame, Slot
from birefnet_runtime.preprocess import Preprocess
from birefnet_runtime.resample import PRECISION_BITS, coefficients
from helpers import reference
from helpers.pictures import Pixels, noise

PICTURES = [
    (24, 40),
    (7, 5),
    (300, 211),
    (1, 1),
    (1, 999),
    (999, 1),
    (24, 400),
    (400, 40),
    (2, 3),
    (25, 39),
    (1201, 801),
]
SIZES = [(24, 40), (1, 1), (33, 31), (1, 70)]


def resized(pixels: Pixels, size: tuple[int, int], levels: Floats) -> Floats:
    rows = reference.resize_rows(pixels, coefficients(pixels.shape[1], size[1]))
    return reference.resize_columns(rows, coefficients(pixels.shape[0], size[0]), levels)


def ours(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """uint8 [h,w,3], as the kernels make it."""
    plain = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    return resized(pixels, size, plain).transpose(1, 2, 0).astype(np.uint8)


def pillow(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("shape", PICTURES)
@pytest.mark.parametrize("channels", [3, 4])
def test_equals_pillow(shape: tuple[int, int], channels: int) -> None:
    pixels = noise(*shape, channels)
    for size in SIZES:
        wanted, rows_first = pillow(pixels, size), ours(pixels, size)
        if size[0] >= shape[0] or size[1] == shape[1]:
            assert np.array_equal(rows_first, wanted)
            continue
        columns_first = ours(pixels.transpose(1, 0, 2), size[::-1]).transpose(1, 0, 2)
        assert any(np.array_equal(order, wanted) for order in (rows_first, columns_first))
        assert np.abs(rows_first.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("shape", PICTURES)
def test_equals_preprocess(shape: tuple[int, int]) -> None:
    mean, std = (0.485, 0.456, 0.5), (0.2, 0.3, 1.0)
    contract = Contract(name="test", height=24, width=40, mean=mean, std=std)
    slot = Slot.create(contract.shape)
    pixels = noise(*shape)
    Preprocess(contract).run(Frame(pixels, None, "test"), slot)
    tensor, levels = slot.tensor[0], reference.levels(mean, std)
    mine, level = resized(pixels, (24, 40), levels), 1 / 255 / np.array(std)
    # One level before the normalisation, and float32; nothing at all where the orders agree.
    assert (np.abs(mine - tensor) <= level[:, None, None] * 1.001).all()
    if np.array_equal(ours(pixels, (24, 40)), pillow(pixels, (24, 40))):
        assert np.array_equal(mine, tensor)


@pytest.mark.parametrize("sizes", [(5, 24), (1, 7), (999, 24), (25, 24), (24, 24), (70001, 3)])
def test_tables_stay_inside_and_cannot_overflow(sizes: tuple[int, int]) -> None:
    size_in, size_out = sizes
    table = coefficients(size_in, size_out)
    first, end = table.bounds[:, 0], table.bounds.sum(axis=1)
    assert table.bounds.dtype == table.weights.dtype == np.int32
    assert table.bounds.flags.c_contiguous and table.weights.flags.c_contiguous
    assert table.weights.shape == (table.taps, table.size) and table.size == size_out
    # The kernels take the least first and the greatest end from a tile's two sides.
    assert (np.diff(first) >= 0).all() and (np.diff(end) >= 0).all()
    assert first.min() >= 0 and end.max() <= size_in and table.bounds[:, 1].min() >= 1
    assert table.weights.min() >= 0
    sums = table.weights.astype(np.int64).sum(axis=0)
    # Each weight is rounded by at most half a unit.
    assert np.abs(sums - (1 << PRECISION_BITS)).max() <= table.taps / 2
    # The kernels' 32-bit sum, from half a unit of the result.
    assert 255 * sums.max() + (1 << (PRECISION_BITS - 1)) < 2**31


def test_a_side_that_stays_is_one_tap() -> None:
    table = coefficients(1024, 1024)
    assert table.taps == 1
    assert (table.weights == 1 << PRECISION_BITS).all()


def test_a_side_of_nothing_is_refused() -> None:
    for sizes in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            coefficients(*sizes)
