"""The TensorRT target of an export: typed graphs written, the first one proved."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx

from birefnet_export import graph
from birefnet_export.contract import typed_name
from birefnet_export.cost import Cost, cost
from birefnet_export.half import run_half
from birefnet_export.mirror import answering
from birefnet_export.reference import Answer, Work, reference

from . import dialect, emulate
from .layers import Choices
from .network import typed_graph
from .proof import Distance, Proof, distance, gate

# Where two pictures do not decide, these do: on nano the mean difference of one picture was seen to
# double from one way of rounding to another, while that of eight moved by a quarter.
MORE_PICTURES = 8


@dataclass(frozen=True)
class TypedVerdict:
    """The proof of the typed graph and what the graph costs."""

    proof: Proof
    cost: Cost

    @property
    def passed(self) -> bool:
        """Whether the graph is inside its gate."""
        return self.proof.passed

    def as_dict(self) -> dict[str, Any]:
        """Figures, gate, cost and verdict, for the contract."""
        return {**self.proof.as_dict(), "cost": asdict(self.cost)}

    def table(self) -> str:
        """The figures as lines for a person."""
        return f"{self.proof.table()}\n  {'cost':12}{self.cost.line()}"


@dataclass(frozen=True)
class Typed:
    """The typed graph of one export: ``precision``, ``batches`` and the open choices."""

    precision: str = "fp16"
    batches: tuple[int, ...] = (1,)
    choices: Choices = field(default_factory=Choices)

    def build(self, work: Work, batch: int, head: str) -> onnx.ModelProto:
        """The checked ONNX model for one batch."""
        model = typed_graph(
            work.fixed, batch, work.contract.name, self.precision, head, self.choices
        )
        dialect.check(model)
        return model

    def write(self, work: Work) -> Cost:
        """Write one file per batch; the cost of the first."""
        found: Cost | None = None
        for batch in self.batches:
            model = self.build(work, batch, work.contract.output)
            name = typed_name(self.precision, batch, work.contract.batch)
            graph.save(model, work.folder / name)
            found = found or cost(model)
        assert found is not None
        return found

    def prove(self, work: Work) -> Proof:
        """The first graph emulated against PyTorch; on more pictures where two do not pass."""
        model = self.build(work, work.contract.batch, graph.LOGITS)
        path = emulate.save(emulate.emulate(model), work.folder / "emulated.onnx")
        # The file is as large as the weights in float32: not twice in memory.
        del model
        gc.collect()
        try:
            return self._prove(work, path)
        finally:
            for file in work.folder.glob("emulated.onnx*"):
                file.unlink()

    def _prove(self, work: Work, path: Path) -> Proof:
        proof = self._measure(work, path, work.answer)
        if proof.passed or proof.half is None:
            return proof
        more = self._measure(work, path, reference(work.network, work.contract, MORE_PICTURES))
        # The plan is tried on the two reference pictures: what they gave is what it may reach.
        return replace(more, gate=gate(_worse(proof.half, proof.emulated)))

    def _measure(self, work: Work, path: Path, answer: Answer) -> Proof:
        batch, half = work.contract.batch, None
        if self.precision == "fp16":
            network = answering(work.network, work.contract.mirror)
            half = distance(answer.logits, run_half(network, answer.images, batch))
        emulated = distance(answer.logits, emulate.run(path, answer.images, batch))
        plan = gate(half and _worse(half, emulated))
        return Proof(self.precision, emulated, half, gate(half), plan)


def _worse(a: Distance, b: Distance) -> Distance:
    return replace(a, mean=max(a.mean, b.mean), p999=max(a.p999, b.p999))
