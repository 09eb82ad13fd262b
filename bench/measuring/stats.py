"""Samples -> figures: percentiles, spread, and ratios with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from gpu_stages.timing import percentile

# Enough that the interval's ends move by less than the two digits that are printed.
DRAWS = 2000
# The interval holds the true ratio 95 times of 100.
LEVEL = 0.95
SEED = 0


@dataclass(frozen=True)
class Summary:
    """Figures of one measure, in its unit. ``iqr``: between the first and the third quarter."""

    median: float
    p95: float
    p99: float
    iqr: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and the interval of LEVEL round it."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Such as ``8.1 (7.9 to 8.4)``."""
        return f"{digits(self.value)} ({digits(self.low)} to {digits(self.high)})"


def digits(value: float) -> str:
    """Three significant digits, never fewer than all before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    places = 2 - int(np.floor(np.log10(abs(value))))
    return f"{value:.{min(max(places, 0), 6)}f}"


def summarise(samples: Sequence[float]) -> Summary:
    """The figures of at least one sample. Percentiles are samples, so p99 of few is the worst."""
    quarters = percentile(samples, 0.75) - percentile(samples, 0.25)
    return Summary(
        median(samples),
        percentile(samples, 0.95),
        percentile(samples, 0.99),
        quarters,
        len(samples),
    )


def ratio(above: Sequence[float], below: Sequence[float], seed: int = SEED) -> Ratio:
    """Median of ``above`` over median of ``below``, samples of the same rounds in the same order.

    The interval is the percentile bootstrap over rounds (Efron 1979): whole rounds are drawn, so
    that what slowed a round down slows down both. With one round it is the value alone.
    """
    if len(above) != len(below):
        raise ValueError(f"{len(above)} and {len(below)} samples are not of the same rounds")
    value = median(above) / median(below)
    drawn = np.random.default_rng(seed).integers(0, len(above), (DRAWS, len(above)))
    tops, bottoms = (np.median(np.asarray(item)[drawn], axis=1) for item in (above, below))
    ends = np.quantile(tops / bottoms, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(value, float(ends[0]), float(ends[1]))
