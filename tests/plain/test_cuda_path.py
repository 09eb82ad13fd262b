"""The steps on a GPU, on one made of host memory: the CPU path's answer, in the right order."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import Cutout, Matting, Options
from birefnet_runtime.errors import (
    BirefnetError,
    ClosedError,
    DecodeError,
    DeviceError,
    LostDeviceError,
    ModelError,
    OutOfMemoryError,
    TooLargeError,
)
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.host import HostBackend
from helpers.cuda_kit import (
    CONTRACT,
    SIZE,
    SIZES,
    FakeExecutor,
    OnDevice,
    network,
    open_backend,
    open_matting,
    pictures,
    same_bits,
)
from helpers.fake_device import FakeDevice
from helpers.pictures import Pixels, disc, encoded, noise

# In the picture's own colours; test_cuda_colour.py has the subject's.
PLAIN = Options(foreground="off")
OPTIONS = [PLAIN, replace(PLAIN, output="alpha"), replace(PLAIN, background=(10, 200, 30))]


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def matting(device: FakeDevice) -> Iterator[Matting]:
    with open_matting(device) as opened:
        yield opened


@pytest.fixture(scope="module")
def host() -> Iterator[Matting]:
    with Matting(HostBackend(FakeExecutor())) as opened:  # type: ignore[arg-type]
        yield opened


def assert_close(found: Cutout, wanted: Cutout) -> None:
    """Equal but for the last bit of float32 before rounding: OpenCV and the kernels add in another
    order, and the sigmoids differ by a few units in the last place."""
    off = np.abs(found.alpha.astype(int) - wanted.alpha)
    if has_same_tensor(wanted.alpha.shape):
        assert off.max() <= 1
        assert (off > 0).mean() <= 0.02 or off.sum() <= 1
    else:
        # A level of the input, 1/255/0.224 after normalising, times 1.5 in the network and 1/4 in
        # the sigmoid is 1.7 levels of alpha; bicubic adds half of that.
        assert off.max() <= 3
    assert np.array_equal(found.foreground, wanted.foreground)
    same = off == 0
    for name in ("image", "rgba"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.shape == theirs.shape
        assert ours.dtype == np.uint8
        assert np.array_equal(ours[same], theirs[same])


def has_same_tensor(shape: tuple[int, ...]) -> bool:
    """Whether every Pillow takes the rows first, as the kernels do: 13 may take the columns first
    where the height shrinks, which moves the resized picture by up to one level."""
    return shape[0] <= SIZE[0]


# --- the answer


@pytest.mark.parametrize("options", OPTIONS, ids=["rgba", "mask", "colour"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_same_answer_as_on_the_cpu(
    matting: Matting, host: Matting, size: tuple[int, int], options: Options
) -> None:
    picture = noise(*size)
    assert_close(matting.remove(picture, options), host.remove(picture, options))


@pytest.mark.parametrize("options", OPTIONS, ids=["rgba", "mask", "colour"])
def test_own_alpha_is_multiplied_in(matting: Matting, host: Matting, options: Options) -> None:
    picture = noise(50, 60, channels=4)
    assert_close(matting.remove(picture, options), host.remove(picture, options))


def test_the_tensor_has_the_same_bits_as_on_the_cpu(device: FakeDevice) -> None:
    seen: list[Floats] = []

    def spy(planes: Floats) -> Floats:
        seen.append(planes.copy())
        return network(planes)

    tensors = []
    for picture in pictures():
        slot = Slot.create(CONTRACT.shape)
        backend = HostBackend(FakeExecutor())  # type: ignore[arg-type]
        from birefnet_runtime.decode import decode

        backend.preprocess(slot, 0, decode(picture, 10**6))
        tensors.append(slot.tensor[0])
    with open_matting(device, function=spy) as matting:
        seen.clear()
        for picture in pictures():
            matting.remove(picture)
    for picture, found, wanted in zip(pictures(), seen, tensors, strict=True):
        if has_same_tensor(picture.shape):
            assert np.array_equal(found, wanted)
        # One level of a channel, and float32.
        assert np.abs(found - wanted).max() <= 1 / 255 / min(CONTRACT.std) + 1e-6


def test_graph_and_eager_give_the_same_bits() -> None:
    results = []
    for graphs, can_capture in ((True, True), (False, True), (True, False)):
        device = FakeDevice(can_capture)
        with open_matting(device, graphs=graphs) as matting:
            results.append([matting.remove(picture) for picture in pictures()])
            assert ("no CUDA graph" in matting.describe()) == (not (graphs and can_capture))
        captured = graphs and can_capture
        # Warm-up and capture of two slots; after that a graph is replayed, one for each picture.
        assert device.counts["graph"] == (9 if captured else 0)
        assert device.counts["engine"] == (4 if captured else 2 + 9)
    for other in results[1:]:
        assert all(map(same_bits, results[0], other))


def test_an_engine_that_cannot_be_captured_runs_without(
    device: FakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    with open_matting(device) as captured:
        wanted = captured.remove(disc())
    device.fault = lambda call, _: DeviceError("not here") if call == "capture" else None
    with caplog.at_level("WARNING"), open_matting(device) as matting:
        assert "no CUDA graph: not here" in caplog.text
        assert "no CUDA graph" in matting.describe()
        assert same_bits(matting.remove(disc()), wanted)


def test_a_new_size_costs_no_capture(device: FakeDevice, matting: Matting) -> None:
    before = device.counts["capture"]
    for picture in pictures():
        matting.remove(picture)
    assert device.counts["capture"] == before == 2


def test_an_answer_that_is_not_finite(device: FakeDevice) -> None:
    def sometimes(planes: Floats) -> Floats:
        answer = network(planes)
        # White pictures only.
        if planes.min() > 1:
            answer[3, 5] = np.nan
        return answer

    white = np.full((9, 9, 3), 255, np.uint8)
    with open_matting(device, batch=2, function=sometimes) as matting:
        with pytest.raises(ModelError, match=r"not finite.*--precision fp32"):
            matting.remove(white)
        with pytest.raises(ModelError, match="not finite"):
            matting.remove_device(white)
        # The flag of one picture says nothing about the next, nor about others in its run.
        matting.remove(disc())
        results = list(matting.stream([white, disc(), disc(), white], errors="yield"))
        assert [isinstance(result, ModelError) for result in results] == [True, False, False, True]


def test_timings_name_every_step(matting: Matting) -> None:
    timings = matting.remove(disc()).timings
    assert list(timings) == ["decode", "preprocess", "model", "refine", "wait"]


def test_what_is_said_about_it(matting: Matting) -> None:
    assert matting.device == "tensorrt"
    assert matting.describe() == "fake 24x40 on tensorrt (Fake GPU, batch 1, CUDA graph)"


# --- order


def test_engines_take_turns_and_copies_do_not(device: FakeDevice) -> None:
    backend = open_backend(device)
    first, second = backend.open_slots()
    staged = [backend.stage(_frame(picture)) for picture in pictures(2)]
    device.trace.clear()
    for slot, item in zip((first, second), staged, strict=True):
        backend.begin(slot)
        backend.preprocess(slot, 0, item)
        backend.infer(slot)
    waits = [handle for call, handle in device.trace if call == "wait"]
    # Each slot is behind the entry stream; the second engine also behind the first.
    assert waits == [first.stream.handle, second.stream.handle, second.stream.handle]
    uploads = [handle for call, handle in device.trace if call == "upload"]
    assert set(uploads) == {first.stream.handle, second.stream.handle}
    # Nothing has been waited for on the host so far.
    assert not {"synchronize", "finish"} & {call for call, _ in device.trace}
    (result,) = backend.refine(second, None, staged[1:], Options(), patient=True)
    assert not isinstance(result, BirefnetError)
    backend.abandon(first)
    backend.close([])
    assert not [block for block in device.live if block.kind == "device"]


def _frame(picture: Pixels) -> Any:
    from birefnet_runtime.decode import decode

    return decode(picture, 10**6)


def test_results_do_not_change_afterwards(matting: Matting) -> None:
    first = matting.remove(disc())
    before = first.rgba.copy()
    for picture in pictures(6):
        matting.remove(picture)
    assert np.array_equal(first.rgba, before)


def test_a_callers_stream_comes_first(device: FakeDevice) -> None:
    with device.active():
        theirs = device.open_stream()
    pixels = np.zeros((30, 30, 3), np.uint8)
    with open_matting(device, stream=theirs.handle) as matting:
        array = OnDevice(device, pixels)
        # Queued by the caller before the call; a run that did not wait would see zeros.
        device.enqueue(theirs.handle, lambda: array.fill(200))
        found = matting.remove(array, PLAIN)
    assert (found.foreground == 200).all()
    with open_matting(device, stream=0) as matting:
        array = OnDevice(device, pixels)
        device.enqueue(0, lambda: array.fill(77))
        assert (matting.remove(array, PLAIN).foreground == 77).all()


def test_many_threads_give_the_same_results(device: FakeDevice, matting: Matting) -> None:
    wanted = [matting.remove(picture) for picture in pictures(18)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(matting.remove, pictures(18)))
    assert all(map(same_bits, wanted, found))
    assert device.pending() == 0


# --- stream


@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_stream_gives_the_same_in_order(device: FakeDevice, batch: int, count: int) -> None:
    with open_matting(device) as single:
        wanted = [single.remove(picture) for picture in pictures(count)]
    with open_matting(device, batch) as matting:
        found = list(matting.stream(pictures(count)))
        # remove() uses one row of the same plan.
        found += [matting.remove(picture) for picture in pictures(count)]
    assert all(map(same_bits, wanted * 2, found))
    assert len(found) == 2 * count


@pytest.mark.parametrize("batch", [1, 3])
def test_failing_pictures_do_not_disturb_the_others(device: FakeDevice, batch: int) -> None:
    good = pictures(8)
    sources: list[Any] = [*good[:3], b"bad", *good[3:5], "missing.png", b"", b"x", *good[5:]]
    with open_matting(device, batch) as matting:
        wanted = [matting.remove(picture) for picture in good]
        results = list(matting.stream(sources, errors="yield"))
        kinds = [isinstance(result, DecodeError) for result in results]
        assert kinds == [isinstance(source, bytes | str) for source in sources]
        found = [result for result in results if isinstance(result, Cutout)]
        assert all(map(same_bits, wanted, found))
        stream = matting.stream(sources)
        assert [same_bits(next(stream), one) for one in wanted[:3]] == [True] * 3
        with pytest.raises(DecodeError):
            next(stream)
        matting.remove(disc())


@pytest.mark.parametrize("batch", [1, 2])
def test_stream_takes_few_sources_ahead(device: FakeDevice, batch: int) -> None:
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield disc()

    with open_matting(device, batch) as matting:
        results = matting.stream(endless())
        for number in range(1, 8):
            next(results)
            # Three workers or two runs, and a group on its way.
            assert taken <= number + max(3, 2 * batch) + batch
        results.close()  # type: ignore[attr-defined]
        matting.remove(disc())


class WatchedPath:
    """A path that tells when it is read."""

    def __init__(self, path: Path, reading: threading.Semaphore) -> None:
        self.path, self.reading = path, reading

    def __fspath__(self) -> str:
        self.reading.release()
        return str(self.path)


class Ordered(FakeDevice):
    """Who waits for a later run waits until the first one is in its engine. Otherwise the thread of
    the second run might do the first one's work too, and then keep its results from their thread
    for as long as the second engine takes: this GPU does one thing at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def synchronize(self, event: Any) -> None:
        with self._lock:
            first = next(handle for call, handle in self.trace if call == "graph")
        if event.stream.handle != first:
            assert self.begun.wait(PATIENCE)
        super().synchronize(event)


