"""When requests come, and what an executor that does nothing else would make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from measuring.fixed import Fixed

SEED = 0


def evenly(rate: float, count: int) -> list[float]:
    """Seconds at which ``count`` requests come, one like the other, ``rate`` in a second."""
    return [number / rate for number in range(count)]


def poisson(rate: float, count: int, seed: int = SEED) -> list[float]:
    """The same, by chance: gaps of an exponential distribution, scaled so that they take as long
    together as even ones would."""
    ends = np.cumsum(np.random.default_rng(seed).exponential(1.0, count))
    return [float(value) for value in ends * (count / rate / ends[-1])]


def ideal(arrivals: Sequence[float], fixed: Fixed) -> list[float]:
    """Latencies in seconds where nothing but the runs takes time: as many as are there go into the
    next run, which begins as soon as the last has ended."""
    latencies: list[float] = []
    free, done = 0.0, 0
    while done < len(arrivals):
        begin = max(free, arrivals[done])
        rows = done
        while rows < len(arrivals) and rows - done < fixed.batch and arrivals[rows] <= begin:
            rows += 1
        free = begin + fixed.run_seconds(rows - done)
        latencies += [free - arrival for arrival in arrivals[done:rows]]
        done = rows
    return latencies
