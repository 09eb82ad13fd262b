"""Times of a plan on the GPU: the engine alone, and 12 megapixels all the way through."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import numpy as np

from birefnet_runtime.cuda import CudaBackend, Settings
from birefnet_runtime.frame import Floats, Frame
from birefnet_runtime.gpu import Device
from birefnet_runtime.options import Options
from birefnet_runtime.prove import Reference
from birefnet_runtime.slot import DeviceSlot, Engine, Staged
from gpu_stages.stage import Loaded, Run, StageError
from gpu_stages.timing import WIDTH, Times, timed
from helpers.pictures import noise

# Height x width of 12 megapixels, 4:3.
PICTURE = (3000, 4000)
MIB = 2**20


def open_slot(device: Device, loaded: Loaded) -> tuple[CudaBackend, DeviceSlot]:
    """The plan behind the kernels, in one slot; the device is active, the backend owns the plan."""
    backend = CudaBackend(
        device, loaded.engine, loaded.kernels, loaded.contract, "tensorrt", Settings(slots=1)
    )
    (slot,) = backend.open_slots()
    return backend, slot


def contexts(stage: Run, device: Device, engine: Engine) -> None:
    """Keep what the first and the second execution context cost in device memory, each after its
    first run, which lets it load its kernels. The device is active."""
    with ExitStack() as stack:
        height, width = engine.size
        sizes = (3 * height * width, int(np.prod(engine.answer)))
        blocks = [device.allocate(4 * engine.batch * size) for size in sizes]
        for block in blocks:
            stack.callback(block.free)
        stream = device.open_stream()
        device.fill(blocks[0].pointer, 0, blocks[0].size, stream)
        device.finish(stream)
        for which in ("first", "second"):
            before = device.memory()[0]
            stream = device.open_stream()
            bound = engine.bind(blocks[0].pointer, blocks[1].pointer, stream)
            stack.callback(bound.close)
            bound.enqueue(stream)
            device.finish(stream)
            taken = (before - device.memory()[0]) / MIB
            stage.record.add(f"memory of the {which} execution context", "MiB", "lower", [taken])
            stage.say(f"  {f'memory of the {which} execution context':<{WIDTH}}{taken:>12.1f}  MiB")
    stage.record.findings["context, as TensorRT says"] = f"{engine.memory / MIB:.1f} MiB"


def engine(
    stage: Run, device: Device, backend: CudaBackend, slot: DeviceSlot, image: Any, label: str
) -> Times:
    """Keep the engine's times, eager and by the captured graph; the graph's where there is one.

    ``image``, uint8 [H,W,3], is what it computes on: numbers, not zeros, which some GPUs multiply
    faster.
    """
    load(backend, slot, image)
    with device.active():
        slot.bound.enqueue(slot.stream)
        first = answer(device, backend, slot)
        eager = timed(device, slot.stream, lambda: slot.bound.enqueue(slot.stream), stage.effort)
        stage.keep(f"{label}, eager", eager)
        graph = slot.graph
        if graph is None:
            stage.record.missing[f"{label}, captured graph"] = (
                "cuda-bindings is not installed, or the engine cannot be captured"
            )
            return eager
        graph.launch(slot.stream)
        same = np.array_equal(first, answer(device, backend, slot))
        stage.record.findings[f"{label}: the graph gives the eager bits"] = same
        times = timed(device, slot.stream, lambda: graph.launch(slot.stream), stage.effort)
        stage.keep(f"{label}, captured graph", times)
    if not same:
        raise StageError(f"{label}: the captured graph gives other bits than the eager run")
    return times


def load(backend: CudaBackend, slot: DeviceSlot, image: Any) -> None:
    """Bring ``image`` into the engine's input and run it once."""
    staged = backend.stage(Frame(np.ascontiguousarray(image), None, "reference"))
    backend.begin(slot)
    backend.preprocess(slot, 0, staged)
    backend.infer(slot)
    backend.seconds(slot)


def answer(device: Device, backend: CudaBackend, slot: DeviceSlot) -> Floats:
    """What the engine just gave for row 0, float32; the device is active."""
    found = np.empty(slot.fixed.engine.answer, np.float32)
    device.download(found, slot.alpha(0), slot.stream)
    device.finish(slot.stream)
    return found


def path(stage: Run, backend: CudaBackend, slot: DeviceSlot) -> Times:
    """Keep the times from page-locked pixels of 12 megapixels to page-locked RGBA; return those
    that keep the picture's colours, for which the target was set.

    GPU time is that between the run's first and last event, copies included.
    """
    frame = Frame(noise(*PICTURE), None, "12 megapixels")
    staged = backend.stage(frame)
    if np.may_share_memory(staged.pixels, frame.rgb):
        raise StageError("no page-locked memory for 12 megapixels: end other programs")
    kept = through(stage, backend, slot, staged, Options(foreground="off"), "12 MP")
    through(stage, backend, slot, staged, Options(foreground="ml"), "12 MP, foreground ml")
    return kept


def through(
    stage: Run, backend: CudaBackend, slot: DeviceSlot, staged: Staged, options: Options, name: str
) -> Times:
    """Keep and return the times of one picture's runs, and keep those of its steps."""
    steps = defaultdict(list)

    def once() -> tuple[float, float]:
        start = time.perf_counter()
        backend.begin(slot)
        backend.preprocess(slot, 0, staged)
        backend.infer(slot)
        (result,) = backend.refine(slot, None, [staged], options, patient=False)
        wall = time.perf_counter() - start
        if isinstance(result, Exception):
            raise result
        # None stands for a picture that was left out; none was.
        assert result is not None
        for step, seconds in result.seconds.items():
            steps[step].append(seconds)
        return sum(result.seconds.values()), wall

    times = stage.effort.repeat(once)
    stage.keep(f"{name}, pinned to pinned", times)
    for step, seconds in steps.items():
        stage.keep(f"{name}, step {step}", Times(seconds[-stage.effort.samples :]))
    return times


def alphas(backend: CudaBackend, slot: DeviceSlot, reference: Reference) -> Floats:
    """float32 [N,h,w]: the alpha of each reference picture."""
    found = []
    for image in reference.image:
        staged = backend.stage(Frame(image, None, "reference"))
        backend.begin(slot)
        backend.preprocess(slot, 0, staged)
        backend.infer(slot)
        values, finite = backend.alphas(slot, 1)
        if not finite:
            raise StageError("the plan's answer is not finite: birefnet-build MODEL --force")
        found.append(values[0])
    return np.stack(found)
