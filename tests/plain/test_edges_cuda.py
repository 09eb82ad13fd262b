"""Every edge mode gives the same through the kernels as through the host's steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Cutout, Matting, Options
from birefnet_runtime.frame import Box, Floats, Slot
from birefnet_runtime.host import HostBackend
from helpers.bright import spot
from helpers.cuda_kit import CONTRACT, OnDevice, open_matting
from helpers.fake_device import FakeDevice
from helpers.pictures import noise

PICTURES = [
    spot((120, 200), Box(40, 80, 36, 60)),
    spot((120, 200), Box(5, 5, 110, 190)),
    spot((90, 90), Box(20, 10, 30, 30)),
]
WAYS: list[dict[str, Any]] = [
    {"edge": "zoom"},
    {"edge": "tiles"},
    {"edge": "auto"},
    {"fit": "pad"},
    {"edge": "zoom", "fit": "pad", "feather": 1.0},
]


def bright(planes: Floats) -> Floats:
    """Logits [h,w] of a normalised picture [3,h,w]: what is bright is foreground."""
    logits: Floats = ((planes.mean(0) + np.float32(0.2)) * np.float32(6)).astype(np.float32)
    return logits


class Executor:
    device, contract = "cpu", CONTRACT

    def run(self, slot: Slot) -> Floats:
        return bright(slot.tensor[0])


def cut(matting: Matting, options: Options) -> list[Cutout]:
    return list(matting.stream(PICTURES, options))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_the_same_as_on_the_host(way: dict[str, Any], batch: int) -> None:
    options = Options(**way, foreground="off")
    executor: Any = Executor()
    with Matting(HostBackend(executor)) as host:
        wanted = cut(host, options)
    with open_matting(FakeDevice(), batch, function=bright) as matting:
        found = cut(matting, options)
    assert [one.edge for one in found] == [one.edge for one in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        # Pillow 13 may take columns first and be a level off before the network, which makes that
        # 1/255/0.224 * 6 / 4 of alpha, 7 levels, and bicubic half as much again.
        assert np.abs(ours.alpha.astype(int) - theirs.alpha).max() <= 10


@pytest.mark.parametrize("edge", ["zoom", "tiles"])
def test_a_picture_on_the_gpu(edge: str) -> None:
    device = FakeDevice()
    options = Options(edge=edge, foreground="off")
    pixels = np.dstack([PICTURES[0], noise(120, 200, channels=1)])
    with open_matting(device, function=bright) as matting:
        wanted = matting.remove(pixels, options)
        found = matting.remove(OnDevice(device, pixels), options)
    assert found.edge == wanted.edge
    assert np.array_equal(found.alpha, wanted.alpha)
    assert np.array_equal(found.image, wanted.image)
