"""Everything on the GPU that the pictures of one run need: memory, a stream, events, an engine's
execution context and its captured graph."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import launches
from birefnet_runtime.errors import (
    BirefnetError,
    DeviceError,
    LostDeviceError,
    OutOfMemoryError,
    one_line,
)
from birefnet_runtime.frame import Bytes, View
from birefnet_runtime.gpu import Device, Event, Graph, Kernels, Stream
from birefnet_runtime.launches import Launch, Picture, Plane, Table
from birefnet_runtime.levels import Pyramid
from birefnet_runtime.look import Look
from birefnet_runtime.room import Room
from birefnet_runtime.tables import Packed

LOG = logging.getLogger("birefnet_runtime")
_FLOAT, _INT = 4, 4


class Bound(Protocol):
    """An engine's execution context, on fixed addresses and used on one stream only."""

    def enqueue(self, stream: Stream) -> None:
        """Queue one run on ``stream``; returns at once."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """A network on the GPU: float32 [batch,3,*size] to float32 [batch,1,*answer].

    ``capturable``: its work may be captured into a graph. ``memory``: bytes of device memory that
    each context takes, 0 where that is not known.
    """

    @property
    def batch(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def answer(self) -> tuple[int, int]: ...

    @property
    def capturable(self) -> bool: ...

    @property
    def memory(self) -> int: ...

    def bind(self, image: int, answer: int, stream: Stream) -> Bound: ...

    def close(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Fixed:
    """What all slots share. ``levels`` points to float32 [3,256] on the GPU: the normalised value
    of each level of each channel."""

    device: Device
    engine: Engine
    kernels: Kernels
    levels: int
    activation: str


@dataclass(frozen=True, eq=False)
class Staged:
    """A picture ready for a slot.

    ``pixels``: host memory, uint8 [H,W,3], page-locked where there was some, or a picture on the
    GPU. ``own``: its alpha, uint8 [H,W], a plane on the GPU, or None. ``tables``: see ``Tables``.
    ``source``: the caller's own pixels on the host, or what keeps a picture on the GPU alive.
    """

    size: tuple[int, int]
    pixels: Bytes | Picture
    own: Bytes | Plane | None
    tables: Packed
    source: Any


@dataclass(eq=False)
class Row:
    """The memory of one picture of a run, and where the picture in it is.

    ``held``: whose pixels are in ``pixels``, perhaps from a run before. ``source``: whose the row
    is in this run; its ``picture`` may lie in another row's memory.
    """

    pixels: Room
    own: Room
    tables: Room
    image: Room
    plane: Room
    colours: Room
    picture: Picture | None = None
    own_plane: Plane | None = None
    loaded_tables: Packed | None = None
    held: weakref.ref[Staged] | None = None
    source: weakref.ref[Staged] | None = None

    @classmethod
    def create(cls, device: Device, stack: ExitStack) -> Row:
        rooms = [Room(device) for _ in range(6)]
        for room in rooms:
            stack.callback(room.free)
        pixels, own, tables, image, plane, colours = rooms
        return cls(pixels, own, tables, image, plane, colours)

    @property
    def rooms(self) -> tuple[Room, ...]:
        return (self.pixels, self.own, self.tables, self.image, self.plane, self.colours)

    def forget(self) -> None:
        """What the memory held is there no longer."""
        self.loaded_tables = self.held = self.source = None


@dataclass(eq=False)
class Marks:
    """Events of one run, in their order in the stream."""

    begun: Event
    loaded: Event
    ready: Event
    computed: Event
    done: Event

    def seconds(self, device: Device) -> dict[str, float]:
        """Seconds on the GPU by step; ``wait`` is for the run of another slot to end."""
        marks = (self.begun, self.loaded, self.ready, self.computed, self.done)
        names = ("preprocess", "wait", "model", "refine")
        pairs = pairwise(marks)
        return {name: device.elapsed(*pair) for name, pair in zip(names, pairs, strict=True)}


@dataclass(eq=False)
class DeviceSlot:
    """Owns what one run needs on the GPU. One thread uses it at a time, on its one stream.

    A picture's size only decides how large the rooms of its row are and how the kernels round the
    engine are launched; the engine's part has fixed addresses and is captured once. ``spent``:
    seconds on the GPU by step of the passes so far; the first after ``is_over`` was set starts
    anew.
    """

    fixed: Fixed
    stream: Stream
    marks: Marks
    rows: list[Row]
    strip: Room
    pyramid: Room
    tensor: int
    answer: int
    bad: int
    flags: NDArray[np.int32]
    bound: Bound
    graph: Graph | None = None
    activated: int = 0
    spent: dict[str, float] = field(default_factory=dict)
    is_over: bool = False
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def open(cls, fixed: Fixed, graphs: bool) -> DeviceSlot:
        """A slot, warmed up; OutOfMemoryError or DeviceError, and then nothing is left behind."""
        with ExitStack() as stack:
            slot = _build(fixed, stack)
            slot.warm_up(graphs)
            slot._stack = stack.pop_all()
            return slot

    def warm_up(self, graphs: bool) -> None:
        """Run the engine once, which lets it load its kernels, then capture it.

        An engine that cannot be captured runs all the same, and slower: a warning says why.
        """
        device = self.fixed.device
        self.bound.enqueue(self.stream)
        device.finish(self.stream)
        if not (graphs and self.fixed.engine.capturable):
            return
        try:
            self.graph = device.capture(self.stream, lambda: self.bound.enqueue(self.stream))
        except (OutOfMemoryError, LostDeviceError):
            raise
        except BirefnetError as error:
            LOG.warning("no CUDA graph: %s", one_line(error))

    def begin(self, *after: int | None) -> None:
        """Start a run; ``after`` are foreign streams whose work so far must be done first."""
        if self.is_over:
            self.spent, self.is_over = {}, False
        for handle in after:
            if handle is not None:
                self.fixed.device.order(handle, self.stream.handle)
        self.fixed.device.record(self.marks.begun, self.stream)

    def load(self, index: int, staged: Staged, tables: Packed, view: View | None = None) -> None:
        """Queue the way of a picture, or what a view sees of it, into row ``index`` of the tensor.

        ``tables``: for the picture's size, or the view's.
        """
        row, device = self.rows[index], self.fixed.device
        row.picture, row.source = self._picture(index, staged), weakref.ref(staged)
        row.own_plane = self._own(row, staged) if view is None else None
        height, width = self.fixed.engine.size
        plane, seen = self.tensor + index * 3 * height * width * _FLOAT, row.picture
        if view is not None:
            if view.inner.size != (height, width):
                device.fill(plane, 0, 3 * height * width * _FLOAT, self.stream)
            seen = seen.part(view.box)
            plane += (view.inner.top * width + view.inner.left) * _FLOAT
        columns, rows = self._tables(row, tables)
        strip = self.strip.at_least(seen.height * columns.size * 3)
        levels, whole = self.fixed.levels, height * width
        self._launch(
            launches.resize_rows(seen, columns, strip),
            launches.resize_columns(strip, columns.size, rows, levels, plane, width, whole),
        )

    def run(self, after: Event | None) -> None:
        """Queue the engine, behind the event ``after`` of another slot, and the activation."""
        device, marks = self.fixed.device, self.marks
        self.activated = 0
        device.record(marks.loaded, self.stream)
        if after is not None:
            device.wait(self.stream, after)
        device.record(marks.ready, self.stream)
        if self.graph is not None:
            self.graph.launch(self.stream)
        else:
            self.bound.enqueue(self.stream)
        device.record(marks.computed, self.stream)

    def activate(self, count: int) -> None:
        """Queue the activation of the first ``count`` rows, but those that a call before this one
        has done in this run, and the way of their flags back."""
        device, done = self.fixed.device, self.activated
        if not done:
            device.fill(self.bad, 0, len(self.rows) * _INT, self.stream)
        for index in range(done, count):
            values = self.alpha(index)
            pixels, bad = self._pixels(), self.bad + index * _INT
            self._launch(launches.activate(values, pixels, self.fixed.activation, values, bad))
        self.activated = max(done, count)
        device.download(self.flags, self.bad, self.stream)

    def alpha(self, index: int) -> int:
        """Where row ``index`` of the answer lies, and after ``activate`` its alpha: float32."""
        return self.answer + index * self._pixels() * _FLOAT

    def cut(self, index: int, mode: int, colour: int, image: int, plane: int = 0) -> None:
        """Queue the cut-out of row ``index`` into ``image`` and ``plane`` (see ``launches``)."""
        row = self.rows[index]
        assert row.picture is not None
        self._launch(
            launches.cutout(
                self.alpha(index),
                self.fixed.engine.answer,
                row.picture,
                image,
                own=row.own_plane,
                mode=mode,
                colour=colour,
                plane=plane,
            )
        )

    def reserve(self, sizes: list[tuple[int, int]]) -> None:
        """Make room for the pyramids of pictures of these sizes, which are made one by one. Asked
        before any of them is queued: a room must not grow while it is used."""
        if sizes:
            self.pyramid.at_least(max(Pyramid.of(size).nbytes for size in sizes))

    def paint(self, index: int, look: Look, plane: int, image: int, colours: int = 0) -> None:
        """Queue the image of row ``index`` into ``image``, by ``plane``, uint8 [H,W] on the GPU;
        and the colours alone into ``colours``, where that is not 0."""
        picture, before = self.rows[index].picture, None
        assert picture is not None
        if look.estimated:
            pyramid = Pyramid.of((picture.height, picture.width))
            memory = self.pyramid.at_least(pyramid.nbytes)
            levels, before = pyramid.launch(picture, plane, memory)
            self._launch(*levels)
        self._launch(
            launches.colours_image(
                picture, plane, before, image, look.mode, look.colour, only=colours
            )
        )

    def find(self, staged: Staged) -> int:
        """A row that has the picture in its memory; row 0, to which it goes up, where none does."""
        holders = (index for index, row in enumerate(self.rows) if _is(row.held, staged))
        index = next(holders, 0)
        row = self.rows[index]
        row.picture, row.source = self._upload(row, staged), weakref.ref(staged)
        return index

    def wait(self, patient: bool) -> dict[str, float]:
        """Wait for the run; its seconds by step. ``patient``: sleep instead of spinning."""
        device = self.fixed.device
        device.record(self.marks.done, self.stream)
        if patient:
            device.synchronize(self.marks.done)
        else:
            device.finish(self.stream)
        return self.marks.seconds(device)

    def count(self) -> None:
        """Add the seconds of a pass that was waited for to ``spent``; what follows is no part."""
        for name, seconds in self.marks.seconds(self.fixed.device).items():
            if name != "refine":
                self.spent[name] = self.spent.get(name, 0.0) + seconds

    def abandon(self) -> None:
        """After a failure: let what was queued end, so that the next picture finds idle memory."""
        self.is_over = True
        for row in self.rows:
            row.forget()
        with suppress(DeviceError):
            self.fixed.device.finish(self.stream)

    def shrink(self) -> None:
        """Give the memory of pictures back; the next ones allocate it anew."""
        for room in self._rooms():
            room.free()
        for row in self.rows:
            row.forget()

    def close(self) -> None:
        """Free everything, whatever of it fails. The slot is idle."""
        for row in self.rows:
            row.forget()
        if self.graph is not None:
            with suppress(DeviceError):
                self.graph.free()
        with suppress(DeviceError):
            self._stack.close()

    def _rooms(self) -> list[Room]:
        return [self.strip, self.pyramid, *(room for row in self.rows for room in row.rooms)]

    def _launch(self, *found: Launch) -> None:
        for launch in found:
            self.fixed.device.launch(self.fixed.kernels, launch, self.stream)

    def _pixels(self) -> int:
        height, width = self.fixed.engine.answer
        return height * width

    def _picture(self, index: int, staged: Staged) -> Picture:
        """The picture on the GPU, for row ``index``: a row that was loaded before it in this run
        may have it."""
        for row in self.rows[:index]:
            if _is(row.source, staged) and row.picture is not None:
                return row.picture
        return self._upload(self.rows[index], staged)

    def _upload(self, row: Row, staged: Staged) -> Picture:
        """The picture in the row's memory, to which it goes up unless it is there."""
        if isinstance(staged.pixels, Picture):
            return staged.pixels
        if not _is(row.held, staged):
            row.held = None
            pointer = row.pixels.at_least(staged.pixels.nbytes)
            self.fixed.device.upload(pointer, staged.pixels, self.stream)
            row.held = weakref.ref(staged)
        return Picture(row.pixels.at_least(0), *staged.size)

    def _own(self, row: Row, staged: Staged) -> Plane | None:
        if staged.own is None or isinstance(staged.own, Plane):
            return staged.own
        pointer = row.own.at_least(staged.own.nbytes)
        self.fixed.device.upload(pointer, staged.own, self.stream)
        return Plane(pointer, staged.size[1])

    def _tables(self, row: Row, packed: Packed) -> tuple[Table, Table]:
        """The tables in device memory; those of the picture before, if it had the same size."""
        if row.loaded_tables is not packed:
            row.loaded_tables = None
            pointer = row.tables.at_least(packed.memory.nbytes)
            self.fixed.device.upload(pointer, packed.memory, self.stream)
            row.loaded_tables = packed
        return packed.at(row.tables.at_least(0))


