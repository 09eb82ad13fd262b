"""What the ONNX parsers of TensorRT 8.6, 10 and 11 all take, checked before a graph is written.

From the operator lists of the three parsers (onnx-tensorrt, branches 8.6-EA, 10.x, 11.x): only what
the typed graph needs is listed, with the attributes whose meaning is the same in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import onnx
from onnx import TensorProto, helper

from birefnet_export.errors import ExportError
from birefnet_export.graph import types_and_shapes

from .tape import FLOAT, HALF, IR_VERSION, OPSET

_ANY = object()
# Operator -> its attributes and the values they may have.
OPERATORS: dict[str, dict[str, Any]] = {
    "Add": {},
    "Cast": {"to": (FLOAT, HALF)},
    "Concat": {"axis": _ANY},
    "Conv": {"kernel_shape": _ANY, "strides": _ANY, "pads": _ANY},
    "Div": {},
    "Erf": {},
    "Gather": {"axis": _ANY},
    # The parser compares the mode with "bilinear" and takes anything else for nearest.
    "GridSample": {"mode": (b"bilinear",), "padding_mode": (b"zeros",), "align_corners": (0,)},
    "LayerNormalization": {"axis": (-1,), "epsilon": _ANY, "stash_type": (1,)},
    "MatMul": {},
    "Mul": {},
    "ReduceMean": {"axes": _ANY, "keepdims": (1,)},
    "Relu": {},
    "Reshape": {},
    "Resize": {"mode": (b"linear",), "coordinate_transformation_mode": (b"align_corners",)},
    "Sigmoid": {},
    "Slice": {},
    "Softmax": {"axis": (-1,)},
    "Sqrt": {},
    "Transpose": {"perm": _ANY},
}
# Inputs from this place on are shapes, limits or indices: int64 constants.
_CONSTANTS = {"Gather": 1, "Reshape": 1, "Slice": 1, "Resize": 1}
# TensorRT's limits on one tensor.
_RANK, _VOLUME = 8, 2**31 - 1
_NAMES = {FLOAT: "FLOAT", HALF: "FLOAT16"}


def check(model: onnx.ModelProto) -> None:
    """Raises ExportError with every reason why a parser might refuse or misread ``model``."""
    found = list(violations(model))
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise ExportError(f"the typed graph leaves its dialect: {'; '.join(found[:5])}{more}")


def violations(model: onnx.ModelProto) -> Iterator[str]:
    """One line for each thing outside of the dialect, with the node's name."""
    opsets = [(item.domain, item.version) for item in model.opset_import]
    if opsets != [("", OPSET)] or model.ir_version != IR_VERSION:
        yield f"opset {opsets}, IR {model.ir_version} instead of opset {OPSET}, IR {IR_VERSION}"
    if model.functions or any(node.domain for node in model.graph.node):
        yield "functions or operators of another domain"
    values = types_and_shapes(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        for reason in _node(node, values, constants):
            yield f"{node.name} ({node.op_type}): {reason}"


def _node(
    node: onnx.NodeProto, values: dict[str, tuple[int, tuple[int, ...]]], constants: set[str]
) -> Iterator[str]:
    allowed = OPERATORS.get(node.op_type)
    if allowed is None:
        yield "no such operator in all three parsers"
        return
    yield from _attributes(node, allowed)
    first = _CONSTANTS.get(node.op_type, len(node.input))
    for name in filter(None, node.input[first:]):
        if name not in constants or values[name][0] != TensorProto.INT64:
            yield f"{name} is no int64 constant"
    kinds = {values[name][0] for name in node.input[:first]}
    if len(kinds) > 1:
        yield "inputs of different types"
    if node.op_type == "GridSample" and kinds != {FLOAT}:
        yield "samples or coordinates are not FLOAT"
    for name in filter(None, (*node.input[:first], *node.output)):
        yield from _tensor(name, *values[name])


def _attributes(node: onnx.NodeProto, allowed: dict[str, Any]) -> Iterator[str]:
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        wanted = allowed.get(attribute.name)
        if wanted is None:
            yield f"attribute {attribute.name}"
        elif wanted is not _ANY and value not in wanted:
            yield f"{attribute.name} is {value!r}"


def _tensor(name: str, kind: int, shape: tuple[int, ...]) -> Iterator[str]:
    if kind not in _NAMES:
        yield f"{name} has type {TensorProto.DataType.Name(kind)}"
    if not all(shape):
        yield f"{name} has no static shape"
    if len(shape) > _RANK or math.prod(shape) > _VOLUME:
        yield f"{name} {shape} is beyond TensorRT's {_RANK} axes or {_VOLUME} elements"
