"""Memory that is lent out, comes back by itself, and is lent again.

Allocating page-locked or device memory takes milliseconds and freeing it stops the GPU, so a
picture's memory is taken from here. It comes back when the last array on it is garbage-collected.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from birefnet_runtime.errors import DeviceError, OutOfMemoryError
from birefnet_runtime.frame import Bytes
from birefnet_runtime.gpu import Device, HostBlock


class Memory(Protocol):
    """What ``Block`` and ``HostBlock`` have in common."""

    @property
    def size(self) -> int: ...

    def free(self) -> None: ...


B = TypeVar("B", bound=Memory)

# Smaller than any picture worth mentioning; keeps the number of size classes low.
_SMALLEST = 1 << 16


def size_class(size: int) -> int:
    """The next of 1, 1.25, 1.5 and 1.75 times a power of two: at most a quarter is wasted."""
    size = max(size, _SMALLEST)
    quarter = 1 << (size - 1).bit_length() - 3
    return -(-size // quarter) * quarter


class Lease(Generic[B]):
    """``block`` until nothing refers to this object any more; then the pool has it back.

    NumPy keeps what offers ``__array_interface__`` alive as long as an array or a view is on it:
    ``numpy.asarray(lease)`` of a page-locked block is uint8 [size].
    """

    def __init__(self, block: B, size: int) -> None:
        self.block, self.size = block, size

    @property
    def __array_interface__(self) -> dict[str, Any]:
        array: Any = getattr(self.block, "array")  # noqa: B009
        interface: dict[str, Any] = array[: self.size].__array_interface__
        return interface


class Pool(Generic[B]):
    """Blocks of one kind, at most ``limit`` bytes of them, lent and idle ones together.

    ``allocate`` makes a block of so many bytes. Any thread may take and return; ``take`` and
    ``close`` are called where the device is active.
    """

    def __init__(self, device: Device, allocate: Callable[[int], B], limit: int) -> None:
        self._device, self._allocate, self._limit = device, allocate, limit
        self._lock = threading.Lock()
        # A finaliser runs in any thread at any moment, also inside `take`, so it takes no lock.
        self._returned: deque[B] = deque()
        self._idle: list[B] = []
        self._closed = False
        self.held = 0

    def take(self, size: int) -> Lease[B] | None:
        """A lease of at least ``size`` bytes; None where the limit is reached by blocks in use, or
        no memory is left even after every idle block was freed."""
        wanted = size_class(size)
        with self._lock:
            self._collect()
            block = self._reuse(wanted) or self._grow(wanted)
        self._drain()
        if block is None:
            return None
        lease = Lease(block, size)
        weakref.finalize(lease, self._give_back, block).atexit = False
        return lease

    def trim(self) -> None:
        """Free every idle block."""
        with self._lock:
            self._collect()
            self._free(0)
        self._drain()

    def close(self) -> None:
        """Free idle blocks now and lent ones as they come back."""
        self._closed = True
        self.trim()

    def _give_back(self, block: B) -> None:
        self._returned.append(block)
        self._drain()

    def _drain(self) -> None:
        """Once closed, free what came back. Whoever holds the lock, perhaps this very thread, looks
        here again after letting go of it."""
        while self._closed and self._returned and self._lock.acquire(blocking=False):
            try:
                with self._device.active():
                    self._collect()
                    self._free(0)
            except DeviceError:
                # The context is gone, and its memory with it.
                self._idle.clear()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        while self._returned:
            self._idle.append(self._returned.popleft())

    def _reuse(self, wanted: int) -> B | None:
        """The smallest idle block that fits and is not twice too large."""
        fitting = [block for block in self._idle if wanted <= block.size <= 2 * wanted]
        if not fitting:
            return None
        block = min(fitting, key=lambda block: block.size)
        self._idle.remove(block)
        return block

    def _grow(self, wanted: int) -> B | None:
        self._free(max(self._limit - wanted, 0))
        if self.held + wanted > self._limit:
            return None
        try:
            block = self._allocate(wanted)
        except OutOfMemoryError:
            self._free(0)
            try:
                block = self._allocate(wanted)
            except OutOfMemoryError:
                return None
        self.held += block.size
        return block

    def _free(self, allowed: int) -> None:
        """Free idle blocks, the longest idle first, until at most ``allowed`` bytes are held."""
        while self._idle and self.held > allowed:
            block = self._idle.pop(0)
            self.held -= block.size
            block.free()


def borrow(pool: Pool[HostBlock], size: int) -> Bytes:
    """uint8 [size] from ``pool``, or ordinary memory where it has none: copies are then slower."""
    lease = pool.take(size)
    return np.empty(size, np.uint8) if lease is None else np.asarray(lease)