# Seconds: far longer than anything that is waited for takes on a busy machine. Only a test that
# fails waits so long.
PATIENCE = 20


def test_reading_copying_computing_and_finishing_overlap(tmp_path: Path) -> None:
    device = Ordered()
    file = tmp_path / "a.png"
    file.write_bytes(encoded(disc()))
    reading, worked = threading.Semaphore(0), threading.Event()
    # Opening runs the network, too.
    calls, seen = -100, list[bool]()

    def patient(planes: Floats) -> Floats:
        # Without overlap each of these waits passes in full.
        nonlocal calls
        calls += 1
        if calls == 1:
            device.begun.set()
            # Two further pictures are read while the first is in the engine ...
            seen.extend(reading.acquire(timeout=PATIENCE) for _ in range(3))
            # ... and the second goes up to the GPU.
            seen.append(until(lambda: len(uploads() & slots) == 2))
        elif calls == 2:
            # The first to come through, of whatever number, is saved while the second is in it.
            seen.append(worked.wait(PATIENCE))
        return network(planes)

    def uploads() -> set[int]:
        with device._lock:
            return {handle for call, handle in device.trace if call == "upload"}

    def work(number: int, cutout: Cutout) -> None:
        worked.set()

    backend = open_backend(device, function=patient)
    slots = {slot.stream.handle for slot in backend.open_slots()}
    calls = 0
    device.trace.clear()
    with Matting(backend) as matting:
        sources: Any = [WatchedPath(file, reading) for _ in range(6)]
        assert len(list(matting.stream(sources, work=work))) == 6
    assert seen == [True] * 5


