"""The proof's command: what the runtime room takes is what this room says."""

from __future__ import annotations

from pathlib import Path

import pytest

from birefnet_engine import proof
from birefnet_engine.errors import ProofError
from birefnet_engine.proof import Candidate


def test_the_runtime_takes_the_command_line(tmp_path: Path) -> None:
    plan, cubin = tmp_path / "k.plan", tmp_path / "k.cubin"
    candidate = Candidate(tmp_path, plan, cubin, "model.trt.onnx", 1, "fp16")
    # It gets as far as looking for the contract: the arguments were understood.
    with pytest.raises(ProofError, match=r"could not be proved: \S+contract\.json is missing"):
        proof.prove(candidate)


def test_figures_are_told_with_the_gate_they_have() -> None:
    figures = {"mean": 0.1 / 255, "p999": 2 / 255, "max": 9 / 255, "gate": {"max": 1 / 255}}
    told = proof.describe(figures)
    assert told == "mean 0.1/255, 99.9th percentile 2/255, largest 9/255 of 1/255 allowed"
    assert proof.describe({}) == "mean ?/255, 99.9th percentile ?/255, largest ?/255"
