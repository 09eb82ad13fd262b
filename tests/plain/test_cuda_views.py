"""Runs that see a part of a picture on the fake GPU: boxes, rows, what goes up, what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Matting
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.decode import decode
from birefnet_runtime.errors import ModelError
from birefnet_runtime.frame import Box, Floats, Frame, Rendered, Slot, View
from birefnet_runtime.host import HostBackend
from birefnet_runtime.options import Options
from helpers import reference
from helpers.cuda_kit import (
    CONTRACT,
    SIZE,
    FakeExecutor,
    OnDevice,
    network,
    open_backend,
    open_matting,
)
from helpers.fake_device import FakeDevice
from helpers.pictures import Pixels, noise

WHOLE = Box(0, 0, *SIZE)
# Boxes that do not shrink in height: every Pillow takes the rows first there, as the kernels do.
VIEWS = [
    View(Box(0, 0, 20, 60), WHOLE),
    View(Box(7, 7, 24, 31), WHOLE),
    View(Box(30, 69, 1, 1), WHOLE),
    View(Box(5, 3, 20, 60), Box(2, 0, 20, 40)),
    View(Box(0, 9, 10, 61), Box(7, 11, 10, 5)),
    View(Box(20, 0, 11, 70), Box(0, 39, 24, 1)),
]


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def backend(device: FakeDevice) -> Iterator[CudaBackend]:
    opened = open_backend(device, batch=3)
    yield opened
    opened.close([])


def frame(picture: Pixels) -> Frame:
    return decode(picture, 10**6)


def tensor(backend: CudaBackend, slot: Any, index: int) -> Floats:
    """Row ``index`` of the tensor, float32 [3,h,w], as it is after everything queued."""
    with backend._gpu.active():
        backend._gpu.finish(slot.stream)
    place = slot.tensor + index * 3 * SIZE[0] * SIZE[1] * 4
    row: Floats = reference.memory(place, (3, *SIZE), np.float32).copy()
    return row


def on_host(picture: Pixels, view: View | None) -> Floats:
    slot = Slot.create(CONTRACT.shape)
    host = HostBackend(FakeExecutor())  # type: ignore[arg-type]
    host.preprocess(slot, 0, frame(picture), view)
    found: Floats = slot.tensor[0]
    return found


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("where", ["host", "device", "pitch"])
def test_a_view_has_the_bits_that_the_cpu_gives_it(
    device: FakeDevice, backend: CudaBackend, view: View, where: str
) -> None:
    picture = noise(31, 70, 4 if where == "device" else 3)
    slot = backend.open_slots()[1]
    if where == "host":
        staged = backend.stage(frame(picture))
    else:
        gap = 5 if where == "pitch" else 0
        staged = backend.stage_borrowed(backend.borrow(OnDevice(device, picture, gap)))
    for index in (0, 2):
        backend.begin(slot)
        backend.preprocess(slot, index, staged, view)
        assert np.array_equal(tensor(backend, slot, index), on_host(picture, view))


def test_nothing_of_the_row_before_shines_through(backend: CudaBackend) -> None:
    slot = backend.open_slots()[0]
    first, second = (backend.stage(frame(noise(24, 40, seed=seed))) for seed in (1, 2))
    backend.begin(slot)
    backend.preprocess(slot, 1, first)
    backend.begin(slot)
    inner = Box(4, 5, 10, 20)
    backend.preprocess(slot, 1, second, View(Box(0, 0, 24, 40), inner))
    row = tensor(backend, slot, 1)
    assert row[(slice(None), *inner.slices)].all()
    row[(slice(None), *inner.slices)] = 0
    assert not row.any()


def test_a_picture_goes_up_once(device: FakeDevice, backend: CudaBackend) -> None:
    slot = backend.open_slots()[0]
    one, other = (noise(31, 70, seed=seed) for seed in (1, 2))
    first, second = (backend.stage(frame(picture)) for picture in (one, other))

    def load(*rows: tuple[Any, Pixels, View]) -> int:
        """Megabytes, as it were: uploads that are no tables."""
        sent: list[int] = []
        upload = device.upload

        def spy(pointer: int, source: Any, stream: Any) -> None:
            sent.append(source.dtype == np.uint8)
            upload(pointer, source, stream)

        device.upload = spy  # type: ignore[method-assign]
        backend.begin(slot)
        for index, (staged, _, view) in enumerate(rows):
            backend.preprocess(slot, index, staged, view)
        device.upload = upload  # type: ignore[method-assign]
        for index, (_, picture, view) in enumerate(rows):
            assert np.array_equal(tensor(backend, slot, index), on_host(picture, view))
        return sum(sent)

    assert load((first, one, VIEWS[0]), (first, one, VIEWS[1]), (first, one, VIEWS[3])) == 1
    # The next run finds it in row 0.
    assert load((first, one, VIEWS[4]), (first, one, VIEWS[0])) == 0
    assert load((first, one, VIEWS[1]), (second, other, VIEWS[1]), (first, one, VIEWS[5])) == 1
    # Row 0 is written over, row 1 still has its own.
    assert load((second, other, VIEWS[2]), (second, other, VIEWS[1]), (first, one, VIEWS[1])) == 2
    backend.relieve(slot)
    assert load((second, other, VIEWS[2])) == 1


def test_tables_of_views_are_kept(device: FakeDevice, backend: CudaBackend) -> None:
    with device.active():
        small, inner = backend._tables.get((20, 30), (10, 12)), backend._tables.get((20, 30))
        assert small is backend._tables.get((20, 30), (10, 12))
        assert inner is backend._tables.get((20, 30), SIZE)
    assert (small.rows.size, small.columns.size) == (10, 12)


# --- answers


def run(backend: CudaBackend, slot: Any, staged: list[Any]) -> None:
    backend.begin(slot)
    for index, one in enumerate(staged):
        backend.preprocess(slot, index, one)
    backend.infer(slot)


def test_answers_are_the_cpus(backend: CudaBackend) -> None:
    slot = backend.open_slots()[0]
    pictures = [noise(20, 33, seed=seed) for seed in range(3)]
    host = HostBackend(FakeExecutor())  # type: ignore[arg-type]
    run(backend, slot, [backend.stage(frame(picture)) for picture in pictures])
    found = backend.answers(slot, None, 3)
    kept = [np.array(one) for one in found]
    for one, picture in zip(found, pictures, strict=True):
        own = Slot.create(CONTRACT.shape)
        host.preprocess(own, 0, frame(picture))
        (wanted,) = host.answers(own, host.infer(own), 1)
        assert not isinstance(one, ModelError)
        assert one.dtype == np.float32
        # The sigmoids differ by a few units in the last place.
        assert np.abs(one - wanted).max() < 2.5e-7
    run(backend, slot, [backend.stage(frame(pictures[2]))])
    backend.answers(slot, None, 1)
    # The caller's own memory.
    assert np.array_equal(np.array(found), np.array(kept))


@pytest.mark.parametrize("counts", [(3, 3), (1, 3), (3, 1)])
def test_refine_may_follow_answers(device: FakeDevice, counts: tuple[int, int]) -> None:
    backend = open_backend(device, batch=3)
    slot, options = backend.open_slots()[0], Options(foreground="off")
    staged = [backend.stage(frame(noise(20, 33, seed=seed))) for seed in range(3)]
    run(backend, slot, staged)
    wanted = backend.refine(slot, None, staged, options, patient=False)
    run(backend, slot, staged)
    backend.answers(slot, None, counts[0])
    backend.answers(slot, None, counts[1])
    chosen = [staged[0], None, staged[2]]
    found = backend.refine(slot, None, chosen, options, patient=True)
    assert found[1] is None
    for index in (0, 2):
        one, other = found[index], wanted[index]
        assert isinstance(one, Rendered) and isinstance(other, Rendered)
        assert np.array_equal(one.alpha, other.alpha)
        assert one.image is not None and other.image is not None
        assert np.array_equal(one.image, other.image)
    backend.close([])


def test_an_answer_that_is_not_finite_stands_alone(device: FakeDevice) -> None:
    def sometimes(planes: Floats) -> Floats:
        answer = network(planes)
        if planes.min() > 1:
            answer[3, 5] = np.inf
        return answer

    backend = open_backend(device, batch=3, function=sometimes)
    slot = backend.open_slots()[0]
    white = np.full((9, 9, 3), 255, np.uint8)
    run(backend, slot, [backend.stage(frame(picture)) for picture in (noise(9, 9), white)])
    first, second = backend.answers(slot, None, 2)
    assert not isinstance(first, ModelError)
    assert isinstance(second, ModelError)
    assert "--precision fp32" in str(second)
    backend.close([])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_foreign_picture_is_fetched(
    device: FakeDevice, backend: CudaBackend, channels: int
) -> None:
    picture = noise(12, 19, channels)
    slot = backend.open_slots()[0]
    staged = backend.stage_borrowed(backend.borrow(OnDevice(device, picture, 3)))
    found = backend.fetch(slot, staged)
    assert np.array_equal(found.rgb, picture[..., :3])
    assert (found.alpha is None) == (channels == 3)
    if found.alpha is not None:
        assert np.array_equal(found.alpha, picture[..., 3])


# --- through the pipeline


def blob(planes: Floats) -> Floats:
    """A small bright disc in a picture is the subject, wherever it lies."""
    answer: Floats = planes.mean(0) * np.float32(4)
    return answer


def spot(height: int, width: int) -> Pixels:
    """A bright disc with a soft edge, a fifth as wide as the dark picture, and some noise."""
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - 0.4 * height, x - 0.6 * width)
    inside = np.clip((0.1 * width - radius) / 6, 0, 1)[..., None]
    rgb = 30 + inside * 170 + noise(height, width) * 0.1
    pixels: Pixels = rgb.astype(np.uint8)
    return pixels


SLOW = {
    "zoom": Options(edge="zoom"),
    "tiles": Options(edge="tiles"),
    "pad": Options(fit="pad"),
    "feather": Options(feather=2.0),
    "zoom on white": Options(edge="zoom", background="white"),
    "16 bits": Options(depth=16),
}


@pytest.mark.parametrize("options", SLOW.values(), ids=SLOW.keys())
@pytest.mark.parametrize("batch", [1, 2])
def test_passes_and_adjustments_are_the_cpus(
    device: FakeDevice, options: Options, batch: int
) -> None:
    class Same(FakeExecutor):
        def run(self, slot: Slot) -> Floats:
            return blob(slot.tensor[0])

    picture = spot(200, 300)
    with Matting(HostBackend(Same())) as host:  # type: ignore[arg-type]
        wanted = host.remove(picture, options)
    with open_matting(device, batch, function=blob) as matting:
        found = [*matting.stream([picture, picture], options), matting.remove(picture, options)]
        found.append(matting.remove(OnDevice(device, picture, 2), options))
    assert wanted.edge.split()[0] == ("single" if options.edge == "auto" else options.edge)
    for one in found:
        assert one.edge == wanted.edge
        # What the kernels resize may be a level off where Pillow takes the columns first; see
        # test_cuda_path.py, assert_close.
        assert np.abs(one.alpha.astype(int) - wanted.alpha).max() <= 8
        assert np.abs(one.alpha.astype(int) - wanted.alpha).mean() <= 0.5
        assert one.image.shape == wanted.image.shape and one.image.dtype == wanted.image.dtype
        solid = (one.alpha == 255) & (wanted.alpha == 255)
        assert solid.any()
        assert np.array_equal(one.image[solid], wanted.image[solid])


def test_seconds_are_those_of_every_pass(device: FakeDevice) -> None:
    with open_matting(device, 2, function=blob) as matting:
        for options, passes in ((SLOW["zoom"], 2), (Options(), 1), (SLOW["feather"], 1)) * 2:
            timings = matting.remove(spot(200, 300), options).timings
            # A pass takes a millisecond on this device.
            for name in ("preprocess", "wait", "model"):
                assert timings[name] == pytest.approx(0.001 * passes)
