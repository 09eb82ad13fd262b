"""The ONNX graph after the trace: cleaned, checked, given its outputs, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from .errors import ExportError

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]

# Operators that a clean trace of a fixed-size network has no use for.
LEFTOVERS = ("Identity", "Cast", "Shape", "ConstantOfShape", "Constant", "If", "Loop")
# A protobuf message ends at 2 GiB; from 1.5 GB on the weights go into a file of their own.
EXTERNAL_BYTES = 1_500_000_000
# From here on a constant is searched for repeated rows.
REPEATED_BYTES = 1 << 16
# From here on half of a constant is more than the Cast that restores it takes in the file.
COMPACT_BYTES = 1 << 11
LOGITS, ALPHA = "logits", "alpha"


def clean(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """``model`` without traces of the machine that made it, in place; returns it.

    Exporters note source paths and call stacks at every node. Raises ExportError when an operator
    is left over that belongs to dynamic shapes, or a dimension is not static.
    """
    graph = model.graph
    graph.name, graph.doc_string, model.doc_string = name, "", ""
    model.producer_name, model.producer_version = "birefnet-export", ""
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    del graph.value_info[:]
    _share_equal_constants(graph)
    _pick_repeated_rows(graph)
    _narrow_indices(graph)
    _check(model)
    return model


def _pick_repeated_rows(graph: onnx.GraphProto) -> None:
    """Store large constants that repeat few rows as these rows and a Gather.

    The exporter computes small Gathers of constants, such as the masks of shifted windows; ONNX
    Runtime does it again when it loads the model, and the file stays a fraction as large.
    """
    for tensor in list(graph.initializer):
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim < 3 or values.nbytes < REPEATED_BYTES:
            continue
        # By bytes: np.unique makes a field of every column, thousands here.
        found: dict[bytes, int] = {}
        order = [found.setdefault(row.tobytes(), len(found)) for row in values]
        if 4 * len(found) > len(values):
            continue
        firsts = [order.index(number) for number in range(len(found))]
        parts = {"rows": values[firsts], "order": np.array(order)}
        names = [f"{tensor.name}.{part}" for part in parts]
        node = onnx.helper.make_node("Gather", names, [tensor.name], f"{tensor.name}/Gather")
        graph.initializer.remove(tensor)
        graph.initializer.extend(map(onnx.numpy_helper.from_array, parts.values(), names))
        graph.node.insert(0, node)


def _narrow_indices(graph: onnx.GraphProto) -> None:
    """Store the constant indices of Gather, all below 2**31 here, in half the bytes."""
    gathers = [node for node in graph.node if node.op_type == "Gather"]
    indices = {node.input[1] for node in gathers}
    others = {
        name
        for node in graph.node
        for place, name in enumerate(node.input)
        if not (node.op_type == "Gather" and place == 1)
    }
    for tensor in graph.initializer:
        if tensor.name in indices - others and tensor.data_type == onnx.TensorProto.INT64:
            values = onnx.numpy_helper.to_array(tensor).astype("int32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _share_equal_constants(graph: onnx.GraphProto) -> None:
    """Keep one of each set of equal constants; nodes read the one that is kept."""
    kept: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        first = kept.setdefault(key, tensor.name)
        if first != tensor.name and tensor.raw_data:
            renamed[tensor.name] = first
            graph.initializer.remove(tensor)
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def compact(model: onnx.ModelProto, scales: Sequence[Floats] = ()) -> onnx.ModelProto:
    """``model``, in place, with the weights that float16 holds exactly stored in it; returns it.

    A Cast restores each before it is used, which ONNX Runtime does once, when it loads the file:
    the answers are the same bits. ``scales`` [O] are those of the batch norms that convolutions
    took in: of a weight [O,...] that is exact but for one of them the scale is stored as well, and
    a Mul follows the Cast. Worth it where the checkpoint is float16. The scaled queries of
    attention and products of two weights are not exact, and stay.
    """
    graph = model.graph
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.raw_data) < COMPACT_BYTES:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        for scale in (np.ones(1, np.float32), *scales):
            factor = scale.reshape(-1, *[1] * (values.ndim - 1))
            half = _half(values, factor)
            if half is not None:
                _store(graph, tensor, half, factor)
                break
    return model


def _half(values: Floats, factor: Floats) -> Halves | None:
    """The float16 array whose product with ``factor`` is ``values``, bit for bit, or None."""
    if len(factor) not in (1, len(values)):
        return None
    with np.errstate(all="ignore"):
        half: Halves = (values / factor).astype(np.float16)
        exact = np.array_equal(half.astype(np.float32) * factor, values)
    return half if exact else None


def _store(graph: onnx.GraphProto, tensor: onnx.TensorProto, half: Halves, factor: Floats) -> None:
    """Replaces ``tensor`` by ``half``, times ``factor`` where it is not one."""
    name, cast = tensor.name, f"{tensor.name}.cast"
    names = (f"{name}.half", f"{name}.scale")
    tensor.CopyFrom(onnx.numpy_helper.from_array(half, names[0]))
    if (factor == 1).all():
        cast = name
    else:
        graph.initializer.append(onnx.numpy_helper.from_array(factor, names[1]))
        graph.node.insert(0, onnx.helper.make_node("Mul", [cast, names[1]], [name], f"{name}/Mul"))
    node = onnx.helper.make_node(
        "Cast", names[:1], [cast], f"{name}/Cast", to=onnx.TensorProto.FLOAT
    )
    graph.node.insert(0, node)


def _check(model: onnx.ModelProto) -> None:
    counts = operators(model)
    found = [f"{counts[kind]} {kind}" for kind in LEFTOVERS if counts[kind]]
    if found or model.functions:
        extra = [f"function {function.name}" for function in model.functions]
        raise ExportError(f"the traced graph is not clean: {', '.join(found + extra)} left over")
    foreign = {node.domain for node in model.graph.node} - {""}
    if foreign:
        raise ExportError(f"the traced graph uses operators outside ONNX: {', '.join(foreign)}")
    for value in (*model.graph.input, *model.graph.output):
        if not all(dim.dim_value for dim in value.type.tensor_type.shape.dim):
            raise ExportError(f"{value.name} of the traced graph has no static shape")


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


def types_and_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Element type and static shape of every value, by ONNX's own strict inference."""
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    ).graph
    found = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        found[value.name] = (kind.elem_type, tuple(dim.dim_value for dim in kind.shape.dim))
    return found


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> onnx.ModelProto:
    """``model``, traced with the single output ``logits``, in place with the outputs ``names``.

    ``names`` are of ``logits`` and ``alpha``; alpha is the sigmoid of the logits.
    """
    graph = model.graph
    have = {value.name: value for value in graph.output}
    if ALPHA in names and not any(ALPHA in node.output for node in graph.node):
        graph.node.append(onnx.helper.make_node("Sigmoid", [LOGITS], [ALPHA], name=ALPHA))
    some = next(iter(have.values()))
    shape = [dim.dim_value for dim in some.type.tensor_type.shape.dim]
    del graph.output[:]
    for name in names:
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` to ``path``; above EXTERNAL_BYTES its weights go to ``path`` + ``.data``."""
    external = model.ByteSize() > EXTERNAL_BYTES
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external,
        location=f"{path.name}.data",
        size_threshold=1024,
    )
    onnx.checker.check_model(str(path))
