"""A network on the fake GPU, and the same one on the host, for the tests of the path round it."""

from __future__ import annotations

from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import Cutout, Matting
from birefnet_runtime.cuda import CudaBackend, Settings
from birefnet_runtime.frame import Floats, Slot
from helpers.fake_device import FakeDevice, FakeEngine
from helpers.pictures import Pixels, noise

SIZE = (24, 40)
CONTRACT = Contract(name="fake", height=SIZE[0], width=SIZE[1], activation="sigmoid")
# Up, down, one axis each, the model's own size, a line, a pixel.
SIZES = [(48, 80), (17, 23), (100, 20), (13, 200), SIZE, (1, 90), (70, 1), (1, 1), (5, 7)]


def network(planes: Floats) -> Floats:
    """A mask that depends on every pixel's place, so that swapped rows or columns would show."""
    height, width = planes.shape[1:]
    place = np.linspace(-1, 1, height * width, dtype=np.float32).reshape(height, width)
    answer: Floats = planes.mean(0) * np.float32(1.5) + place
    return answer


class FakeExecutor:
    """The same network for the host's steps."""

    device, contract = "cpu", CONTRACT

    def run(self, slot: Slot) -> Floats:
        return network(slot.tensor[0])


def open_backend(device: FakeDevice, batch: int = 1, **settings: Any) -> CudaBackend:
    workers = settings.pop("workers", 3)
    function = settings.pop("function", network)
    with device.active():
        engine = FakeEngine(device, function, SIZE, batch)
        return CudaBackend(
            device, engine, b"cubin", CONTRACT, "tensorrt", Settings(workers=workers, **settings)
        )


def open_matting(device: FakeDevice, batch: int = 1, **settings: Any) -> Matting:
    return Matting(open_backend(device, batch, **settings))


def pictures(count: int = 9) -> list[Pixels]:
    return [noise(*SIZES[number % len(SIZES)], seed=number) for number in range(count)]


def same_bits(first: Cutout, second: Cutout) -> bool:
    return np.array_equal(first.image, second.image) and np.array_equal(first.alpha, second.alpha)


class OnDevice:
    """uint8 pixels in the fake GPU's memory, with ``__cuda_array_interface__``."""

    def __init__(self, device: FakeDevice, pixels: Pixels, gap: int = 0) -> None:
        height, width, channels = pixels.shape
        self.pitch = width * channels + gap
        with device.active():
            self.block = device.allocate(self.pitch * height)
        rows = self.block.array.reshape(height, self.pitch)
        rows[:, : width * channels] = pixels.reshape(height, -1)
        self.shape, self.gap = pixels.shape, gap

    def fill(self, value: int) -> None:
        self.block.array[:] = value

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        strides = (self.pitch, self.shape[2], 1) if self.gap else None
        pointer = (self.block.pointer, True)
        return {
            "shape": self.shape,
            "typestr": "|u1",
            "data": pointer,
            "strides": strides,
            "version": 3,
        }
