"""The order of the steps, and nothing else: decode, stage, preprocess, model, refine.

A backend brings the steps: ``host`` on NumPy and OpenCV, ``cuda`` with kernels on a GPU.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Protocol, cast

from birefnet_export.contract import Contract
from birefnet_runtime import edges
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource, check_size, decode
from birefnet_runtime.device_array import NAME, DeviceArray, DevicePicture, is_device_array
from birefnet_runtime.device_cutout import DeviceCutout, DeviceImage
from birefnet_runtime.errors import (
    BirefnetError,
    ClosedError,
    DeviceError,
    ForkError,
    LostDeviceError,
    ModelError,
    OptionError,
    OutOfMemoryError,
)
from birefnet_runtime.frame import Bytes, Floats, Frame, Metadata, Rendered, View
from birefnet_runtime.host import SLOTS
from birefnet_runtime.options import Options
from birefnet_runtime.picture import Keep
from birefnet_runtime.run import Job, Label, Opened, Run
from birefnet_runtime.shrink import shrink

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

    def preprocess(self, slot: Any, index: int, staged: Any, view: View | None = None) -> None:
        """Write a picture into row ``index``; None is the whole picture over the whole row.

        With a view its box is resized, by the same filter, to the size of ``inner`` and put there;
        the rest of the row becomes 0. A picture may be in several rows, and again in a later run.
        """
        ...

    def infer(self, slot: Any) -> Any: ...

    def answers(self, slot: Any, answer: Any, count: int) -> Sequence[Floats | ModelError]:
        """Wait; the first ``count`` rows as alpha: float32 [h,w] in 0..1, the caller's own memory.

        ModelError stands in place of a row that is not finite. ``refine`` may still follow on the
        same run.
        """
        ...

    def fetch(self, slot: Any, staged: Any) -> Frame:
        """A borrowed picture in host memory; called for those alone."""
        ...

    def refine(
        self, slot: Any, answer: Any, staged: list[Any], options: Options, patient: bool
    ) -> Sequence[Rendered | BirefnetError | None]:
        """The cut-outs of a run of whole pictures, all on the device: the fast path.

        Row ``index`` of the run is picture ``index`` of ``staged``; one that is None is left out.
        """
        ...

    def finish(self, slot: Any, staged: Any, alpha: Bytes, options: Options) -> Rendered:
        """The cut-out for ``alpha``, uint8 [H,W] made on the host: colours, composition; waits."""
        ...

    def refine_on_device(self, slot: Any, staged: Any, options: Options) -> DeviceImage: ...

    def abandon(self, slot: Any) -> None: ...

    def relieve(self, slot: Any) -> None: ...

    def close(self, slots: list[Any]) -> None: ...


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
        self._process = os.getpid()

    @property
    def batch(self) -> int:
        return self._backend.batch

    @property
    def workers(self) -> int:
        return self._backend.workers

    @property
    def memory(self) -> tuple[int, int] | None:
        """Free and total bytes of the GPU whose memory the backend manages; None where it manages
        none. DeviceError."""
        found: tuple[int, int] | None = getattr(self._backend, "memory", None)
        return found

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        """See ``Backend.empty``; ClosedError."""
        self.check_open()
        return self._backend.empty(shape)

    def check_open(self) -> None:
        """ClosedError after ``close``; ForkError in a child of the process that opened it, where
        its threads are not and a lock may be held for ever."""
        if self._process != os.getpid():
            raise ForkError(
                f"this Matting was opened by process {self._process}, which this one was forked "
                "from: open one in each process, after the fork"
            )
        if self._closed:
            raise _closed()

    def check(self, options: Options) -> None:
        """OptionError where the model cannot do what ``options`` say, whatever the picture."""
        edges.check(options, self._backend.contract)

    def run(self, source: Source, options: Options, patient: bool = False) -> Cutout:
        """The cut-out of ``source``; InputError for the picture, ModelError for the model.

        ``patient``: wait for a GPU asleep, which costs some 50 us and frees a core.
        """
        self.check_open()
        with self._turns:
            (result,) = self.compute([self.open(source, options)], options, patient)
        if isinstance(result, BirefnetError):
            raise result
        return result

    def open(self, source: Source, options: Options) -> Opened:
        """Decode ``source`` and bring it to where a slot takes it from."""
        self.check_open()
        self.check(options)
        start = time.perf_counter()
        if is_device_array(source):
            return self._open_borrowed(source, options)
        keep = Keep.of(options)
        frame = decode(cast(PictureSource, source), options.max_pixels, self._backend.empty, keep)
        frame = shrink(frame, options.shrink)
        staged = self._backend.stage(frame)
        label = Label(frame.source, frame.metadata)
        return Opened(label, frame.size, staged, time.perf_counter() - start, frame)

    def _open_borrowed(self, source: Any, options: Options) -> Opened:
        if options.shrink is not None:
            raise OptionError("shrink is for pictures in host memory: scale it down on the GPU")
        picture = self._backend.borrow(source)
        check_size(NAME, *picture.size[::-1], options.max_pixels)
        staged = self._backend.stage_borrowed(picture)
        return Opened(Label(NAME, Metadata()), picture.size, staged, 0.0)

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
        self.check_open()
        edges.check_one_pass(options, self._backend.contract)
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

        After ``patience`` seconds without an end everything is left as it is; None waits. In a
        child of the process that opened it nothing is done: what is here belongs to the parent.
        """
        if self._process != os.getpid():
            return
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
        run = Run.begin(group, options, self._backend.contract)
        with self._abandoning(slot):
            answer = self._to_answer(slot, run.first(), run.timings)
            if run.is_one_pass:
                self._refine(slot, answer, run, patient)
            else:
                self._look_again(slot, answer, run, patient)
        return run.results()

    def _refine(self, slot: Any, answer: Any, run: Run, patient: bool) -> None:
        """The fast path, for the pictures of a run that need nothing else."""
        waiting = [job.result is None and run.is_fast(job) for job in run.jobs]
        if not any(waiting):
            return
        staged = [
            job.one.staged if wanted else None
            for job, wanted in zip(run.jobs, waiting, strict=True)
        ]
        with _timed(run.timings, "refine"):
            found = self._backend.refine(slot, answer, staged, run.options, patient)
        for job, wanted, result in zip(run.jobs, waiting, found, strict=True):
            if wanted:
                job.result = result

    def _look_again(self, slot: Any, answer: Any, run: Run, patient: bool) -> None:
        """Decide after the first pass, cut out what it is enough for, then the other pictures."""
        run.decide(self._backend.answers(slot, answer, len(run.jobs)))
        self._refine(slot, answer, run, patient)
        waiting = [job for job in run.jobs if job.result is None]
        self._pass_again(slot, [(job, view) for job in waiting for view in job.views], run.timings)
        for job in waiting:
            with _timed(run.timings, "refine"):
                job.result = self._finish(slot, job, run.options)

    def _pass_again(
        self, slot: Any, views: list[tuple[Job, View]], timings: dict[str, float]
    ) -> None:
        """Further passes of all pictures of a run, as many rows at once as the model takes."""
        for start in range(0, len(views), self.batch):
            part = views[start : start + self.batch]
            rows = [(job.one.staged, view) for job, view in part]
            answer = self._to_answer(slot, rows, timings)
            found = self._backend.answers(slot, answer, len(part))
            for (job, _), result in zip(part, found, strict=True):
                job.answers.append(result)

    def _finish(self, slot: Any, job: Job, options: Options) -> Rendered | BirefnetError:
        """One picture's alpha on the host, and its cut-out on the device."""
        frame = job.one.frame
        if frame is None:
            frame = self._backend.fetch(slot, job.one.staged)
        try:
            alpha = job.render(frame, options)
        except ModelError as error:
            return error
        return self._backend.finish(slot, job.one.staged, alpha, options)

    def _steps_on_device(self, slot: Any, one: Opened, options: Options) -> DeviceCutout:
        timings = {"decode": one.seconds}
        with self._abandoning(slot):
            self._to_answer(slot, [(one.staged, None)], timings)
            image = self._backend.refine_on_device(slot, one.staged, options)
        seconds = {**timings, **image.seconds}
        return DeviceCutout(image.shape, image.ordinal, image.lease, one.label.source, seconds)

    def _to_answer(
        self, slot: Any, rows: Sequence[tuple[Any, View | None]], timings: dict[str, float]
    ) -> Any:
        """One run: of each row the staged picture, and what it sees of it."""
        backend = self._backend
        backend.begin(slot)
        with _timed(timings, "preprocess"):
            for index, (picture, view) in enumerate(rows):
                backend.preprocess(slot, index, picture, view)
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


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = timings.get(name, 0.0) + time.perf_counter() - start
