"""The order of the steps, and nothing else: decode, stage, preprocess, model, refine.

A backend brings the steps: ``host`` on NumPy and OpenCV, ``cuda`` with kernels on a GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, cast

from birefnet_export.contract import Contract
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource, check_size, decode
from birefnet_runtime.device_array import NAME, DeviceArray, DevicePicture, is_device_array
from birefnet_runtime.device_cutout import DeviceCutout, DeviceImage
from birefnet_runtime.errors import (
    BirefnetError,
    ClosedError,
    DeviceError,
    LostDeviceError,
    OutOfMemoryError,
)
from birefnet_runtime.frame import Bytes, Frame, Metadata, Rendered
from birefnet_runtime.host import SLOTS
from birefnet_runtime.options import Options

# What a picture may be given as. Arrays on a GPU only where the backend works there.
Source = PictureSource | DeviceArray


class Backend(Protocol):
    """The steps between a frame and its cut-out, on one device.

    ``batch``: pictures of one run. ``workers``: threads that decode and finish pictures of a
    stream. ``notes``: what ``describe`` adds about how it runs. Slots and staged frames are the
    backend's own; a slot is used by one thread at a time. ``stage`` may be called from any thread
    at any time.
    """

    @property
    def device(self) -> str: ...

    @property
    def contract(self) -> Contract: ...

    @property
    def batch(self) -> int: ...

    @property
    def workers(self) -> int: ...

    @property
    def notes(self) -> str: ...

    def open_slots(self) -> list[Any]: ...

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        """uint8 memory from which ``stage`` needs no copy, not filled."""
        ...

    def stage(self, frame: Frame) -> Any: ...

    def borrow(self, source: Any) -> DevicePicture:
        """A picture that lies on the GPU; DecodeError where this backend reads none."""
        ...

    def stage_borrowed(self, picture: DevicePicture) -> Any: ...

    def begin(self, slot: Any) -> None: ...

    def preprocess(self, slot: Any, index: int, staged: Any) -> None: ...

    def infer(self, slot: Any) -> Any: ...

    def refine(
        self, slot: Any, answer: Any, staged: list[Any], options: Options, patient: bool
    ) -> Sequence[Rendered | BirefnetError]: ...

    def refine_on_device(self, slot: Any, staged: Any, options: Options) -> DeviceImage: ...

    def abandon(self, slot: Any) -> None: ...

    def relieve(self, slot: Any) -> None: ...

    def close(self, slots: list[Any]) -> None: ...


@dataclass(frozen=True)
class Label:
    """What a result takes over besides pixels."""

    source: str
    metadata: Metadata


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture that was decoded and staged, which took ``seconds``: ready for a slot."""

    label: Label
    staged: Any
    seconds: float


