"""A GPU made of host memory, at the boundary of ``birefnet_runtime.gpu.Device``.

Streams are lazy: queued work is done only when somebody waits for it, as late as CUDA allows, and
reads and writes memory only then. So a buffer that is used again before its event, a missing wait
between streams or an early free gives wrong pixels. Kernels are the NumPy twins. Memory is filled
with rubbish when it is allocated and when it is freed. Every call can be made to fail.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.errors import LostDeviceError
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.launches import Launch
from helpers import reference

Work = Callable[[], None]
# Called before each call with its name and how often that name came, from 1; what it returns is
# raised. A LostDeviceError is raised ever after.
Fault = Callable[[str, int], Exception | None]
_NEW, _FREED = 0xCD, 0xDD


@dataclass(eq=False)
class FakeStream:
    handle: int
    queue: deque[Work] = field(default_factory=deque)
    recording: list[Work] | None = None


@dataclass(eq=False)
class FakeEvent:
    """``recorded`` counts the records queued so far, ``happened`` those that were reached."""

    stream: FakeStream | None = None
    recorded: int = 0
    happened: int = 0


@dataclass(eq=False)
class FakeBlock:
    """Device or page-locked memory."""

    device: FakeDevice
    kind: str
    array: Bytes

    @property
    def pointer(self) -> int:
        return self.array.ctypes.data

    @property
    def size(self) -> int:
        return self.array.nbytes

    def free(self) -> None:
        self.device.called("free")
        # The bytes stay, so that a read after this finds rubbish instead of ending the process.
        self.array[:] = _FREED
        self.device.live.remove(self)


@dataclass(eq=False)
class FakeGraph:
    device: FakeDevice
    work: list[Work]

    def launch(self, stream: Any) -> None:
        self.device.called("graph", stream)
        for step in self.work:
            self.device.enqueue(stream.handle, step)

    def free(self) -> None:
        self.device.called("free_graph")
        self.work.clear()


class FakeDevice:
    """See ``birefnet_runtime.gpu.Device``; ``can_capture`` False plays a missing cuda-bindings.

    ``live``: blocks not freed yet. ``trace``: (call, stream handle) in the order of the calls.
    ``limit``: bytes of device memory in all.
    """

    def __init__(self, can_capture: bool = True, limit: int = 1 << 30) -> None:
        self.name, self.capability, self.ordinal = "Fake GPU", (9, 0), 0
        self.can_capture, self.limit = can_capture, limit
        self.live: list[FakeBlock] = []
        self.trace: list[tuple[str, int]] = []
        self.fault: Fault | None = None
        self.counts: Counter[str] = Counter()
        self.streams: dict[int, FakeStream] = {0: FakeStream(0)}
        self._lost: LostDeviceError | None = None
        self._lock = threading.RLock()
        # The GPU does one thing at a time; queueing more goes on beside it.
        self._running = threading.RLock()
        self._thread = threading.local()
        # Freed memory is kept, so that no address comes twice.
        self._graveyard: list[Bytes] = []

    # --- what the runtime calls

    @contextmanager
    def active(self) -> Iterator[None]:
        self._thread.depth = getattr(self._thread, "depth", 0) + 1
        try:
            yield
        finally:
            self._thread.depth -= 1

    def allocate(self, size: int) -> FakeBlock:
        self.called("allocate")
        return self._block("device", size)

    def allocate_host(self, size: int) -> FakeBlock:
        self.called("allocate_host")
        return self._block("host", size)

    def is_page_locked(self, array: NDArray[Any]) -> bool:
        self.called("is_page_locked")
        first, last = array.ctypes.data, array.ctypes.data + array.nbytes
        return any(
            block.kind == "host" and block.pointer <= first and last <= block.pointer + block.size
            for block in list(self.live)
        )

    def memory(self) -> tuple[int, int]:
        used = sum(block.size for block in self.live if block.kind == "device")
        return self.limit - used, self.limit

    def open_stream(self) -> FakeStream:
        self.called("open_stream")
        with self._lock:
            stream = FakeStream(1000 + len(self.streams))
            self.streams[stream.handle] = stream
        return stream

    def open_event(self, blocking: bool = True) -> FakeEvent:
        self.called("open_event")
        return FakeEvent()

    def load(self, image: bytes) -> bytes:
        self.called("load")
        assert image
        return image

    def upload(self, pointer: int, source: NDArray[Any], stream: Any) -> None:
        self.called("upload", stream)
        assert source.flags.c_contiguous
        target = reference.memory(pointer, (source.nbytes,), np.uint8)
        flat = source.reshape(-1).view(np.uint8)
        self.enqueue(stream.handle, lambda: np.copyto(target, flat))

    def download(self, target: NDArray[Any], pointer: int, stream: Any) -> None:
        self.called("download", stream)
        assert target.flags.c_contiguous
        source = reference.memory(pointer, (target.nbytes,), np.uint8)
        flat = target.reshape(-1).view(np.uint8)
        self.enqueue(stream.handle, lambda: np.copyto(flat, source))

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        self.called("copy", stream)
        ends = [reference.memory(pointer, (size,), np.uint8) for pointer in (target, source)]
        self.enqueue(stream.handle, lambda: np.copyto(ends[0], ends[1]))

    def fill(self, pointer: int, value: int, size: int, stream: Any) -> None:
        self.called("fill", stream)
        target = reference.memory(pointer, (size,), np.uint8)
        self.enqueue(stream.handle, lambda: target.fill(value))

    def launch(self, kernels: Any, launch: Launch, stream: Any) -> None:
        self.called(launch.name, stream)
        assert kernels
        self.enqueue(stream.handle, lambda: reference.execute(launch))

    def record(self, event: Any, stream: Any) -> None:
        self.called("record", stream)
        with self._lock:
            event.stream, event.recorded = stream, event.recorded + 1
            number = event.recorded
        self.enqueue(stream.handle, lambda: setattr(event, "happened", number))

    def wait(self, stream: Any, event: Any) -> None:
        self.called("wait", stream)
        number = event.recorded
        self.enqueue(stream.handle, lambda: self._reach(event, number))

    def order(self, first: int, then: int) -> None:
        self.called("order", self.streams[then])
        event = FakeEvent()
        self.record(event, self.streams[first])
        self.wait(self.streams[then], event)

    def synchronize(self, event: Any) -> None:
        self.called("synchronize", event.stream)
        self._reach(event, event.recorded)

    def finish(self, stream: Any) -> None:
        self.called("finish", stream)
        with self._running:
            while stream.queue:
                stream.queue.popleft()()

    def elapsed(self, first: Any, then: Any) -> float:
        self.called("elapsed")
        assert first.happened == first.recorded > 0
        assert then.happened == then.recorded > 0
        return 0.001

    def capture(self, stream: Any, work: Work) -> FakeGraph | None:
        self.called("capture", stream)
        if not self.can_capture:
            return None
        stream.recording = []
        try:
            work()
            return FakeGraph(self, stream.recording)
        finally:
            stream.recording = None

    # --- what fakes and tests call

    def enqueue(self, handle: int, work: Work) -> None:
        """Queue ``work`` on a stream, or put it into the graph that is being captured there."""
        stream = self.streams[handle]
        with self._lock:
            if stream.recording is not None:
                stream.recording.append(work)
            else:
                stream.queue.append(work)

    def called(self, name: str, stream: FakeStream | None = None) -> None:
        assert getattr(self._thread, "depth", 0) > 0, f"{name} without an active context"
        with self._lock:
            self.trace.append((name, -1 if stream is None else stream.handle))
            self.counts[name] += 1
            if self._lost is not None:
                raise self._lost
            error = self.fault(name, self.counts[name]) if self.fault else None
        if isinstance(error, LostDeviceError):
            self._lost = error
        if error is not None:
            raise error

    def pending(self) -> int:
        """Pieces of work that were queued and not done."""
        return sum(len(stream.queue) for stream in self.streams.values())

    def live_bytes(self, kind: str) -> int:
        return sum(block.size for block in self.live if block.kind == kind)

    def _block(self, kind: str, size: int) -> FakeBlock:
        assert size > 0
        with self._lock:
            block = FakeBlock(self, kind, np.full(size, _NEW, np.uint8))
            self.live.append(block)
            self._graveyard.append(block.array)
        return block

    def _reach(self, event: FakeEvent, number: int) -> None:
        with self._running:
            while event.happened < number:
                assert event.stream is not None
                event.stream.queue.popleft()()


@dataclass(eq=False)
class FakeEngine:
    """A network that is a NumPy function, float32 [3,h,w] to [h',w'] for each row; see
    ``slot.Engine``. It allocates a context's memory as TensorRT does."""

    device: FakeDevice
    function: Callable[[Floats], Floats]
    size: tuple[int, int] = (32, 32)
    batch: int = 1
    capturable: bool = True
    memory: int = 4096
    closed: bool = False
    bound: int = 0
    weights: FakeBlock | None = None

    def __post_init__(self) -> None:
        self.answer = self.function(np.zeros((3, *self.size), np.float32)).shape
        self.weights = self.device.allocate(self.memory)

    def bind(self, image: int, answer: int, stream: Any) -> FakeBound:
        block = self.device.allocate(self.memory)
        self.bound += 1
        return FakeBound(self, image, answer, block, stream)

    def run(self, image: int, answer: int) -> None:
        inputs = reference.memory(image, (self.batch, 3, *self.size), np.float32)
        outputs = reference.memory(answer, (self.batch, *self.answer), np.float32)
        for row, target in zip(inputs, outputs, strict=True):
            target[...] = self.function(row)

    def close(self) -> None:
        assert self.bound == 0, "the engine goes before its contexts"
        block, self.weights = self.weights, None
        if block is not None:
            block.free()
        self.closed = True


@dataclass(eq=False)
class FakeBound:
    engine: FakeEngine
    image: int
    answer: int
    block: FakeBlock
    stream: FakeStream

    def enqueue(self, stream: Any) -> None:
        assert stream is self.stream, "one context on two streams"
        self.engine.device.called("engine", stream)
        run = self.engine.run
        self.engine.device.enqueue(stream.handle, lambda: run(self.image, self.answer))

    def close(self) -> None:
        self.engine.bound -= 1
        self.block.free()
