"""Memory that is lent, grows, and is handed to other libraries."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import dlpack
from birefnet_runtime.device_array import is_device_array
from birefnet_runtime.errors import LostDeviceError, OutOfMemoryError
from birefnet_runtime.gpu import HostBlock
from birefnet_runtime.pool import Pool, borrow, size_class
from birefnet_runtime.room import Room
from birefnet_runtime.tables import Packed, Tables
from helpers.fake_device import FakeDevice

MIB = 1 << 20


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    found = FakeDevice()
    with found.active():
        yield found


def new_pool(device: FakeDevice, limit: int = 8 * MIB) -> Pool[HostBlock]:
    return Pool(device, device.allocate_host, limit)


# --- the pool


def test_size_classes_waste_a_quarter_at_most() -> None:
    sizes = np.unique(np.geomspace(1 << 16, 1 << 30, 5000).astype(int))
    classes = [size_class(int(size)) for size in sizes]
    assert all(size <= found < size * 1.25 + 4 for size, found in zip(sizes, classes, strict=True))
    # Four to an octave, so that a picture of nearly the same size finds a block.
    assert len(set(classes)) <= 4 * 14 + 2
    assert size_class(1) == size_class(1 << 16) == 1 << 16


def test_a_block_comes_back_with_the_last_view(device: FakeDevice) -> None:
    pool = new_pool(device)
    array = np.asarray(pool.take(MIB))
    assert array.shape == (MIB,)
    view = array.reshape(1024, 1024)[3:, ::2]
    del array
    gc.collect()
    second = pool.take(MIB)
    assert device.counts["allocate_host"] == 2
    del view, second
    gc.collect()
    for _ in range(5):
        pool.take(MIB - 100)
    assert device.counts["allocate_host"] == 2


def test_small_pictures_do_not_take_large_blocks(device: FakeDevice) -> None:
    pool = new_pool(device)
    pool.take(4 * MIB)
    small = pool.take(MIB)
    assert small is not None
    assert small.block.size == MIB


def test_the_limit_counts_lent_and_idle_blocks(device: FakeDevice) -> None:
    pool = new_pool(device)
    held = [pool.take(2 * MIB) for _ in range(4)]
    assert pool.take(1) is None
    assert borrow(pool, 100).shape == (100,)
    held.clear()
    # Idle blocks of another size make room.
    assert pool.take(8 * MIB) is not None
    assert device.live_bytes("host") == pool.held == 8 * MIB
    assert pool.take(9 * MIB) is None


def test_where_no_memory_is_left_idle_blocks_go_first(device: FakeDevice) -> None:
    pool = new_pool(device)
    pool.take(MIB)
    failures = 1

    def fault(name: str, _: int) -> Exception | None:
        nonlocal failures
        if name != "allocate_host" or not failures:
            return None
        failures -= 1
        return OutOfMemoryError("no")

    device.fault = fault
    assert pool.take(4 * MIB) is not None
    assert device.live_bytes("host") == 4 * MIB
    failures = 2
    assert pool.take(6 * MIB) is None


def test_threads_share_a_pool(device: FakeDevice) -> None:
    pool, errors = new_pool(device, 64 * MIB), []

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        with device.active():
            for _ in range(200):
                array = borrow(pool, int(generator.integers(1, MIB)))
                array[:] = seed
                if (array != seed).any():
                    errors.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    gc.collect()
    pool.close()
    assert not device.live


def test_closed_pools_free_what_comes_back_later(device: FakeDevice) -> None:
    pool = new_pool(device)
    array = np.asarray(pool.take(100))
    pool.close()
    assert len(device.live) == 1
    # From any thread, without a context of its own.
    holder = [array]
    del array
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    gc.collect()
    assert not device.live


def test_blocks_of_a_lost_gpu_come_back_in_silence(device: FakeDevice) -> None:
    pool = new_pool(device)
    array = np.asarray(pool.take(100))
    pool.close()
    device.fault = lambda *_: LostDeviceError("gone")
    del array
    gc.collect()


# --- rooms and tables


def test_a_room_grows_and_never_holds_two_blocks(device: FakeDevice) -> None:
    room = Room(device)
    first = room.at_least(MIB)
    assert room.at_least(100) == first
    room.at_least(2 * MIB)
    assert len(device.live) == 1
    count = device.counts["allocate"]
    # A picture that is a little larger than the last fits as well.
    room.at_least(2 * MIB + 1000)
    room.at_least(2 * MIB + 100_000)
    assert device.counts["allocate"] <= count + 1
    device.fault = lambda name, _: OutOfMemoryError("no") if name == "allocate" else None
    with pytest.raises(OutOfMemoryError):
        room.at_least(64 * MIB)
    assert not device.live
    device.fault = None
    room.at_least(10)
    room.free()
    room.free()
    assert not device.live


def test_tables_of_recent_sizes_are_kept(device: FakeDevice) -> None:
    tables = Tables((24, 40), new_pool(device))
    first = tables.get((100, 200))
    assert tables.get((100, 200)) is first
    for height in range(1, 80):
        tables.get((height, 5))
    assert tables.get((100, 200)) is not first


def test_tables_lie_behind_one_another(device: FakeDevice) -> None:
    packed: Packed = Tables((24, 40), new_pool(device)).get((100, 30))
    address = packed.memory.ctypes.data
    for table, axis in zip(packed.at(address), (packed.columns, packed.rows), strict=True):
        start = (table.bounds - address) // 4
        bounds = packed.memory[start : start + axis.bounds.size].reshape(axis.bounds.shape)
        start = (table.weights - address) // 4
        weights = packed.memory[start : start + axis.weights.size].reshape(axis.weights.shape)
        assert np.array_equal(bounds, axis.bounds)
        assert np.array_equal(weights, axis.weights)
        assert (table.taps, table.size) == (axis.taps, axis.size)


# --- DLPack, with NumPy as the other library: it reads and writes the same structures


class Producer:
    """Our capsule, said to lie on the CPU, so that NumPy takes it."""

    def __init__(self, array: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.array = array
        monkeypatch.setattr(dlpack, "CUDA", 1)

    def __dlpack__(self, **_: Any) -> Any:
        return dlpack.give(self.array.ctypes.data, self.array.shape, 0, self.array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class Consumer:
    """A NumPy array that takes the stream that a GPU's array would."""

    def __init__(self, array: Any) -> None:
        self.array, self.streams = array, list[int]()

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__()


