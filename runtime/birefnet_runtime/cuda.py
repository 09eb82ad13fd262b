"""The steps on a GPU: kernels round an engine, on two slots whose copies and work overlap."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import device_array, launches
from birefnet_runtime.device_array import DevicePicture
from birefnet_runtime.device_cutout import DeviceImage
from birefnet_runtime.errors import DeviceError, LostDeviceError, ModelError, OutOfMemoryError
from birefnet_runtime.frame import Bytes, Floats, Frame, Rendered
from birefnet_runtime.gpu import Block, Device, Event, HostBlock
from birefnet_runtime.launches import Picture, Plane
from birefnet_runtime.options import Options
from birefnet_runtime.pool import Pool, borrow
from birefnet_runtime.preprocess import table
from birefnet_runtime.slot import DeviceSlot, Engine, Fixed, Staged
from birefnet_runtime.tables import Tables

SLOTS = 2
# Page-locked memory for pictures on their way in and out, results in the caller's hands included:
# ten of 12 megapixels. Beyond it ordinary memory serves, and copies wait for the host.
PINNED_LIMIT = 1 << 30
# Decoding and encoding keep up with the GPU on about this many cores; each holds a picture.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Settings:
    """How a GPU is used. ``stream``: a CUDA stream handle of the caller's, or None.

    ``graphs``: capture the engine's work once and replay it. ``workers``: threads that decode and
    finish pictures of a stream, None for one per core. ``slots``: runs that overlap.
    """

    graphs: bool = True
    stream: int | None = None
    workers: int | None = None
    slots: int = SLOTS


@dataclass(eq=False)
class _Output:
    """Where one picture's result comes down to: host arrays, or a lease on the GPU."""

    image: Bytes
    plane: Bytes | None = None
    foreground: Bytes | None = None


