"""Stage ``kernels``: every CUDA kernel against its NumPy twin, for equality; needs no TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet_engine import kernels, manifest
from birefnet_runtime.gpu import Device
from birefnet_runtime.launches import Launch
from gpu_stages.stage import Run, StageError
from gpu_stages.timing import Times, timed
from helpers.kernel_cases import Case, cases, check, heavy

# Bytes of a case's inputs from which on it is timed: a picture of 12 megapixels has 36 MB.
LARGE = 32_000_000
SHOWN = 5
# What outputs hold before the kernels run, so that a value nobody wrote shows.
RUBBISH = 0xA5


class Bench:
    """A stream on the GPU and a loaded module, for one case after another."""

    def __init__(self, device: Device, image: bytes) -> None:
        self.device, self.stream = device, device.open_stream()
        self.kernels = device.load(image)

    def run(self, case: Case, visit: Callable[[list[Launch]], None]) -> None:
        """``case`` on the GPU; ``visit`` gets its launches afterwards, buffers still there.

        Raises AssertionError where an output differs from the twin's.
        """
        with ExitStack() as stack:
            at = {name: self._upload(array, stack) for name, array in case.inputs.items()}
            for name, (shape, dtype) in case.outputs.items():
                empty = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, RUBBISH, np.uint8)
                at[name] = self._upload(case.initial.get(name, empty), stack)
            found = case.launches(at)
            for launch in found:
                self.device.launch(self.kernels, launch, self.stream)
            check(case, self._download(case, at))
            visit(found)

    def _upload(self, array: NDArray[Any], stack: ExitStack) -> int:
        array = np.ascontiguousarray(array)
        block = self.device.allocate(array.nbytes)
        stack.callback(block.free)
        self.device.upload(block.pointer, array, self.stream)
        self.device.finish(self.stream)
        return block.pointer

    def _download(self, case: Case, at: dict[str, int]) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            name: np.empty(shape, dtype) for name, (shape, dtype) in case.outputs.items()
        }
        for name, array in arrays.items():
            self.device.download(array, at[name], self.stream)
        self.device.finish(self.stream)
        return arrays


def run(stage: Run) -> None:
    """Compile for this GPU, compare every case, time the large ones."""
    with stage.part("compile"):
        images = compile_kernels(stage)
    if stage.failures:
        return
    for kind, image in images.items():
        with stage.part(f"kernels, {kind}"):
            # PTX is the cubin's source, compiled by the driver: its arithmetic is what may differ.
            compare(stage, kind, image, large=not stage.options.small and kind == "cubin")


def compile_kernels(stage: Run) -> dict[str, bytes]:
    """The kernels as ``cubin`` and ``ptx``."""
    compiler, sources = stage.tools.compiler(stage.gpu), kernels.sources()
    key = manifest.key("none", stage.gpu.name, stage.gpu.capability, "fp32", 1)
    stage.say(f"compiling with {compiler.name} ...")
    made = kernels.compile_all(compiler, sources, stage.gpu, key)
    stage.record.findings["compiler"] = compiler.name
    stage.record.hashes["kernels' sources"] = sources.digest
    return {name.rpartition(".")[2]: data for name, data in made.items()}


def compare(stage: Run, kind: str, image: bytes, large: bool) -> None:
    """Every case by the kernels in ``image``; StageError with the first that differ."""
    device, wrong, count = stage.tools.device(), [], 0
    with device.active():
        bench = Bench(device, image)
        for case in chain(cases(large), heavy() if large else ()):
            count += 1
            try:
                bench.run(case, partial(time, stage, bench, case))
            except AssertionError as error:
                wrong.append(str(error))
    stage.record.add(f"{kind}: cases", "1", "higher", [float(count)])
    stage.record.add(f"{kind}: cases that differ", "1", "lower", [float(len(wrong))])
    stage.record.findings[f"{kind}: differences"] = wrong
    if wrong:
        text = "; ".join(wrong[:SHOWN])
        raise StageError(f"{len(wrong)} of {count} cases differ from their twins: {text}")
    stage.say(f"  {kind}: {count} cases, every bit as the twins have it")


def time(stage: Run, bench: Bench, case: Case, found: list[Launch]) -> None:
    """Keep how long each kernel of a large case takes, and all of them one after the other, beside
    a copy of as many bytes as must at least be read and written."""
    if sum(array.nbytes for array in case.inputs.values()) < LARGE:
        return
    # Those of one kernel and grid differ in their addresses alone.
    kinds = {(one.name, one.grid[0]): one for one in found}
    for (name, blocks), launch in kinds.items():
        several = sum(name == other for other, _ in kinds) > 1
        label = f"{name}, {blocks} blocks" if several else name
        stage.keep(f"{label} ({case.name})", Times(queued(stage, bench, [launch])))
    whole = queued(stage, bench, found)
    if len(found) > 1:
        stage.keep(f"{len(found)} launches ({case.name})", Times(whole))
    copy = copied(stage, bench, least_bytes(case))
    share = [100 * copy / seconds for seconds in whole]
    stage.record.add(f"speed of a copy of the same bytes ({case.name})", "%", "higher", share)


def queued(stage: Run, bench: Bench, found: list[Launch]) -> list[float]:
    """Seconds on the GPU of ``found``, one after the other, for each sample."""

    def queue() -> None:
        for launch in found:
            bench.device.launch(bench.kernels, launch, bench.stream)

    return timed(bench.device, bench.stream, queue, stage.effort).gpu


def least_bytes(case: Case) -> int:
    """Inputs read once and outputs written once; memory between launches is not counted."""
    outputs = {name: made for name, made in case.outputs.items() if name not in case.scratch}
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in outputs.values()]
    return sum(array.nbytes for array in case.inputs.values()) + sum(sizes)


def copied(stage: Run, bench: Bench, size: int) -> float:
    """Median seconds of a copy on the GPU that reads and writes ``size`` bytes together."""
    device, half = bench.device, size // 2
    with ExitStack() as stack:
        ends = [device.allocate(half) for _ in range(2)]
        for block in ends:
            stack.callback(block.free)
        first, second = (block.pointer for block in ends)
        copy = partial(device.copy, second, first, half, bench.stream)
        return median(timed(device, bench.stream, copy, stage.effort).gpu)
