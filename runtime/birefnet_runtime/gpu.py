"""What the rest of the runtime asks of a GPU: ``device`` has the real one, tests another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from numpy.typing import NDArray

from birefnet_runtime.frame import Bytes
from birefnet_runtime.launches import Launch


class Stream(Protocol):
    """A queue of work on the GPU; ``handle`` is its CUstream as an integer."""

    @property
    def handle(self) -> int: ...


class Event(Protocol):
    """A mark in a stream."""


class Block(Protocol):
    """Device memory from ``pointer`` on; whoever allocated it frees it, once."""

    @property
    def pointer(self) -> int: ...

    @property
    def size(self) -> int: ...

    def free(self) -> None: ...


class HostBlock(Protocol):
    """Page-locked host memory: ``array``, uint8 [size]; whoever allocated it frees it, once."""

    @property
    def array(self) -> Bytes: ...

    @property
    def size(self) -> int: ...

    def free(self) -> None: ...


class Kernels(Protocol):
    """A loaded module of kernels."""


class Graph(Protocol):
    """Captured work; one launch at a time, always on the same addresses, which it does not own."""

    def launch(self, stream: Stream) -> None: ...

    def free(self) -> None: ...


class Device(Protocol):
    """One GPU. Every method but ``active`` is called inside ``with device.active()``.

    Sizes are bytes, pointers integers. Copies, fills and launches are queued on their stream and
    return at once; the caller keeps both sides of a copy alive until an event behind it was waited
    for. Raises OutOfMemoryError, LostDeviceError, or DeviceError for everything else.
    """

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> tuple[int, int]: ...

    @property
    def ordinal(self) -> int: ...

    def active(self) -> AbstractContextManager[None]:
        """Make the GPU's primary context current on this thread; may be nested."""
        ...

    def allocate(self, size: int) -> Block: ...

    def allocate_host(self, size: int) -> HostBlock: ...

    def is_page_locked(self, array: NDArray[Any]) -> bool:
        """Whether a contiguous array lies in page-locked memory, whoever locked it."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""
        ...

    def open_stream(self) -> Stream:
        """A stream that does not wait for the default stream; it ends with its last reference."""
        ...

    def open_event(self, blocking: bool = True) -> Event:
        """``blocking``: a thread that waits for it sleeps, and wakes some 50 us later, instead of
        spinning on a core."""
        ...

    def load(self, image: bytes) -> Kernels:
        """The kernels in a cubin or in PTX (which the driver compiles)."""
        ...

    def upload(self, pointer: int, source: NDArray[Any], stream: Stream) -> None: ...

    def download(self, target: NDArray[Any], pointer: int, stream: Stream) -> None: ...

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None: ...

    def fill(self, pointer: int, value: int, size: int, stream: Stream) -> None: ...

    def launch(self, kernels: Kernels, launch: Launch, stream: Stream) -> None: ...

    def record(self, event: Event, stream: Stream) -> None: ...

    def wait(self, stream: Stream, event: Event) -> None:
        """Let what is queued on ``stream`` from now on wait for ``event``; returns at once."""
        ...

    def order(self, first: int, then: int) -> None:
        """Let what is queued on the stream handle ``then`` from now on wait for what is on
        ``first``; either may belong to somebody else."""
        ...

    def synchronize(self, event: Event) -> None: ...

    def finish(self, stream: Stream) -> None:
        """Wait for everything on ``stream``, spinning where the driver thinks it worthwhile."""
        ...

    def elapsed(self, first: Event, then: Event) -> float:
        """Seconds between two recorded events."""
        ...

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph | None:
        """What ``work`` queues on ``stream``, as a graph, without running it; None where there is
        no cuda-bindings."""
        ...
