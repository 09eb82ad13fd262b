"""The steps on a GPU: kernels round an engine, on two slots whose copies and work overlap."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import device_array, foreground, launches
from birefnet_runtime.device_array import DevicePicture
from birefnet_runtime.device_cutout import DeviceImage
from birefnet_runtime.errors import DeviceError, LostDeviceError, ModelError, OutOfMemoryError
from birefnet_runtime.frame import Bytes, Floats, Frame, Rendered, View
from birefnet_runtime.gpu import Block, Device, Event, HostBlock
from birefnet_runtime.launches import Picture, Plane
from birefnet_runtime.look import Look, on_device
from birefnet_runtime.options import Options
from birefnet_runtime.pool import Pool, borrow
from birefnet_runtime.preprocess import table
from birefnet_runtime.slot import DeviceSlot, Engine, Fixed, Staged
from birefnet_runtime.tables import Tables

SLOTS = 2
# Page-locked memory for pictures on their way in and out, results in the caller's hands included:
# eight of 12 megapixels, each 3 bytes a pixel in, 4 out and 3 more for the foreground. Beyond it
# ordinary memory serves, and copies wait for the host.
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
    """Where one picture's result comes down to. ``image`` and ``colours`` are the look's, ``plane``
    is alpha where the image does not tell it, ``source`` the pixels of a foreign picture."""

    image: Bytes
    plane: Bytes | None = None
    colours: Bytes | None = None
    source: Bytes | None = None


class CudaBackend:
    """Runs an engine on the GPU; see ``pipeline.Backend``. It owns the engine from here on.

    Every slot has a stream of its own that does not wait for the default stream. Engines take
    turns, so that one does not slow down the other; copies and kernels of different slots overlap
    with them. Colours by ``ml`` and plain backgrounds are the kernels' work; ``blur``, despill and
    other backgrounds are the host's, with the mask that the kernels made (see ``look``).
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

    @property
    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU; DeviceError."""
        with self._gpu.active():
            return self._gpu.memory()

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

    def preprocess(
        self, slot: DeviceSlot, index: int, staged: Staged, view: View | None = None
    ) -> None:
        """Queue upload and resize of a picture, or of what ``view`` sees of it, into row ``index``.

        A picture that the slot has already does not go up again.
        """
        with self._working():
            tables = staged.tables
            if view is not None:
                tables = self._tables.get(view.box.size, view.inner.size)
            slot.load(index, staged, tables, view)

    def infer(self, slot: DeviceSlot) -> None:
        """Queue the engine, behind the other slots' engines."""
        with self._working(), self._turn:
            slot.run(self._last)
            self._last = slot.marks.computed

    def answers(self, slot: DeviceSlot, answer: None, count: int) -> list[Floats | ModelError]:
        """Wait; alpha of the first rows, float32 [h,w], or ModelError where one is not finite."""
        alphas, _ = self.alphas(slot, count)
        with self._working():
            slot.count()
        return [
            self._not_finite() if bad else alpha
            for alpha, bad in zip(alphas, slot.flags[:count], strict=True)
        ]

    def fetch(self, slot: DeviceSlot, staged: Staged) -> Frame:
        """A foreign picture, copied to the host; its memory is lent as a result's is."""
        assert isinstance(staged.pixels, Picture)
        with self._working():
            pixels = self._bring_pixels(slot, staged.pixels)
            self._gpu.finish(slot.stream)
        own = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
        return Frame(np.ascontiguousarray(pixels[..., :3]), own, device_array.NAME)

    def refine(
        self,
        slot: DeviceSlot,
        answer: None,
        staged: Sequence[Staged | None],
        options: Options,
        patient: bool,
    ) -> list[Rendered | ModelError | None]:
        """Queue cut-outs, colours and downloads, and wait for them; ModelError in place of an
        answer that is not finite, None in place of a picture that is left out."""
        look = Look.of(options)
        outputs: list[_Output | None] = []
        with self._working():
            slot.activate(len(staged))
            if look.estimated:
                slot.reserve([item.size for item in staged if item is not None])
            for index, item in enumerate(staged):
                outputs.append(None if item is None else self._cut(slot, index, item, look))
            seconds = slot.wait(patient)
        # Where some are left out they are looked at again.
        slot.is_over = None not in staged
        results: list[Rendered | ModelError | None] = []
        for index, (item, output) in enumerate(zip(staged, outputs, strict=True)):
            if item is None or output is None:
                results.append(None)
            elif slot.flags[index]:
                results.append(self._not_finite())
            else:
                results.append(_rendered(item, output, look, options, seconds))
        return results

    def finish(self, slot: DeviceSlot, staged: Staged, alpha: Bytes, options: Options) -> Rendered:
        """``alpha`` goes up; colours and image are made as ``refine`` makes them. The seconds are
        those of every pass that was waited for by ``answers``."""
        look = Look.of(options)
        with self._working():
            if look.mode == launches.MASK:
                output = _Output(alpha)
                self._bring_source(slot, staged, look, output)
            else:
                index = slot.find(staged)
                plane = slot.rows[index].plane.at_least(alpha.nbytes)
                dense = np.ascontiguousarray(alpha)
                self._gpu.upload(plane, dense, slot.stream)
                if look.estimated:
                    slot.reserve([staged.size])
                output = self._paint(slot, index, staged, look, plane)
            self._gpu.finish(slot.stream)
        output.plane, slot.is_over = alpha, True
        return _rendered(staged, output, look, options, dict(slot.spent))

    def refine_on_device(self, slot: DeviceSlot, staged: Staged, options: Options) -> DeviceImage:
        """The image of row 0, complete, in memory lent from the pool of results; OptionError for
        what the kernels cannot make."""
        look = on_device(options)
        shape = _shape(staged.size, look.mode)
        with self._working():
            slot.activate(1)
            lease = self._results.take(int(np.prod(shape)))
            if lease is None:
                raise OutOfMemoryError("the GPU's memory is full: let go of results on it")
            if look.is_direct:
                slot.cut(0, look.mode, look.colour, lease.block.pointer)
            else:
                slot.paint(0, look, self._plane(slot, 0, staged), lease.block.pointer)
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

    def _cut(self, slot: DeviceSlot, index: int, staged: Staged, look: Look) -> _Output:
        """Queue the result of row ``index``."""
        if not look.is_direct:
            plane = self._plane(slot, index, staged)
            output = self._paint(slot, index, staged, look, plane)
            if not look.has_alpha:
                output.plane = self._bring(slot, plane, staged.size)
            return output
        shape = _shape(staged.size, look.mode)
        row = slot.rows[index]
        image = row.image.at_least(int(np.prod(shape)))
        plane = 0 if look.has_alpha else row.plane.at_least(staged.size[0] * staged.size[1])
        slot.cut(index, look.mode, look.colour, image, plane)
        output = _Output(self._bring(slot, image, shape))
        if plane:
            output.plane = self._bring(slot, plane, staged.size)
        self._bring_source(slot, staged, look, output)
        return output

    def _plane(self, slot: DeviceSlot, index: int, staged: Staged) -> int:
        """Queue alpha of row ``index``, uint8 [H,W]; where it lies."""
        plane = slot.rows[index].plane.at_least(staged.size[0] * staged.size[1])
        slot.cut(index, launches.MASK, 0, plane)
        return plane

    def _paint(
        self, slot: DeviceSlot, index: int, staged: Staged, look: Look, plane: int
    ) -> _Output:
        """Queue the image of row ``index`` by ``plane``, and its way down."""
        row, shape = slot.rows[index], _shape(staged.size, look.mode)
        flat = _shape(staged.size, launches.COLOURS)
        image = row.image.at_least(int(np.prod(shape)))
        colours = row.colours.at_least(int(np.prod(flat))) if look.loses_colours else 0
        slot.paint(index, look, plane, image, colours)
        output = _Output(self._bring(slot, image, shape))
        if colours:
            output.colours = self._bring(slot, colours, flat)
        self._bring_source(slot, staged, look, output)
        return output

    def _bring_source(self, slot: DeviceSlot, staged: Staged, look: Look, output: _Output) -> None:
        """Queue the download of a foreign picture where its own colours are asked for."""
        if isinstance(staged.pixels, Picture) and not look.estimated:
            output.source = self._bring_pixels(slot, staged.pixels)

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


def _rendered(
    staged: Staged, output: _Output, look: Look, options: Options, seconds: dict[str, float]
) -> Rendered:
    """What came down, as a result; the host's share of the work is done here."""
    image, plane, own = output.image, output.plane, staged.source
    if output.source is not None:
        own = np.ascontiguousarray(output.source[..., :3])
    if look.mode == launches.MASK:
        if look.host:
            own = foreground.colours(own, image, options)
        return Rendered(own, image, None, seconds)
    if plane is None:
        plane = image[..., 3]
    if look.estimated:
        own = image[..., :3] if output.colours is None else output.colours
    kept = None if look.mode == launches.COLOURS else image
    return Rendered(own, plane, kept, seconds)


def _shape(size: tuple[int, int], mode: int) -> tuple[int, ...]:
    return size if mode == launches.MASK else (*size, launches.CHANNELS[mode])


def _workers(settings: Settings) -> int:
    wanted = settings.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    return max(wanted, settings.slots)