class CudaBackend:
    """Runs an engine on the GPU; see ``pipeline.Backend``. It owns the engine from here on.

    Every slot has a stream of its own that does not wait for the default stream. Engines take
    turns, so that one does not slow down the other; copies and kernels of different slots overlap
    with them.
    """

    def __init__(
        self,
        device: Device,
        engine: Engine,
        kernels: bytes,
        contract: Contract,
        name: str,
        settings: Settings | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        """``kernels``: a cubin or PTX. ``name``: what ``device`` says. ``remarks``: for ``notes``.

        OutOfMemoryError or DeviceError where something cannot be made: nothing is left then, the
        engine is closed too.
        """
        self._gpu, self._engine, self.contract = device, engine, contract
        self.device, self._settings = name, settings or Settings()
        self._remarks, self.batch = remarks, engine.batch
        self.workers = _workers(self._settings)
        self._turn = threading.Lock()
        self._last: Event | None = None
        self._lost: str | None = None
        with device.active(), ExitStack() as stack:
            stack.callback(engine.close)
            self._open_pools(device, stack)
            self._open_fixed(kernels, stack)
            self._slots = [self._open_slot(stack) for _ in range(self._settings.slots)]
            self._stack = stack.pop_all()

    def _open_pools(self, device: Device, stack: ExitStack) -> None:
        total = device.memory()[1]
        self._pinned: Pool[HostBlock] = Pool(device, device.allocate_host, PINNED_LIMIT)
        stack.callback(self._pinned.close)
        self._results: Pool[Block] = Pool(device, device.allocate, total)
        stack.callback(self._results.close)
        self._tables = Tables(self._engine.size, self._pinned)
        stack.callback(self._tables.close)

    def _open_fixed(self, kernels: bytes, stack: ExitStack) -> None:
        device = self._gpu
        levels = table(self.contract)
        block = device.allocate(levels.nbytes)
        stack.callback(block.free)
        # Orders foreign arrays before slots; otherwise empty.
        self._entry = device.open_stream()
        device.upload(block.pointer, levels, self._entry)
        device.finish(self._entry)
        module = device.load(kernels)
        self._fixed = Fixed(device, self._engine, module, block.pointer, self.contract.activation)

    def _open_slot(self, stack: ExitStack) -> DeviceSlot:
        slot = DeviceSlot.open(self._fixed, self._settings.graphs)
        stack.callback(slot.close)
        return slot

    @property
    def notes(self) -> str:
        """The GPU, the batch, whether runs are replayed from a captured graph, and remarks."""
        graph = "CUDA graph" if self.has_graphs else "no CUDA graph"
        return ", ".join((self._gpu.name, f"batch {self.batch}", graph, *self._remarks))

    @property
    def has_graphs(self) -> bool:
        """Whether every slot replays a captured graph."""
        return all(slot.graph is not None for slot in self._slots)

    @property
    def context_bytes(self) -> int:
        """Device memory of one slot's execution context; a second slot costs this once more."""
        return self._engine.memory

    def open_slots(self) -> list[DeviceSlot]:
        return self._slots

    def empty(self, shape: tuple[int, ...]) -> Bytes:
        """Page-locked memory from the pool; ordinary memory where the pool is spent."""
        with self._working():
            return borrow(self._pinned, int(np.prod(shape))).reshape(shape)

    def stage(self, frame: Frame) -> Staged:
        """Copy a decoded picture into page-locked memory, if it is not there already and there is
        some left, and look up its resize tables."""
        with self._working():
            own = None if frame.alpha is None else self._lock_pages(frame.alpha)
            pixels = self._lock_pages(frame.rgb)
            return Staged(frame.size, pixels, own, self._tables.get(frame.size), frame.rgb)

    def borrow(self, source: Any) -> DevicePicture:
        """The picture in a foreign array, from where it lies."""
        with self._working():
            return device_array.borrow(source, self._gpu, self._entry.handle)

    def stage_borrowed(self, picture: DevicePicture) -> Staged:
        """Look up the resize tables; the pixels stay where they are."""
        with self._working():
            pixels, tables = picture.picture, self._tables.get(picture.size)
            own = Plane.inside(pixels) if pixels.channels == 4 else None
            return Staged(picture.size, pixels, own, tables, picture.owner)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """The GPU, active. Once it is lost every picture ends here."""
        if self._lost is not None:
            raise LostDeviceError(self._lost)
        try:
            with self._gpu.active():
                yield
        except LostDeviceError as error:
            self._lost = str(error)
            raise

    def _lock_pages(self, pixels: Bytes) -> Bytes:
        """A page-locked copy; the pixels themselves where they are, or the pool is spent."""
        if pixels.flags.c_contiguous and self._gpu.is_page_locked(pixels):
            return pixels
        lease = self._pinned.take(pixels.nbytes)
        if lease is None:
            return np.ascontiguousarray(pixels)
        locked = np.asarray(lease).reshape(pixels.shape)
        np.copyto(locked, pixels)
        return locked

    def begin(self, slot: DeviceSlot) -> None:
        with self._working():
            slot.begin(self._settings.stream, self._entry.handle)

    def preprocess(self, slot: DeviceSlot, index: int, staged: Staged) -> None:
        """Queue upload and resize of a picture into row ``index``."""
        with self._working():
            slot.load(index, staged)

    def infer(self, slot: DeviceSlot) -> None:
        """Queue the engine, behind the other slots' engines."""
        with self._working(), self._turn:
            slot.run(self._last)
            self._last = slot.marks.computed

    def refine(
        self, slot: DeviceSlot, answer: None, staged: list[Staged], options: Options, patient: bool
    ) -> list[Rendered | ModelError]:
        """Queue cut-outs and downloads, and wait for them; ModelError in place of an answer that is
        not finite."""
        with self._working():
            slot.activate(len(staged))
            outputs = [self._cut(slot, *item, options) for item in enumerate(staged)]
            seconds = slot.wait(patient)
        return [
            self._result(slot, index, item, output, seconds)
            for index, (item, output) in enumerate(zip(staged, outputs, strict=True))
        ]

    def refine_on_device(self, slot: DeviceSlot, staged: Staged, options: Options) -> DeviceImage:
        """The image of row 0, complete, in memory lent from the pool of results."""
        mode, colour = _mode(options)
        shape = _shape(staged.size, mode)
        with self._working():
            slot.activate(1)
            lease = self._results.take(int(np.prod(shape)))
            if lease is None:
                raise OutOfMemoryError("the GPU's memory is full: let go of results on it")
            slot.cut(0, mode, colour, lease.block.pointer)
            seconds = slot.wait(patient=False)
        if slot.flags[0]:
            raise self._not_finite()
        return DeviceImage(shape, self._gpu.ordinal, lease, seconds)

    def alphas(self, slot: DeviceSlot, count: int) -> tuple[Floats, bool]:
        """float32 [count,h,w], the alpha of the first rows at the model's own size, and whether all
        answers were finite."""
        with self._working():
            slot.activate(count)
            target = np.empty((count, *self._engine.answer), np.float32)
            self._gpu.download(target, slot.alpha(0), slot.stream)
            slot.wait(patient=False)
        return target, not slot.flags[:count].any()

    def seconds(self, slot: DeviceSlot) -> dict[str, float]:
        """Wait for a run without results; its seconds by step."""
        with self._working():
            return slot.wait(patient=False)

    def _cut(self, slot: DeviceSlot, index: int, staged: Staged, options: Options) -> _Output:
        mode, colour = _mode(options)
        height, width = staged.size
        row, pixels = slot.rows[index], height * width
        image = row.image.at_least(pixels * launches.CHANNELS[mode])
        plane = row.plane.at_least(pixels) if mode == launches.COLOUR else 0
        slot.cut(index, mode, colour, image, plane)
        output = _Output(self._bring(slot, image, _shape(staged.size, mode)))
        if plane:
            output.plane = self._bring(slot, plane, staged.size)
        if isinstance(staged.pixels, Picture):
            output.foreground = self._bring_pixels(slot, staged.pixels)
        return output

    def _bring(self, slot: DeviceSlot, pointer: int, shape: tuple[int, ...]) -> Bytes:
        """Queue a download into memory of the result's own."""
        target = self.empty(shape)
        self._gpu.download(target, pointer, slot.stream)
        return target

    def _bring_pixels(self, slot: DeviceSlot, picture: Picture) -> Bytes:
        """Queue the download of a foreign picture, gaps between its rows included."""
        dense = picture.width * picture.channels
        whole = self._bring(slot, picture.pointer, ((picture.height - 1) * picture.pitch + dense,))
        shape = (picture.height, picture.width, picture.channels)
        return np.ndarray(shape, np.uint8, whole, strides=(picture.pitch, picture.channels, 1))

    def _result(
        self,
        slot: DeviceSlot,
        index: int,
        staged: Staged,
        output: _Output,
        seconds: dict[str, float],
    ) -> Rendered | ModelError:
        if slot.flags[index]:
            return self._not_finite()
        if output.foreground is not None:
            foreground = np.ascontiguousarray(output.foreground[..., :3])
        else:
            foreground = staged.source
        image = output.image
        if image.ndim == 2:
            return Rendered(foreground, image, None, seconds)
        alpha = image[..., 3] if output.plane is None else output.plane
        return Rendered(foreground, alpha, image, seconds)

    def _not_finite(self) -> ModelError:
        return ModelError(
            f"output {self.contract.output} is not finite: the model overflows; build it with "
            "birefnet-build MODEL --precision fp32"
        )

    def abandon(self, slot: DeviceSlot) -> None:
        """After a failure: wait until the slot is idle."""
        with suppress(DeviceError), self._gpu.active():
            slot.abandon()

    def relieve(self, slot: DeviceSlot) -> None:
        """Give back what an idle slot and the pools hold and do not need."""
        with self._gpu.active():
            slot.shrink()
            self._results.trim()
            self._pinned.trim()

    def close(self, slots: list[Any]) -> None:
        """Free everything on the GPU, whatever of it fails. The slots are idle."""
        with suppress(DeviceError), self._gpu.active():
            self._stack.close()


def _mode(options: Options) -> tuple[int, int]:
    """What the kernel writes, and the colour behind it as 0xRRGGBB."""
    if options.output == "alpha":
        return launches.MASK, 0
    if options.colour is None:
        return launches.RGBA, 0
    red, green, blue = options.colour
    return launches.COLOUR, red << 16 | green << 8 | blue


def _shape(size: tuple[int, int], mode: int) -> tuple[int, ...]:
    return size if mode == launches.MASK else (*size, launches.CHANNELS[mode])


def _workers(settings: Settings) -> int:
    wanted = settings.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    return max(wanted, settings.slots)
