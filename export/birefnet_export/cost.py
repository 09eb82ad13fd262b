"""What a graph costs by its shapes: operators, multiplications, bytes. No measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from .graph import types_and_shapes

_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.INT64: 8,
    TensorProto.INT32: 4,
    TensorProto.BOOL: 1,
}
# They only rename memory.
_FREE = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant"}


@dataclass(frozen=True)
class Cost:
    """``nodes``; ``gmac``: 1e9 multiply-adds of products and convolutions; ``gigabytes``: 1e9 bytes
    read and written if every operator reads its inputs and writes its outputs, nothing fused.
    """

    nodes: int
    gmac: float
    gigabytes: float

    def line(self) -> str:
        """The figures for a person."""
        return f"{self.nodes} nodes, {self.gmac:.1f} GMAC, {self.gigabytes:.2f} GB unfused"


def cost(model: onnx.ModelProto) -> Cost:
    """The cost of ``model``, whose shapes must be static."""
    values = types_and_shapes(model)
    macs = sum(_macs(node, values) for node in model.graph.node)
    moved = sum(_moved(node, values) for node in model.graph.node)
    return Cost(len(model.graph.node), macs / 1e9, moved / 1e9)


_Values = dict[str, tuple[int, tuple[int, ...]]]


def _macs(node: onnx.NodeProto, values: _Values) -> int:
    if node.op_type == "MatMul":
        inner = values[node.input[0]][1][-1]
        return math.prod(values[node.output[0]][1]) * inner
    if node.op_type == "Gemm":
        return math.prod(values[node.output[0]][1]) * min(values[node.input[0]][1])
    if node.op_type in ("Conv", "DeformConv"):
        return math.prod(values[node.output[0]][1]) * math.prod(values[node.input[1]][1][1:])
    return 0


def _moved(node: onnx.NodeProto, values: _Values) -> int:
    if node.op_type in _FREE:
        return 0
    names = [name for name in (*node.input, *node.output) if name]
    return sum(_BYTES[values[name][0]] * math.prod(values[name][1]) for name in names)