class Pipeline:
    """Takes pictures through the steps. Any thread may call it; ``SLOTS`` runs work at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._slots: SimpleQueue[Any] = SimpleQueue()
        self._count = 0
        for slot in backend.open_slots():
            self._slots.put(slot)
            self._count += 1
        # So that memory does not grow with the number of threads that call `run`.
        self._turns = threading.Semaphore(max(backend.workers, SLOTS))
        self._closing = threading.Lock()
        self._closed = False

    @property
    def batch(self) -> int:
        return self._backend.batch

    @property
    def workers(self) -> int:
        return self._backend.workers

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        """See ``Backend.empty``; ClosedError."""
        if self._closed:
            raise _closed()
        return self._backend.empty(shape)

    def run(self, source: Source, options: Options, patient: bool = False) -> Cutout:
        """The cut-out of ``source``; InputError for the picture, ModelError for the model.

        ``patient``: wait for a GPU asleep, which costs some 50 us and frees a core.
        """
        with self._turns:
            (result,) = self.compute([self.open(source, options)], options, patient)
        if isinstance(result, BirefnetError):
            raise result
        return result

    def open(self, source: Source, options: Options) -> Opened:
        """Decode ``source`` and bring it to where a slot takes it from."""
        if self._closed:
            raise _closed()
        start = time.perf_counter()
        if is_device_array(source):
            return self._open_borrowed(source, options)
        frame = decode(cast(PictureSource, source), options.max_pixels, self._backend.empty)
        staged = self._backend.stage(frame)
        label = Label(frame.source, frame.metadata)
        return Opened(label, staged, time.perf_counter() - start)

    def _open_borrowed(self, source: Any, options: Options) -> Opened:
        picture = self._backend.borrow(source)
        check_size(NAME, *picture.size[::-1], options.max_pixels)
        return Opened(Label(NAME, Metadata()), self._backend.stage_borrowed(picture), 0.0)

    def compute(
        self, group: Sequence[Opened], options: Options, patient: bool
    ) -> list[Cutout | BirefnetError]:
        """The cut-outs of at most ``backend.batch`` pictures, in one run.

        What concerns one picture alone stands in its place; what concerns the run is raised.
        """
        slot = self._take()
        try:
            try:
                return self._steps(slot, group, options, patient)
            except OutOfMemoryError:
                self._backend.relieve(slot)
            except LostDeviceError:
                raise
            except DeviceError:
                if len(group) == 1:
                    raise
            return [self._alone(slot, one, options, patient) for one in group]
        finally:
            self._slots.put(slot)

    def run_on_device(self, source: Source, options: Options) -> DeviceCutout:
        """The cut-out of ``source``, left on the GPU and complete."""
        with self._turns:
            one = self.open(source, options)
            slot = self._take()
            try:
                return self._steps_on_device(slot, one, options)
            except OutOfMemoryError:
                self._backend.relieve(slot)
                return self._steps_on_device(slot, one, options)
            finally:
                self._slots.put(slot)

    def close(self, patience: float | None = None) -> None:
        """Let runs in flight end, then give everything back. May be called again.

        After ``patience`` seconds without an end everything is left as it is; None waits.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                slots = [self._slots.get(timeout=patience) for _ in range(self._count)]
            except Empty:
                return
            # Whoever waits for a slot finds this instead, and hands it on.
            self._slots.put(None)
            self._backend.close(slots)

    def _take(self) -> Any:
        slot = self._slots.get()
        if slot is None:
            self._slots.put(None)
            raise _closed()
        return slot

    def _alone(
        self, slot: Any, one: Opened, options: Options, patient: bool
    ) -> Cutout | BirefnetError:
        """One picture, after something failed for its group: memory, or a copy of one of them."""
        try:
            return self._steps(slot, [one], options, patient)[0]
        except LostDeviceError:
            raise
        except DeviceError as error:
            return error

    def _steps(
        self, slot: Any, group: Sequence[Opened], options: Options, patient: bool
    ) -> list[Cutout | BirefnetError]:
        staged = [one.staged for one in group]
        # "decode" comes first and is each picture's own.
        timings = {"decode": 0.0}
        with self._abandoning(slot):
            answer = self._to_answer(slot, staged, timings)
            with _timed(timings, "refine"):
                results = self._backend.refine(slot, answer, staged, options, patient)
        return [_cutout(*pair, options, timings) for pair in zip(group, results, strict=True)]

    def _steps_on_device(self, slot: Any, one: Opened, options: Options) -> DeviceCutout:
        timings = {"decode": one.seconds}
        with self._abandoning(slot):
            self._to_answer(slot, [one.staged], timings)
            image = self._backend.refine_on_device(slot, one.staged, options)
        seconds = {**timings, **image.seconds}
        return DeviceCutout(image.shape, image.ordinal, image.lease, one.label.source, seconds)

    def _to_answer(self, slot: Any, staged: list[Any], timings: dict[str, float]) -> Any:
        backend = self._backend
        backend.begin(slot)
        with _timed(timings, "preprocess"):
            for index, picture in enumerate(staged):
                backend.preprocess(slot, index, picture)
        with _timed(timings, "model"):
            return backend.infer(slot)

    @contextmanager
    def _abandoning(self, slot: Any) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._backend.abandon(slot)
            raise


def _closed() -> ClosedError:
    return ClosedError("this Matting is closed: open another one")


def _cutout(
    one: Opened, result: Rendered | BirefnetError, options: Options, timings: dict[str, float]
) -> Cutout | BirefnetError:
    if isinstance(result, BirefnetError):
        return result
    seconds = {**timings, **result.seconds, "decode": one.seconds}
    label, image = one.label, result.image
    pixels = (result.foreground, result.alpha)
    return Cutout(*pixels, label.source, options, label.metadata, seconds, image)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
