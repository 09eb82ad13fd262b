"""How far FP16 takes the typed graph from PyTorch, and what a plan built from it may reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from birefnet_export.parity import ALPHA_MAX, ALPHA_MEAN, Array, sigmoid

# A plan may be this much further away than PyTorch's own half-precision run: rounding is chance,
# and over a few pictures its mean moves by about as much.
FACTOR = 1.25
# On trained weights no more than 2 levels of 8 bits for 99.9 % of the pixels, a quarter on average.
MEAN, P999 = 0.25 / 255, 2 / 255
WITHIN = 2 / 255


@dataclass(frozen=True)
class Distance:
    """|alpha - alpha of float32 PyTorch|: mean, 99.9th percentile, maximum, 0..1; ``within`` is the
    share of pixels within 2/255.
    """

    mean: float
    p999: float
    max: float
    within: float
    pictures: int

    def line(self) -> str:
        """The figures in levels of 8 bits."""
        return (
            f"mean {self.mean * 255:.4f}/255, 99.9 % {self.p999 * 255:.3f}/255, "
            f"max {self.max * 255:.2f}/255"
        )


@dataclass(frozen=True)
class Gate:
    """Most that a plan's alpha may differ on the reference pictures."""

    mean: float
    p999: float

    def admits(self, distance: Distance) -> bool:
        """Whether ``distance`` is inside; a NaN is not."""
        return distance.mean <= self.mean and distance.p999 <= self.p999


@dataclass(frozen=True)
class Proof:
    """The typed graph emulated in FP16 and PyTorch's half-precision run, both against float32.

    ``half`` is None for the float32 twin. ``limit`` is the graph's own gate, on the pictures
    measured; ``gate`` is what the plan built from it must reach on the reference pictures.
    """

    precision: str
    emulated: Distance
    half: Distance | None
    limit: Gate
    gate: Gate

    @property
    def passed(self) -> bool:
        """Whether the graph itself is inside the gate."""
        return self.limit.admits(self.emulated)

    def as_dict(self) -> dict[str, Any]:
        """Figures, gate and verdict, for the contract."""
        return {**asdict(self), "passed": self.passed}

    def table(self) -> str:
        """The figures as lines for a person."""
        verdict = "passed" if self.passed else "FAILED"
        lines = [
            f"typed graph ({self.precision}) against PyTorch on {self.emulated.pictures} pictures: "
            f"{verdict}",
            f"  {'emulated' if self.half else 'graph':12}{self.emulated.line()}",
        ]
        if self.half:
            lines.append(f"  {'torch half':12}{self.half.line()}")
        limits = f"mean {self.limit.mean * 255:.4f}/255, 99.9 % {self.limit.p999 * 255:.3f}/255"
        return "\n".join([*lines, f"  {'gate':12}{limits}"])


def distance(logits: Array, other: Array) -> Distance:
    """Of ``other`` from ``logits``, both [N,1,H,W] before the sigmoid, computed in float64."""
    if not np.isfinite(other).all():
        infinite = float("inf")
        return Distance(infinite, infinite, infinite, 0.0, len(logits))
    gap = np.abs(sigmoid(logits.astype(np.float64)) - sigmoid(other.astype(np.float64)))
    return Distance(
        mean=float(gap.mean()),
        p999=float(np.quantile(gap, 0.999)),
        max=float(gap.max()),
        within=float((gap <= WITHIN).mean()),
        pictures=len(logits),
    )


def gate(half: Distance | None) -> Gate:
    """The gate that follows from PyTorch's own half-precision run; None: that of float32.

    The mean: FACTOR times that run and, for weights that half precision keeps inside MEAN, no more
    than that; what would pass as float32 always passes. The 99.9th percentile: P999, or FACTOR
    times that run where it is beyond P999 itself. One shifted picture decides a percentile, so it
    is not compared closer than that.
    """
    if half is None:
        return Gate(ALPHA_MEAN, ALPHA_MAX)
    mean = FACTOR * half.mean
    if half.mean <= MEAN:
        mean = max(ALPHA_MEAN, min(mean, MEAN))
    return Gate(mean, P999 if half.p999 <= P999 else FACTOR * half.p999)
