"""Samples of one piece of work: its time on the GPU by events, and what a caller waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from birefnet_runtime.gpu import Device, Stream

# Columns of a figure's name.
WIDTH = 56


@dataclass(frozen=True)
class Times:
    """Seconds of each run: ``gpu`` between two events around it, ``wall`` from the call until the
    GPU is done."""

    gpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Effort:
    """How often: ``warm`` runs that are not counted, then ``samples``."""

    warm: int = 50
    samples: int = 300

    def repeat(self, once: Callable[[], tuple[float, float]]) -> Times:
        """``once`` gives (GPU seconds, wall seconds) of a run."""
        times = Times()
        for number in range(self.warm + self.samples):
            gpu, wall = once()
            if number >= self.warm:
                times.gpu.append(gpu)
                times.wall.append(wall)
        return times


def timed(device: Device, stream: Stream, work: Callable[[], Any], effort: Effort) -> Times:
    """The times of ``work``, which queues on ``stream``; the device is active."""
    first, last = (device.open_event(blocking=False) for _ in range(2))

    def once() -> tuple[float, float]:
        start = time.perf_counter()
        device.record(first, stream)
        work()
        device.record(last, stream)
        device.finish(stream)
        wall = time.perf_counter() - start
        return device.elapsed(first, last), wall

    return effort.repeat(once)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that ``share`` of all do not exceed."""
    return sorted(samples)[max(math.ceil(share * len(samples)) - 1, 0)]


def line(name: str, samples: Sequence[float]) -> str:
    """Median, p95 and p99 of seconds, in milliseconds."""
    cells = (median(samples), percentile(samples, 0.95), percentile(samples, 0.99))
    columns = "".join(f"{cell * 1e3:>12.3f}" for cell in cells)
    return f"  {name:<{WIDTH}}{columns}  ms of {len(samples)}"


HEADER = f"  {'':<{WIDTH}}{'median':>12}{'p95':>12}{'p99':>12}"