def _is(reference: weakref.ref[Staged] | None, staged: Staged) -> bool:
    return reference is not None and reference() is staged


def _build(fixed: Fixed, stack: ExitStack) -> DeviceSlot:
    """A cold slot, whose memory ``stack`` frees."""
    device, engine = fixed.device, fixed.engine
    height, width = engine.size
    stream = device.open_stream()
    events = [device.open_event() for _ in range(5)]

    def allocate(make: Callable[[int], Any], size: int) -> Any:
        block = make(size)
        stack.callback(block.free)
        return block

    tensor = allocate(device.allocate, engine.batch * 3 * height * width * _FLOAT)
    answer = allocate(device.allocate, engine.batch * engine.answer[0] * engine.answer[1] * _FLOAT)
    bad = allocate(device.allocate, engine.batch * _INT)
    flags = allocate(device.allocate_host, engine.batch * _INT)
    # The rows of a group that is not full are computed too: from zeros, not from what lay there.
    device.fill(tensor.pointer, 0, tensor.size, stream)
    strip, pyramid = Room(device), Room(device)
    stack.callback(strip.free)
    stack.callback(pyramid.free)
    rows = [Row.create(device, stack) for _ in range(engine.batch)]
    bound = engine.bind(tensor.pointer, answer.pointer, stream)
    stack.callback(bound.close)
    return DeviceSlot(
        fixed,
        stream,
        Marks(*events),
        rows,
        strip,
        pyramid,
        tensor.pointer,
        answer.pointer,
        bad.pointer,
        flags.array.view(np.int32),
        bound,
    )
