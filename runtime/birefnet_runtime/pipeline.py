"""The order of the steps, and nothing else: decode, preprocess, model, refine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from birefnet_runtime import refine
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource, decode
from birefnet_runtime.executor import Executor
from birefnet_runtime.frame import Slot
from birefnet_runtime.options import Options
from birefnet_runtime.preprocess import Preprocess

# Two are the double buffer: one picture is in the model while the next is decoded or the last
# refined.
SLOTS = 2


class Pipeline:
    """Takes pictures through the steps; any thread may call ``run``, two work at a time."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._preprocess = Preprocess(executor.contract)
        self._activation = executor.contract.activation
        self._slots: SimpleQueue[Slot] = SimpleQueue()
        for _ in range(SLOTS):
            self._slots.put(Slot.create(executor.contract.shape))
        # One run uses every core already, and two at once would double the peak memory (gigabytes).
        self._turn = threading.Lock()

    def run(self, source: PictureSource, options: Options) -> Cutout:
        """The cut-out of ``source``; InputError for the picture, ModelError for the model."""
        timings: dict[str, float] = {}
        slot = self._slots.get()
        try:
            with _timed(timings, "decode"):
                frame = decode(source, options.max_pixels)
            with _timed(timings, "preprocess"):
                self._preprocess.run(frame, slot)
            with self._turn, _timed(timings, "model"):
                answer = self._executor.run(slot)
        finally:
            self._slots.put(slot)
        with _timed(timings, "refine"):
            small = refine.activate(answer, self._activation)
            alpha = refine.to_alpha(small, frame.size, frame.alpha)
        return Cutout(frame.rgb, alpha, frame.source, options, frame.metadata, timings)


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start