def until(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` holds before ``PATIENCE`` is over."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def test_work_is_done_in_threads_and_its_errors_take_the_result(device: FakeDevice) -> None:
    main, seen = threading.get_ident(), {}

    def work(number: int, cutout: Cutout) -> None:
        assert threading.get_ident() != main
        if number == 2:
            raise ModelError("work failed")
        seen[number] = cutout.encode(".png")

    with open_matting(device, batch=2) as matting:
        results = list(matting.stream(pictures(5), errors="yield", work=work))
        assert [str(result) == "work failed" for result in results] == [False] * 2 + [True] + [
            False
        ] * 2
    assert sorted(seen) == [0, 1, 3, 4]
    assert all(
        seen[number] == results[number].encode(".png")  # type: ignore[union-attr]
        for number in seen
    )


# --- memory


def test_memory_of_results_comes_back(device: FakeDevice, matting: Matting) -> None:
    for _ in range(3):
        matting.remove(disc())
    gc.collect()
    before = device.counts["allocate_host"], device.counts["allocate"]
    for _ in range(20):
        matting.remove(disc())
        list(matting.stream([disc(), disc()]))
    grown = device.counts["allocate_host"] - before[0]
    # A stream has a few results in flight at once, where remove() has one.
    assert grown <= 12
    assert device.counts["allocate"] == before[1] + 2 * (grown > 0) or device.counts["allocate"] < (
        before[1] + 12
    )
    kept = matting.remove(disc())
    view = kept.rgba[2:4, 1:, 3]
    wanted = view.copy()
    del kept
    gc.collect()
    for picture in pictures(9):
        matting.remove(picture)
    # A view of a view keeps the memory, too.
    assert np.array_equal(view, wanted)


def test_results_outlive_their_matting(device: FakeDevice) -> None:
    with open_matting(device) as matting:
        kept = matting.remove(disc())
        wanted = kept.rgba.copy()
    assert np.array_equal(kept.rgba, wanted)
    assert device.live
    del kept
    gc.collect()
    assert not device.live


def test_page_locked_memory_is_bounded(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, host: Matting
) -> None:
    from birefnet_runtime import cuda

    monkeypatch.setattr(cuda, "PINNED_LIMIT", 1 << 20)
    with open_matting(device) as matting:
        kept = [matting.remove(noise(200, 300, seed=seed), PLAIN) for seed in range(20)]
        assert device.live_bytes("host") <= (1 << 20) + 4096
        for seed, found in enumerate(kept):
            assert_close(found, host.remove(noise(200, 300, seed=seed), PLAIN))


def test_closing_leaves_nothing(device: FakeDevice) -> None:
    matting = open_matting(device, batch=2)
    list(matting.stream(pictures(7)))
    matting.close()
    matting.close()
    gc.collect()
    assert not device.live
    assert device.pending() == 0
    for call in (matting.remove, matting.remove_device):
        with pytest.raises(ClosedError, match="open another"):
            call(disc())
    with pytest.raises(ClosedError):
        list(matting.stream([disc()]))


def test_a_matting_that_is_dropped_leaves_nothing(device: FakeDevice) -> None:
    matting = open_matting(device)
    matting.remove(disc())
    del matting
    gc.collect()
    assert not device.live


def test_a_run_that_never_ends_does_not_keep_the_process(device: FakeDevice) -> None:
    matting = open_matting(device)
    slot = matting._pipeline._take()
    matting._pipeline.close(patience=0.01)
    # Memory that a run may still use is left alone.
    assert device.live
    matting._pipeline._slots.put(slot)


def test_closing_with_work_in_flight(device: FakeDevice) -> None:
    started, go_on = threading.Event(), threading.Event()
    calls = 0

    def slow(planes: Floats) -> Floats:
        nonlocal calls
        calls += 1
        if calls == 4:
            started.set()
            assert go_on.wait(10)
        return network(planes)

    matting = open_matting(device, function=slow)
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(matting.remove, disc()) for _ in range(4)]
        assert started.wait(10)
        closing = pool.submit(matting.close)
        go_on.set()
        closing.result(10)
        ends = [future.exception(10) for future in futures]
    # What had a slot is finished, the others learn of it; nobody hangs.
    assert all(end is None or isinstance(end, ClosedError) for end in ends)
    assert None in ends
    # Errors hold the frames that they came through.
    del futures, ends
    gc.collect()
    assert not device.live


def test_page_locked_pictures_are_not_copied(device: FakeDevice, matting: Matting) -> None:
    wanted = matting.remove(disc(), PLAIN)
    pixels = matting.empty(disc().shape)
    pixels[:] = disc()
    gc.collect()
    held = device.live_bytes("host")
    found = matting.remove(pixels, PLAIN)
    assert same_bits(found, wanted)
    # The result's memory alone is new.
    assert device.live_bytes("host") <= held + (1 << 16)
    assert found.foreground.ctypes.data == pixels.ctypes.data
    # A JPEG is unpacked there in the first place.
    data = encoded(disc(), "JPEG", quality=95)
    with device.active():
        assert device.is_page_locked(matting.remove(data, PLAIN).foreground)
        assert not device.is_page_locked(wanted.foreground)


# --- faults


def out_of_memory_at(number: int, *names: str) -> Any:
    total = 0

    def fault(name: str, _: int) -> Exception | None:
        nonlocal total
        total += name in names
        return OutOfMemoryError("injected") if name in names and total == number else None

    return fault


@pytest.mark.parametrize("graphs", [True, False])
def test_out_of_memory_at_each_allocation_while_opening(graphs: bool) -> None:
    number, failures = 0, 0
    while True:
        number += 1
        device = FakeDevice()
        device.fault = out_of_memory_at(number, "allocate", "allocate_host")
        try:
            matting = open_matting(device, batch=2, graphs=graphs)
        except OutOfMemoryError:
            failures += 1
            assert not device.live
            continue
        finally:
            device.fault = None
        matting.close()
        assert not device.live
        break
    # Weights, levels, and for each slot tensor, answer, flags on both sides, context.
    assert failures == 2 + 2 * 5


def test_out_of_memory_at_each_allocation_of_a_picture(host: Matting) -> None:
    picture = noise(60, 90, channels=4)
    options = replace(PLAIN, background="white")
    wanted = host.remove(picture, options)
    for number in range(1, 14):
        device = FakeDevice()
        with open_matting(device) as matting:
            device.fault = out_of_memory_at(number, "allocate", "allocate_host")
            # One failure is mended: idle memory is given back and the picture tried again.
            assert_close(matting.remove(picture, options), wanted)
            device.fault = None
        gc.collect()
        assert not device.live


@pytest.mark.parametrize("batch", [1, 3])
def test_a_picture_that_never_fits(device: FakeDevice, batch: int) -> None:
    with open_matting(device, batch) as matting:
        small, large = disc(), noise(300, 400)

        block = device._block

        def limited(kind: str, size: int) -> Any:
            if kind == "device" and size > 300_000:
                raise OutOfMemoryError("too large")
            return block(kind, size)

        device._block = limited  # type: ignore[method-assign]
        results = list(matting.stream([small, large, small, small], errors="yield"))
        assert [isinstance(result, OutOfMemoryError) for result in results] == [
            False,
            True,
            False,
            False,
        ]
        with pytest.raises(OutOfMemoryError):
            matting.remove(large)
        with pytest.raises(OutOfMemoryError):
            matting.remove_device(large)
        matting.remove(small)
    del results
    gc.collect()
    assert not device.live


@pytest.mark.parametrize("name", ["upload", "download", "resize_rows", "fill", "graph", "cutout"])
def test_a_call_that_fails_costs_one_picture(device: FakeDevice, name: str) -> None:
    with open_matting(device) as matting:
        wanted = matting.remove(disc())
        seen = device.counts[name]
        device.fault = lambda call, count: (
            DeviceError("injected") if call == name and count == seen + 1 else None
        )
        with pytest.raises(DeviceError, match="injected"):
            matting.remove(noise(70, 70))
        # Nothing that the failed picture queued may run into the next.
        assert device.pending() == 0
        for _ in range(4):
            assert same_bits(matting.remove(disc()), wanted)
    del wanted
    gc.collect()
    assert not device.live


def test_a_copy_that_fails_in_a_group_is_made_again(device: FakeDevice) -> None:
    with open_matting(device, batch=4) as matting:
        wanted = [matting.remove(picture) for picture in pictures(4)]
        seen = device.counts["upload"]
        device.fault = lambda call, count: (
            DeviceError("injected") if (call, count) == ("upload", seen + 3) else None
        )
        found = list(matting.stream(pictures(4)))
        assert all(map(same_bits, wanted, found))


@pytest.mark.parametrize("name", ["upload", "resize_columns", "graph", "download", "synchronize"])
def test_a_lost_context_is_said_at_once_and_ends_everything(device: FakeDevice, name: str) -> None:
    matting = open_matting(device, batch=2)
    matting.remove(disc())
    seen = device.counts[name]
    device.fault = lambda call, count: (
        LostDeviceError("gone: start it again") if call == name and count > seen else None
    )
    results = list(matting.stream(pictures(6), errors="yield"))
    assert any(isinstance(result, LostDeviceError) for result in results)
    with pytest.raises(LostDeviceError, match="start it again"):
        matting.remove(disc())
    # Nothing hangs and nothing is raised on the way out.
    matting.close()


# --- arrays on the GPU


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("options", OPTIONS, ids=["rgba", "mask", "colour"])
def test_a_picture_that_lies_on_the_gpu(
    device: FakeDevice, matting: Matting, channels: int, gap: int, options: Options
) -> None:
    picture = noise(30, 70, channels=channels)
    array = OnDevice(device, picture, gap)
    wanted = matting.remove(picture, options)
    before = device.counts["upload"]
    found = matting.remove(array, options)
    assert same_bits(found, wanted)
    assert np.array_equal(found.foreground, wanted.foreground)
    assert found.source == "<device array>"
    # Its pixels did not travel; its resize tables were there already.
    assert device.counts["upload"] <= before + 1


def test_streams_of_pictures_on_the_gpu_and_the_host(device: FakeDevice) -> None:
    with open_matting(device, batch=2) as matting:
        wanted = [matting.remove(picture) for picture in pictures(6)]
        mixed: list[Any] = [
            OnDevice(device, picture) if number % 2 else picture
            for number, picture in enumerate(pictures(6))
        ]
        assert all(map(same_bits, wanted, matting.stream(mixed)))


def test_arrays_of_another_layout(device: FakeDevice, matting: Matting, host: Matting) -> None:
    array = OnDevice(device, noise(4, 4))
    for shape, text in (((4, 4), r"\[4, 4\]"), ((4, 4, 2), r"\[4, 4, 2\]"), ((0, 4, 3), "give")):
        array.shape = shape
        with pytest.raises(DecodeError, match=text):
            matting.remove(array)
    array.shape = (4, 4, 3)
    with pytest.raises(TooLargeError):
        matting.remove(array, Options(max_pixels=15))
    with pytest.raises(DecodeError, match="lies on a GPU"):
        host.remove(array)


def test_an_array_that_names_its_stream_is_waited_for(device: FakeDevice) -> None:
    with device.active():
        theirs = device.open_stream()

    class Late(OnDevice):
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {**super().__cuda_array_interface__, "stream": theirs.handle}

    array = Late(device, np.zeros((9, 9, 3), np.uint8))
    device.enqueue(theirs.handle, lambda: array.fill(123))
    with open_matting(device) as matting:
        assert (matting.remove(array, PLAIN).foreground == 123).all()


@pytest.mark.parametrize("options", OPTIONS, ids=["rgba", "mask", "colour"])
def test_results_that_stay_on_the_gpu(
    device: FakeDevice, matting: Matting, options: Options
) -> None:
    from helpers.reference import memory

    wanted = matting.remove(noise(33, 44), options)
    before = device.counts["download"]
    cutout = matting.remove_device(noise(33, 44), options)
    # The flags alone come down.
    assert device.counts["download"] == before + 1
    interface = cutout.__cuda_array_interface__
    assert interface["shape"] == wanted.image.shape
    assert cutout.__dlpack_device__() == (2, 0)
    found = memory(cutout.pointer, cutout.shape, np.uint8)
    assert np.array_equal(found, wanted.image)
    for _ in range(3):
        matting.remove_device(noise(33, 44, seed=5))
    # Kept while it is referred to, lent again afterwards.
    assert np.array_equal(found, wanted.image)
    before = device.counts["allocate"]
    del cutout, interface
    gc.collect()
    matting.remove_device(noise(33, 44), options)
    assert device.counts["allocate"] == before


def test_results_on_the_gpu_feed_the_next_matting(device: FakeDevice) -> None:
    with open_matting(device) as matting:
        first = matting.remove_device(disc(), PLAIN)
        again = matting.remove(first, PLAIN)
        assert np.array_equal(again.foreground, matting.remove(disc(), PLAIN).rgba[..., :3])


def test_on_the_cpu_results_stay_on_no_gpu(host: Matting) -> None:
    with pytest.raises(DeviceError, match=r"remove\(\) instead"):
        host.remove_device(disc())


def test_files_come_out_as_on_the_cpu(matting: Matting, host: Matting) -> None:
    data = encoded(disc(), "JPEG", quality=95)
    for options in OPTIONS:
        found, wanted = matting.remove(data, options), host.remove(data, options)
        assert_close(found, wanted)
        assert found.encode(".png")
