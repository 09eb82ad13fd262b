"""What lies behind a cut-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import background
from birefnet_runtime.errors import DecodeError, TooLargeError
from birefnet_runtime.options import Options
from helpers.pictures import disc, encoded, noise, smooth

ALL = (slice(None), slice(None))


def test_a_checkerboard_has_square_cells() -> None:
    board = background.checker((64, 128))
    assert set(np.unique(board)) == {204, 255}
    # 64 cells along the longer side: two pixels each.
    assert board[:2, :6, 0].tolist() == [[255, 255, 204, 204, 255, 255]] * 2
    assert (board[2:4] == board[:2, ::-1]).all()
    assert background.checker((1, 1)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("size", [(40, 40), (10, 80), (80, 10), (1, 1), (37, 53)])
def test_a_picture_covers_and_is_centred(size: tuple[int, int]) -> None:
    # Each pixel says where it lies: red for its row, green for its column.
    rows, columns = np.mgrid[:60, :100]
    picture = np.dstack([rows * 4, columns * 2, np.zeros((60, 100))]).astype(np.uint8)
    found = background.cover(picture, size).astype(float)
    assert found.shape == (*size, 3)
    # The middle stays the middle: within a pixel of the picture and its rounding.
    assert abs(found[..., 0].mean() / 4 - 29.5) <= 1
    assert abs(found[..., 1].mean() / 2 - 49.5) <= 1
    # One of the two sides is seen from end to end, but for what the filter takes of it.
    spans = (np.ptp(found[..., 0]) / 4 / 60, np.ptp(found[..., 1]) / 2 / 100)
    assert max(spans) > 0.9 or min(size) < 40


def test_a_picture_of_the_same_size_is_itself() -> None:
    picture = noise(20, 30)
    assert np.array_equal(background.cover(picture, (20, 30)), picture)


def test_a_background_from_a_file_and_from_bytes(tmp_path: Path) -> None:
    picture = smooth(30, 40)
    (tmp_path / "behind.png").write_bytes(encoded(picture))
    subject, alpha = disc(30, 40), np.zeros((30, 40), np.uint8)
    for value in (tmp_path / "behind.png", encoded(picture)):
        found = background.behind(Options(background=value), subject, alpha, ALL)
        assert np.array_equal(np.asarray(found), picture)
    part = (slice(0, 10), slice(0, 10))
    found = background.behind(Options(background=encoded(picture)), subject, alpha, part)
    assert np.asarray(found).shape == (10, 10, 3)


def test_a_background_that_cannot_be_read(tmp_path: Path) -> None:
    alpha = np.zeros((30, 40), np.uint8)
    with pytest.raises(DecodeError, match="no such file"):
        background.behind(Options(background=tmp_path / "no.png"), disc(30, 40), alpha, ALL)
    with pytest.raises(DecodeError, match="<bytes>"):
        background.behind(Options(background=b"text"), disc(30, 40), alpha, ALL)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    import os

    path, alpha = tmp_path / "behind.png", np.zeros((30, 40), np.uint8)
    for number in (1, 2):
        picture = smooth(30, 40, seed=number)
        path.write_bytes(encoded(picture))
        os.utime(path, ns=(number, number))
        found = background.behind(Options(background=path), disc(30, 40), alpha, ALL)
        assert np.array_equal(np.asarray(found), picture)


def test_nothing_of_the_subject_is_in_its_blurred_background() -> None:
    rgb = np.full((300, 400, 3), (10, 20, 200), np.uint8)
    alpha = np.zeros((300, 400), np.uint8)
    alpha[50:250, 100:300] = 255
    alpha[45:50, 100:300] = 128
    rgb[alpha > 0] = (250, 240, 20)
    found = background.out_of_focus(rgb, alpha)
    # One colour, whatever lies in front of it: rounded sums over rounded shares.
    assert np.abs(found.astype(int) - [10, 20, 200]).max() <= 2


def test_a_blurred_background_is_smooth_and_keeps_its_place() -> None:
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[:, 150:] = 200
    found = background.out_of_focus(rgb, np.zeros((200, 300), np.uint8)).astype(int)
    assert found[:, :60].max() < 5
    assert found[:, 240:].min() > 195
    # A Gaussian of 10 pixels has its steepest slope at 200 / (10 sqrt(2 pi)) = 8 levels a pixel.
    assert np.abs(np.diff(found[..., 0], axis=1)).max() <= 9


@pytest.mark.parametrize("value", [1, 255])
def test_a_subject_that_fills_the_picture_has_its_own_colours_behind(value: int) -> None:
    found = background.out_of_focus(smooth(40, 50), np.full((40, 50), value, np.uint8))
    assert found.shape == (40, 50, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1)])
def test_lines_and_points(size: tuple[int, int]) -> None:
    alpha = noise(*size, channels=1)
    for value in ("blur", "checker", encoded(noise(5, 7))):
        found = background.behind(Options(background=value), noise(*size), alpha, ALL)
        assert np.asarray(found).shape == (*size, 3)


def test_nothing_of_a_background_in_bytes_stays_in_memory() -> None:
    background._covering.cache_clear()
    options = Options(background=encoded(smooth(30, 40)))
    pixels = disc(20, 20)
    first = background.behind(options, pixels, pixels[..., 0], ALL)
    assert np.array_equal(first, background.behind(options, pixels, pixels[..., 0], ALL))
    assert background._covering.cache_info().currsize == 0
    small = Options(background=encoded(smooth(30, 40)), max_pixels=1000)
    with pytest.raises(TooLargeError):
        background.behind(small, pixels, pixels[..., 0], ALL)
