"""A plan proves itself, in a process of its own: the alpha it gives against PyTorch's.

The runtime room runs it (``python -m birefnet_runtime.prove``), because that is the path on which
pictures will travel; this room starts it, reads its answer and decides.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ProofError, one_line

COMMAND = (sys.executable, "-m", "birefnet_runtime.prove")


@dataclass(frozen=True)
class Candidate:
    """What is to be proved: files of a model ``folder`` that no manifest vouches for yet."""

    folder: Path
    plan: Path
    cubin: Path
    onnx: str
    batch: int
    precision: str

    def arguments(self) -> list[str]:
        """The command line of the proof."""
        return [
            *(str(self.folder), str(self.plan), "--onnx", self.onnx, "--batch", str(self.batch)),
            *("--precision", self.precision, "--kernels", str(self.cubin)),
        ]


def prove(candidate: Candidate, command: Sequence[str] = COMMAND) -> dict[str, Any]:
    """The figures of a plan that passed: mean, p999, max (alpha in 0..1), milliseconds, gate.

    Raises ProofError when the plan does not pass or the proof does not run; the caller deletes it.
    """
    done = subprocess.run(
        [*command, *candidate.arguments()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ProofError(_not_run(done.returncode, done.stderr))
    try:
        # Libraries may print on stdout too; the answer comes last.
        figures = json.loads(done.stdout.strip().rpartition("\n")[2])
        passed = figures["passed"] and figures["finite"] and figures["rows_equal"]
    except (ValueError, KeyError, TypeError) as error:
        raise ProofError(
            f"the proof answered something that is no proof ({one_line(error)}): "
            "install birefnet-trt again"
        ) from error
    if passed is not True:
        raise ProofError(_failed(figures, candidate.precision))
    return dict(figures)


def _not_run(status: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    reason = lines[-1] if lines else "it gave no reason"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return (
            f"the plan ended its process with {name} when it ran ({reason}): try --level 3 or a "
            "newer TensorRT"
        )
    return f"the plan could not be proved: {reason}"


def _failed(figures: dict[str, Any], precision: str) -> str:
    other = "--precision fp32, " if precision == "fp16" else ""
    if not figures["finite"]:
        return (
            f"the plan gives values that are not finite: try {other}--level 3, or a newer TensorRT"
        )
    if not figures["rows_equal"]:
        return (
            "the plan gives different alphas for equal pictures of one batch, a known fault of "
            "some TensorRT versions: build --batch 1, or use another TensorRT"
        )
    return (
        f"the plan is too far from PyTorch ({describe(figures)}): try {other}--level 3, or a "
        "newer TensorRT"
    )


def describe(figures: dict[str, Any]) -> str:
    """The alpha difference and, where the gate has one, its limit, in 255ths."""
    gate = figures.get("gate") or {}
    return ", ".join(
        f"{text} {_levels(figures.get(name))}/255"
        + (f" of {_levels(gate[name])}/255 allowed" if name in gate else "")
        for name, text in (("mean", "mean"), ("p999", "99.9th percentile"), ("max", "largest"))
    )


def _levels(value: object) -> str:
    return f"{value * 255:.3g}" if isinstance(value, int | float) else "?"
