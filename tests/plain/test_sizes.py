"""Every size and shape of picture goes through every edge mode; passes are grouped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Matting, Options
from birefnet_runtime.errors import ModelError, OptionError
from birefnet_runtime.frame import Box
from birefnet_runtime.host import HostBackend
from helpers.bright import Bright, BrightBatch, contract, spot
from helpers.pictures import Pixels, noise, png_16_bit

EDGES = ("single", "zoom", "tiles", "auto")


def open_bright(side: int = 256) -> tuple[Matting, Bright]:
    executor = Bright(contract(side, side))
    backend: Any = executor
    return Matting(HostBackend(backend)), executor


def plain(edge: str, **values: Any) -> Options:
    return Options(edge=edge, foreground="off", **values)


def centred(size: tuple[int, int], share: float = 0.3) -> Pixels:
    height, width = (max(1, round(side * share)) for side in size)
    pixels: Pixels = spot(size, Box((size[0] - height) // 2, (size[1] - width) // 2, height, width))
    return pixels


# Height x width. The first five are those at which a matting network of the time fades or fails.
SIZES = [(427, 640), (853, 1280), (1274, 1920), (1488, 2240)]
LARGE = [(2544, 3840), (3648, 5472)]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_in_every_mode(size: tuple[int, int], edge: str) -> None:
    matting, _ = open_bright()
    cutout = matting.remove(centred(size), plain(edge))
    assert cutout.alpha.shape == size
    # The middle is the subject's, whichever way; the corners are not.
    assert cutout.alpha[size[0] // 2, size[1] // 2] == 255
    assert cutout.alpha[0, 0] == cutout.alpha[-1, -1] == 0
    assert cutout.edge.split()[0] == {"auto": "zoom"}.get(edge, edge)


@pytest.mark.parametrize("size", LARGE)
def test_large_pictures(size: tuple[int, int]) -> None:
    matting, _ = open_bright()
    cutout = matting.remove(centred(size), plain("auto", output="alpha"))
    assert cutout.alpha.shape == size
    assert cutout.alpha[size[0] // 2, size[1] // 2] == 255
    assert cutout.edge.startswith("zoom (2.6 times finer")


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1), (2, 700), (17, 300)])
def test_thin_pictures(size: tuple[int, int], edge: str, fit: str) -> None:
    matting, _ = open_bright(32)
    for pixels in (centred(size), noise(*size), np.full((*size, 3), 255, np.uint8)):
        assert matting.remove(pixels, plain(edge, fit=fit)).alpha.shape == size


@pytest.mark.parametrize("edge", EDGES)
def test_empty_and_full_scenes_take_one_pass(edge: str) -> None:
    for value, note in ((0, "nothing was found"), (255, "fills 100%")):
        matting, executor = open_bright(32)
        cutout = matting.remove(np.full((300, 400, 3), value, np.uint8), plain(edge))
        assert (cutout.alpha == value).all()
        assert executor.runs == 1
        if edge in ("zoom", "auto"):
            assert note in cutout.edge


def test_padding_keeps_the_shape() -> None:
    """A square stays a square for the model, and comes out where it was."""
    matting, _ = open_bright(64)
    pixels = spot((200, 800), Box(60, 300, 80, 80))
    stretched, padded = (
        matting.remove(pixels, plain("single", fit=fit)).alpha.astype(int)
        for fit in ("stretch", "pad")
    )
    truth = pixels[..., 0].astype(int)
    for alpha in (stretched, padded):
        # A pixel of the model covers 3 to 12 of the picture's, and the square's rim takes them up.
        assert np.abs(alpha - truth).mean() < 4
    assert not padded[:, :200].any()


def test_own_alpha_counts_in_every_mode() -> None:
    matting, _ = open_bright()
    own = noise(600, 800, channels=1)
    pixels = np.dstack([np.full((600, 800, 3), 255, np.uint8), own])
    for edge in EDGES:
        assert np.array_equal(matting.remove(pixels, plain(edge)).alpha, own)


def test_a_second_pass_is_sharper() -> None:
    matting, _ = open_bright()
    size = (1200, 1600)
    pixels = centred(size, 0.25)
    truth = pixels[..., 0].astype(int)
    off = {
        edge: float(np.abs(matting.remove(pixels, plain(edge)).alpha - truth).mean())
        for edge in EDGES
    }
    # The rim of 18 pixels is 3 of the model's in one pass; zoomed 3.3 times it is 10.
    assert off["zoom"] < off["single"] / 2
    assert off["tiles"] < off["single"] / 2
    assert off["auto"] == off["zoom"]


def test_hr_needs_its_model() -> None:
    matting, _ = open_bright()
    with pytest.raises(OptionError, match="BiRefNet_HR"):
        matting.remove(centred((300, 400)), plain("hr"))
    large, executor = open_bright(2048)
    assert large.remove(centred((300, 400)), plain("hr")).edge == "hr"
    assert executor.runs == 1


# --- groups


SMALL, FULL = centred((400, 400), 0.3), centred((400, 400), 0.9)


def test_first_passes_run_together_then_second_ones() -> None:
    backend = BrightBatch(64, 64)
    with Matting(backend) as matting:
        cutouts = list(matting.stream([SMALL, SMALL, FULL, SMALL], plain("auto")))
    assert [[view is None for view in run] for run in backend.seen.runs] == [
        [True] * 4,
        [False] * 3,
    ]
    assert [cutout.edge.split()[0] for cutout in cutouts] == ["zoom", "zoom", "single", "zoom"]
    # The one that needs no more is cut out on the device, as edge single would.
    assert backend.seen.refined == [2]
    assert backend.seen.finished == 3
    with Matting(BrightBatch(64, 64)) as matting:
        alone = [matting.remove(pixels, plain("auto")).alpha for pixels in (SMALL, FULL)]
    assert np.array_equal(cutouts[3].alpha, alone[0])
    assert np.array_equal(cutouts[2].alpha, alone[1])


def test_tiles_fill_batches() -> None:
    backend = BrightBatch(64, 64)
    with Matting(backend) as matting:
        cutout = matting.remove(SMALL, plain("tiles"))
    first, *rest = backend.seen.runs
    assert first == [None]
    counts = [len(run) for run in rest]
    assert counts[:-1] == [4] * (len(rest) - 1)
    assert cutout.edge.startswith(f"tiles ({sum(counts)} of {sum(counts)}")


def test_one_pass_costs_one_run_without_a_way_back() -> None:
    backend = BrightBatch(64, 64)
    with Matting(backend) as matting:
        matting.remove(SMALL, plain("single"))
    assert len(backend.seen.runs) == 1
    assert backend.seen.refined == [0]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_bad_answer_concerns_its_own_picture(bad: int) -> None:
    backend = BrightBatch(64, 64, bad=[bad])
    with Matting(backend) as matting:
        results = list(matting.stream([SMALL, SMALL], plain("zoom"), errors="yield"))
    assert isinstance(results[0], ModelError)
    assert not isinstance(results[1], ModelError)


def test_times_of_all_passes_are_summed() -> None:
    matting, _ = open_bright()
    timings = matting.remove(centred((853, 1280)), plain("zoom")).timings
    assert list(timings) == ["decode", "preprocess", "model", "refine"]


def test_sixteen_bits_come_from_the_floats() -> None:
    matting, _ = open_bright(64)
    pixels = centred((300, 400))
    file = png_16_bit(pixels.astype(np.uint16) * 257)
    cutout = matting.remove(file, plain("zoom", depth=16))
    assert cutout.wide_alpha is not None
    assert cutout.wide_alpha.dtype == np.uint16
    assert np.array_equal(cutout.alpha, (cutout.wide_alpha.astype(int) + 128) // 257)
    # Values between the 256 that eight bits have.
    assert (cutout.wide_alpha % 257).any()
    # Of eight bits nothing wider is made.
    assert matting.remove(pixels, plain("zoom", depth=16)).wide_alpha is None


def test_a_changed_mask_takes_the_way_over_the_host() -> None:
    backend = BrightBatch(64, 64)
    with Matting(backend) as matting:
        plainly = matting.remove(SMALL, plain("single")).alpha
        grown = matting.remove(SMALL, plain("single", offset=3)).alpha
    assert backend.seen.refined == [0]
    assert backend.seen.finished == 1
    assert (grown >= plainly).all()
    assert np.count_nonzero(grown) > np.count_nonzero(plainly)
