"""The subject's own colours and every look on the fake GPU: as the CPU makes them, in order, and
nothing left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Cutout, Matting, Options, launches
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.decode import decode
from birefnet_runtime.errors import BirefnetError, DeviceError, OptionError, OutOfMemoryError
from birefnet_runtime.foreground import colours
from birefnet_runtime.frame import Bytes, Rendered
from helpers import reference
from helpers.cuda_kit import OnDevice, open_backend, open_matting, same_bits
from helpers.fake_device import FakeDevice
from helpers.kernel_cases import subject
from helpers.pictures import Pixels, noise

LOOKS = {
    "rgba": Options(foreground="ml"),
    "kept": Options(clear=False, foreground="ml"),
    "premultiplied": Options(output="premultiplied", foreground="ml"),
    "colour": Options(background=(10, 200, 30), foreground="ml"),
    "foreground": Options(output="foreground", foreground="ml"),
}
# What the host composes or estimates.
HOSTS = {
    "checker": Options(background="checker", foreground="ml"),
    "blurred": Options(background="blur", foreground="ml"),
    "despill": Options(despill="green", foreground="ml"),
    "blur": Options(foreground="blur"),
    "plain checker": Options(background="checker", foreground="off"),
}
OFF = {
    "off": Options(foreground="off"),
    "off kept": Options(foreground="off", clear=False),
    "off premultiplied": Options(foreground="off", output="premultiplied"),
    "off colour": Options(foreground="off", background="white"),
    "off foreground": Options(foreground="off", output="foreground"),
}
MASK = Options(output="alpha", foreground="ml")
EVERY = LOOKS | HOSTS | OFF | {"mask": MASK}
# Below, between and above the sizes at which the pyramid changes its way.
SIZES = [(33, 40), (1, 1), (1, 90), (31, 20), (97, 66)]
LARGE = (12, 530)
every_look = pytest.mark.parametrize("options", EVERY.values(), ids=EVERY.keys())
every_device_look = pytest.mark.parametrize("options", LOOKS.values(), ids=LOOKS.keys())
KERNELS = ("colours_coarse", "colours_level", "colours_image")


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def backend(device: FakeDevice) -> Iterator[CudaBackend]:
    opened = open_backend(device, batch=2)
    yield opened
    opened.close([])


@pytest.fixture
def matting(device: FakeDevice) -> Iterator[Matting]:
    with open_matting(device) as opened:
        yield opened


def finish(backend: CudaBackend, staged: Any, alpha: Bytes, options: Options) -> Rendered:
    slot = backend.open_slots()[0]
    backend.begin(slot)
    return backend.finish(slot, staged, alpha, options)


def assert_like_the_cpu(found: Rendered, picture: Pixels, alpha: Bytes, options: Options) -> None:
    """The colours within two levels where alpha is soft, and exact elsewhere; the image exactly
    what the CPU makes of these colours."""
    wanted = colours(picture, alpha, options)
    off = np.abs(found.foreground.astype(int) - wanted)
    soft = (alpha > 0) & (alpha < 255)
    assert not off[~soft].any()
    # Between levels the CPU rounds to 255 steps, a kernel to 1023; both clip, and add up in another
    # order. 1 and 0.17 of a level were measured on noise and on smooth pictures.
    assert off.max() <= 2
    assert off.sum() <= 0.25 * max(3 * soft.sum(), 16)
    assert np.array_equal(found.alpha, alpha)
    if found.image is not None:
        assert np.array_equal(found.image, Cutout(found.foreground, alpha, options=options).image)


@every_look
def test_finish_makes_what_the_cpu_makes(backend: CudaBackend, options: Options) -> None:
    picture, alpha = subject((33, 40))
    found = finish(backend, backend.stage(decode(picture, 10**6)), alpha, options)
    assert_like_the_cpu(found, picture, alpha, options)


@pytest.mark.parametrize("size", [*SIZES, LARGE], ids=str)
def test_finish_at_every_size(backend: CudaBackend, size: tuple[int, int]) -> None:
    picture, alpha = subject(size)
    staged = backend.stage(decode(picture, 10**6))
    for options in (LOOKS["rgba"], LOOKS["colour"]):
        found = finish(backend, staged, alpha, options)
        assert_like_the_cpu(found, picture, alpha, options)


@pytest.mark.parametrize("kind", ["zero", "one", "hard", "soft"])
def test_mattes_without_an_edge_or_of_nothing_else(backend: CudaBackend, kind: str) -> None:
    picture, alpha = subject((30, 40), kind=kind)
    staged = backend.stage(decode(picture, 10**6))
    for options in LOOKS.values():
        found = finish(backend, staged, alpha, options)
        assert_like_the_cpu(found, picture, alpha, options)
        if kind != "soft":
            assert np.array_equal(found.foreground, picture)


def test_constant_colours_come_back(backend: CudaBackend) -> None:
    """The closed form: a F + (1 - a) B with F and B the same everywhere."""
    _, alpha = subject((90, 70))
    front, back = np.array([200.0, 30, 90]), np.array([20.0, 180, 160])
    a = alpha[..., None] / 255
    picture = np.rint(a * front + (1 - a) * back).astype(np.uint8)
    found = finish(backend, backend.stage(decode(picture, 10**6)), alpha, LOOKS["rgba"])
    # Where half or more is seen, the picture's own rounding moves the colour by a level at most.
    seen = alpha >= 128
    assert np.abs(found.foreground[seen] - front).max() <= 2


@every_look
def test_the_first_pass_and_finish_give_the_same_bits(
    device: FakeDevice, backend: CudaBackend, options: Options
) -> None:
    slot = backend.open_slots()[1]
    own = noise(20, 35, channels=4)
    for source in (noise(20, 35), own, OnDevice(device, noise(20, 35), 3), OnDevice(device, own)):
        if isinstance(source, OnDevice):
            staged = backend.stage_borrowed(backend.borrow(source))
        else:
            staged = backend.stage(decode(source, 10**6))
        backend.begin(slot)
        backend.preprocess(slot, 0, staged)
        backend.infer(slot)
        (first,) = backend.refine(slot, None, [staged], options, patient=False)
        assert isinstance(first, Rendered)
        again = backend.finish(slot, staged, np.array(first.alpha), options)
        assert np.array_equal(first.foreground, again.foreground)
        assert (first.image is None) == (again.image is None)
        if first.image is not None and again.image is not None:
            assert np.array_equal(first.image, again.image)


@every_look
def test_a_picture_on_the_gpu_gives_the_same_bits(
    device: FakeDevice, matting: Matting, options: Options
) -> None:
    picture = noise(20, 35)
    wanted = matting.remove(picture, options)
    found = matting.remove(OnDevice(device, picture, 2), options)
    assert same_bits(found, wanted)
    assert np.array_equal(found.foreground, wanted.foreground)


@pytest.mark.parametrize("batch", [2, 3])
@every_device_look
def test_runs_of_several_pictures(device: FakeDevice, batch: int, options: Options) -> None:
    pictures = [noise(*size, seed=seed) for seed, size in enumerate(SIZES)]
    with open_matting(device) as single:
        wanted = [single.remove(picture, options) for picture in pictures]
    with open_matting(device, batch) as several:
        found = list(several.stream(pictures, options))
    assert all(map(same_bits, wanted, found))
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one.foreground, other.foreground)


# --- order, work, bytes


@every_device_look
def test_nothing_is_waited_for_before_the_end(
    device: FakeDevice, backend: CudaBackend, options: Options
) -> None:
    slot = backend.open_slots()[0]
    staged = backend.stage(decode(noise(97, 66), 10**6))
    device.trace.clear()
    backend.begin(slot)
    backend.preprocess(slot, 0, staged)
    backend.infer(slot)
    backend.refine(slot, None, [staged], options, patient=True)
    calls = [call for call, _ in device.trace]
    assert calls.count("synchronize") == 1
    assert "finish" not in calls
    assert calls.index("synchronize") > max(calls.index(name) for name in KERNELS)
    # All of it on the slot's stream.
    assert {handle for call, handle in device.trace if call in KERNELS} == {slot.stream.handle}


@pytest.mark.parametrize("options", [MASK, *OFF.values()], ids=["mask", *OFF])
def test_what_needs_no_estimation_does_none(
    device: FakeDevice, matting: Matting, options: Options
) -> None:
    matting.remove(noise(40, 70), options)
    assert device.counts["colours_coarse"] == device.counts["colours_level"] == 0
    # One kernel after the activation, but for premultiplied colours and those kept under 0.
    extra = options.output == "premultiplied" or not options.clear
    assert (device.counts["cutout"], device.counts["colours_image"]) == (1, int(extra))


@pytest.mark.parametrize(
    ("options", "share"),
    [
        # Bytes for each pixel: the image and, where it does not tell them, alpha and the colours.
        (LOOKS["rgba"], 4 + 3),
        (LOOKS["kept"], 4),
        (LOOKS["premultiplied"], 4 + 3),
        (LOOKS["colour"], 3 + 1 + 3),
        (LOOKS["foreground"], 3 + 1),
        (OFF["off"], 4),
        (OFF["off colour"], 3 + 1),
        (MASK, 1),
    ],
)
def test_bytes_on_their_way_down(
    device: FakeDevice, matting: Matting, options: Options, share: int
) -> None:
    sent: list[int] = []
    download = device.download

    def spy(target: Any, pointer: int, stream: Any) -> None:
        sent.append(target.nbytes)
        download(target, pointer, stream)

    device.download = spy  # type: ignore[method-assign]
    matting.remove(noise(40, 70), options)
    # Four bytes are the flag.
    assert sum(sent) == 40 * 70 * share + 4


# --- results that stay there


@pytest.mark.parametrize("name", ["mask", *LOOKS, *OFF])
def test_results_that_stay_on_the_gpu(matting: Matting, name: str) -> None:
    wanted = matting.remove(noise(33, 44), EVERY[name])
    cutout = matting.remove_device(noise(33, 44), EVERY[name])
    assert cutout.shape == wanted.image.shape
    found = reference.memory(cutout.pointer, cutout.shape, np.uint8)
    assert np.array_equal(found, wanted.image)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (HOSTS["checker"], "background"),
        (HOSTS["blur"], "foreground blur"),
        (HOSTS["despill"], "despill"),
        (Options(crop=True), "crop"),
    ],
)
def test_what_cannot_stay_on_the_gpu(matting: Matting, options: Options, named: str) -> None:
    with pytest.raises(OptionError, match=rf"has no {named}.*remove\(\)"):
        matting.remove_device(noise(33, 44), options)


# --- faults


@pytest.mark.parametrize("name", ["rgba", "colour"])
def test_out_of_memory_at_each_allocation(name: str) -> None:
    picture, options = noise(20, 35, channels=4), LOOKS[name]
    with open_matting(FakeDevice()) as matting:
        wanted = matting.remove(picture, options)
    number, total = 0, 1
    while total > number:
        number, total = number + 1, 0
        device = FakeDevice()
        with open_matting(device) as matting:

            def fault(call: str, _: int, number: int = number) -> Exception | None:
                nonlocal total
                total += call in ("allocate", "allocate_host")
                hit = call in ("allocate", "allocate_host") and total == number
                return OutOfMemoryError("injected") if hit else None

            device.fault = fault
            # One failure is mended: idle memory is given back and the picture tried again.
            assert same_bits(matting.remove(picture, options), wanted)
            device.fault = None
        gc.collect()
        assert not device.live
    # Picture, its alpha, tables, strip, plane, pyramid, image and what comes down, at least.
    assert number > 10


@pytest.mark.parametrize("name", KERNELS)
def test_a_launch_that_fails_costs_one_picture(device: FakeDevice, name: str) -> None:
    with open_matting(device) as matting:
        wanted = matting.remove(noise(70, 70), LOOKS["rgba"])
        seen = device.counts[name]
        device.fault = lambda call, count: (
            DeviceError("injected") if call == name and count == seen + 1 else None
        )
        with pytest.raises(BirefnetError, match="injected"):
            matting.remove(noise(70, 70), LOOKS["rgba"])
        assert device.pending() == 0
        for _ in range(3):
            assert same_bits(matting.remove(noise(70, 70), LOOKS["rgba"]), wanted)


def test_modes_are_the_kernels() -> None:
    assert [launches.CHANNELS[mode] for mode in range(6)] == [1, 4, 3, 4, 3, 4]
