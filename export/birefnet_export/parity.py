"""Is the ONNX file the network? Runs both on the same input and compares. Imports onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float32]

# The gate: a mask of 8 bits must not change by more than one level anywhere, nor visibly on
# average; logits may differ by float32 rounding through the network (2.6e-5 measured for swin_v1_t
# at 1024).
ALPHA_MAX = 1 / 255
ALPHA_MEAN = 0.02 / 255
LOGITS = 1e-3


@dataclass(frozen=True)
class Parity:
    """Differences of one comparison: alpha in 0..1, logits absolute and relative to max(1,
    |logit|).
    """

    alpha_max: float
    alpha_mean: float
    logits_max: float
    logits_mean: float
    logits_relative: float
    pictures: int

    @property
    def passed(self) -> bool:
        """Whether every figure is inside the gate; a NaN is not."""
        return (
            self.alpha_max <= ALPHA_MAX
            and self.alpha_mean <= ALPHA_MEAN
            and self.logits_relative <= LOGITS
        )

    def as_dict(self) -> dict[str, Any]:
        """Figures, gate and verdict, for the contract."""
        gate = {"alpha_max": ALPHA_MAX, "alpha_mean": ALPHA_MEAN, "logits_relative": LOGITS}
        return {**asdict(self), "gate": gate, "passed": self.passed}

    def table(self) -> str:
        """The figures as lines for a person."""
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"PyTorch against ONNX Runtime on {self.pictures} pictures: {verdict}\n"
            f"  alpha   max {self.alpha_max * 255:.5f}/255  mean {self.alpha_mean * 255:.6f}/255"
            f"  (gate {ALPHA_MAX * 255:g}/255, {ALPHA_MEAN * 255:g}/255)\n"
            f"  logits  max {self.logits_max:.2e}  mean {self.logits_mean:.2e}"
            f"  relative {self.logits_relative:.2e}  (gate {LOGITS:g})"
        )


def compare(logits: Array, other: Array) -> Parity:
    """Figures of ``other`` against ``logits``, both [N,1,H,W] before the sigmoid, in float64."""
    if not np.isfinite(other).all():
        infinite = float("inf")
        return Parity(infinite, infinite, infinite, infinite, infinite, len(logits))
    a, b = logits.astype(np.float64), other.astype(np.float64)
    distance = np.abs(a - b)
    alpha = np.abs(sigmoid(a) - sigmoid(b))
    return Parity(
        alpha_max=float(alpha.max()),
        alpha_mean=float(alpha.mean()),
        logits_max=float(distance.max()),
        logits_mean=float(distance.mean()),
        logits_relative=float((distance / np.maximum(1.0, np.abs(a))).max()),
        pictures=len(logits),
    )


def sigmoid(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Logistic function without overflow, in the precision of ``x``."""
    small = np.exp(-np.abs(x))
    result: NDArray[np.floating[Any]] = np.where(x >= 0, 1 / (1 + small), small / (1 + small))
    return result


def run_torch(network: nn.Module, images: Array, batch: int) -> Array:
    """Logits of the PyTorch network in float32, ``batch`` pictures at a time."""
    with torch.inference_mode():
        parts = [network(torch.from_numpy(part)).numpy() for part in batches(images, batch)]
    return np.concatenate(parts)[: len(images)]


def run_onnx(path: Path, images: Array, batch: int, output: str) -> Array:
    """The output named ``output`` of an ONNX file on ONNX Runtime's CPU provider."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run([output], {"image": part})[0] for part in batches(images, batch)]
    return np.concatenate(parts)[: len(images)].astype(np.float32, copy=False)


def batches(images: Array, batch: int) -> Iterator[Array]:
    """``images`` in runs of exactly ``batch``; the last is filled up with its own last picture."""
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part)
        yield np.concatenate([part, *[part[-1:]] * missing]) if missing else part
