"""Writes an ONNX graph node by node, with the shape and the element type of every value known.

Types are explicit: arithmetic on two types is an error here, as it is in a strongly typed TensorRT
network, and a value changes type only in ``cast``. Node names are paths, ``bb/full/stage2/block4``,
so that a parser's error or an inspector's layer names its place; nodes made inside ``island``
carry a part ``fp32``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from birefnet_export.errors import ExportError

# The newest opset whose every operator TensorRT 8.6 parses; GridSample's modes were renamed in 20.
OPSET = 17
# The format version of opset 17's time, which the parsers of TensorRT 8.6 to 11 all read.
IR_VERSION = 8
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
ISLAND = "fp32"


@dataclass(frozen=True)
class Value:
    """One tensor of the graph: static ``shape``, ONNX element type ``type``."""

    name: str
    shape: tuple[int, ...]
    type: int


class Tape:
    """The graph while it is written. ``body`` is the element type outside of islands."""

    def __init__(self, body: int) -> None:
        self.body = self.type = body
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[Value] = []
        self.constants: dict[str, TensorProto] = {}
        self._path: list[str] = []
        self._names: dict[str, int] = {}
        self._known: dict[tuple[Any, ...], Value] = {}

    @contextmanager
    def scope(self, *parts: str) -> Iterator[None]:
        """Names of what is written inside begin with ``parts``."""
        self._path += parts
        yield
        del self._path[len(self._path) - len(parts) :]

    @contextmanager
    def island(self, enabled: bool = True) -> Iterator[None]:
        """What is written inside is float32: cast values up to enter and down after leaving."""
        if not enabled:
            yield
            return
        before, self.type = self.type, FLOAT
        with self.scope(ISLAND):
            yield
        self.type = before

    def input(self, name: str, shape: tuple[int, ...]) -> Value:
        """A float32 input of the graph."""
        value = Value(name, shape, FLOAT)
        self.inputs.append(value)
        return value

    def constant(self, data: Tensor | NDArray[Any] | Sequence[int] | float) -> Value:
        """A constant of the current type (int64 for integers); equal ones are stored once.

        Raises ExportError when a finite number is too large for FP16.
        """
        raw = data.detach().cpu().numpy() if isinstance(data, Tensor) else np.asarray(data)
        array = self._typed(raw)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = f"constant{len(self.constants)}"
            self.constants[name] = numpy_helper.from_array(array, name)
            self._known[key] = Value(name, array.shape, self.constants[name].data_type)
        return self._known[key]

    def _typed(self, raw: NDArray[Any]) -> NDArray[Any]:
        if np.issubdtype(raw.dtype, np.integer):
            return np.ascontiguousarray(raw, np.int64).reshape(raw.shape)
        with np.errstate(over="ignore"):
            array = raw.astype(np.float16 if self.type == HALF else np.float32)
        if np.isfinite(raw).all() and not np.isfinite(array).all():
            raise ExportError(
                f"a weight at {'/'.join(self._path)} reaches {np.abs(raw).max():.3g}, beyond FP16: "
                "export with --precision fp32"
            )
        return array

    def node(
        self,
        kind: str,
        inputs: Sequence[Value | None],
        shape: tuple[int, ...],
        type: int | None = None,
        **attributes: Any,
    ) -> Value:
        """One operator with one output of ``shape``; its type is the first input's by default."""
        name = self._name(kind)
        first = inputs[0]
        assert first is not None
        value = Value(name, shape, first.type if type is None else type)
        names = [item.name if item else "" for item in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return value

    def _name(self, kind: str) -> str:
        base = "/".join([*self._path, kind])
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}{count}"

    def finish(self, output: Value, name: str, graph: str) -> onnx.ModelProto:
        """The checked model with the single output ``output`` under ``name``."""
        self.nodes[-1].output[0] = name
        assert self.nodes[-1].name == output.name
        inputs, outputs = (
            [helper.make_tensor_value_info(value.name, value.type, value.shape) for value in values]
            for values in (self.inputs, [Value(name, output.shape, output.type)])
        )
        body = helper.make_graph(
            self.nodes, graph, inputs, outputs, initializer=list(self.constants.values())
        )
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version, model.producer_name = IR_VERSION, "birefnet-export"
        return model

    # Elementwise

    def add(self, a: Value, b: Value) -> Value:
        """``a + b``, shapes broadcast, types equal."""
        return self._binary("Add", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        """``a * b``, shapes broadcast, types equal."""
        return self._binary("Mul", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """``a - b``, shapes broadcast, types equal."""
        return self._binary("Sub", a, b)

    def div(self, a: Value, b: Value) -> Value:
        """``a / b``, shapes broadcast, types equal."""
        return self._binary("Div", a, b)

    def _binary(self, kind: str, a: Value, b: Value) -> Value:
        assert a.type == b.type, f"{kind} of two types at {'/'.join(self._path)}"
        return self.node(kind, [a, b], tuple(np.broadcast_shapes(a.shape, b.shape)))

    def unary(self, kind: str, x: Value, **attributes: Any) -> Value:
        """Relu, Sigmoid, Erf, Sqrt, Softmax: same shape, same type."""
        return self.node(kind, [x], x.shape, **attributes)

    def cast(self, x: Value, type: int | None = None) -> Value:
        """``x`` in ``type``, by default the current one; no node where it has that type."""
        target = self.type if type is None else type
        return x if x.type == target else self.node("Cast", [x], x.shape, target, to=target)

    # Products

    def matmul(self, a: Value, b: Value) -> Value:
        """Matrix product of the last two axes, leading axes broadcast."""
        assert a.type == b.type and a.shape[-1] == b.shape[-2]
        lead = tuple(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        return self.node("MatMul", [a, b], (*lead, a.shape[-2], b.shape[-1]))

    def conv(self, x: Value, weight: Value, bias: Value | None, stride: int = 1) -> Value:
        """2-D convolution, "same" padding for stride 1, none otherwise; ``weight`` [O,C,k,k]."""
        out, channels, kernel = weight.shape[:3]
        assert x.type == weight.type and x.shape[1] == channels
        pad = kernel // 2 if stride == 1 else 0
        sides = [(side + 2 * pad - kernel) // stride + 1 for side in x.shape[2:]]
        inputs = [x, weight] if bias is None else [x, weight, bias]
        return self.node(
            "Conv",
            inputs,
            (x.shape[0], out, *sides),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
        )

    def mean(self, x: Value, axes: Sequence[int]) -> Value:
        """Mean over ``axes``, which stay with size 1."""
        kept = [axis % len(x.shape) for axis in axes]
        shape = tuple(1 if i in kept else side for i, side in enumerate(x.shape))
        return self.node("ReduceMean", [x], shape, axes=list(axes), keepdims=1)

    def layer_norm(self, x: Value, scale: Value, bias: Value, epsilon: float) -> Value:
        """Over the last axis; statistics in float32 (stash_type 1) whatever the type of ``x``."""
        return self.node(
            "LayerNormalization", [x, scale, bias], x.shape, axis=-1, epsilon=epsilon, stash_type=1
        )

    # Shapes

    def reshape(self, x: Value, *shape: int) -> Value:
        """``x`` with ``shape``, without a node where it has it already."""
        assert math.prod(shape) == math.prod(x.shape), f"{x.shape} to {shape}"
        if shape == x.shape:
            return x
        return self.node("Reshape", [x, self.constant(list(shape))], shape)

    def transpose(self, x: Value, *axes: int) -> Value:
        """``x`` with its axes in the order ``axes``."""
        shape = tuple(x.shape[axis] for axis in axes)
        return self.node("Transpose", [x], shape, perm=list(axes))

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """``start`` to ``stop`` of one axis, without a node where that is all of it."""
        axis %= len(x.shape)
        if (start, stop) == (0, x.shape[axis]):
            return x
        shape = tuple(stop - start if i == axis else side for i, side in enumerate(x.shape))
        limits = [self.constant([number]) for number in (start, stop, axis)]
        return self.node("Slice", [x, *limits], shape)

    def mirror(self, x: Value) -> Value:
        """``x`` with its last axis backwards."""
        last = len(x.shape) - 1
        order = self.constant(list(range(x.shape[last] - 1, -1, -1)))
        return self.node("Gather", [x, order], x.shape, axis=last)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        """``parts`` of one type after each other along ``axis``."""
        assert len({part.type for part in parts}) == 1
        if len(parts) == 1:
            return parts[0]
        total = sum(part.shape[axis] for part in parts)
        shape = tuple(total if i == axis else side for i, side in enumerate(parts[0].shape))
        return self.node("Concat", parts, shape, axis=axis)

    # Sampling

    def resize(self, x: Value, height: int, width: int) -> Value:
        """Bilinear, corners aligned, no antialias (torch's ``align_corners=True``)."""
        if x.shape[2:] == (height, width):
            return x
        shape = (*x.shape[:2], height, width)
        return self.node(
            "Resize",
            [x, None, None, self.constant(list(shape))],
            shape,
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )

    def grid_sample(self, x: Value, grid: Value) -> Value:
        """Bilinear samples of ``x`` [B,C,H,W] at ``grid`` [B,h,w,2]; zeros outside the map.

        Coordinates are (x, y), -1 and 1 the outer edges of the outermost pixels.
        """
        assert x.type == grid.type
        shape = (*x.shape[:2], *grid.shape[1:3])
        return self.node(
            "GridSample",
            [x, grid],
            shape,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=0,
        )