@pytest.mark.parametrize("shape", [(3, 5, 4), (7, 2)])
def test_another_library_reads_our_capsule(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    taken = np.from_dlpack(Producer(array, monkeypatch))
    assert np.array_equal(taken, array)
    assert taken.ctypes.data == array.ctypes.data
    assert len(dlpack._HANDED_OUT) == 1
    del taken
    gc.collect()
    assert not dlpack._HANDED_OUT


def test_a_capsule_that_nobody_took_frees_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    capsule = Producer(np.zeros(4, np.uint8), monkeypatch).__dlpack__()
    assert dlpack._HANDED_OUT
    del capsule
    gc.collect()
    assert not dlpack._HANDED_OUT


def test_we_read_another_librarys_capsule() -> None:
    whole = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3)
    for array in (whole, whole[::2, 1:5]):
        consumer = Consumer(array)
        view = dlpack.take(consumer, 77)
        assert consumer.streams == [77]
        assert (view.pointer, view.shape, view.device) == (array.ctypes.data, array.shape, (1, 0))
        assert view.strides == array.strides
        assert view.is_bytes
    assert not dlpack.take(Consumer(np.zeros((2, 2), np.float32)), 0).is_bytes


def test_the_other_librarys_memory_lives_as_long_as_the_view() -> None:
    import weakref

    class Tracked(np.ndarray[Any, Any]):
        pass

    array = np.zeros((4, 4, 3), np.uint8).view(Tracked)
    alive = weakref.ref(array)
    view = dlpack.take(Consumer(array), 0)
    del array
    gc.collect()
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_a_capsule_is_taken_once() -> None:
    capsule = np.zeros(3, np.uint8).__dlpack__()

    class Again:
        def __dlpack__(self, *, stream: int) -> Any:
            return capsule

    dlpack.take(Again(), 0)
    with pytest.raises(BufferError):
        dlpack.take(Again(), 0)


def test_what_is_a_device_array() -> None:
    assert not is_device_array(np.zeros(3))
    assert not is_device_array("a.png")
    assert not is_device_array(b"")
