"""What FP16 does to the typed graph, without a GPU: every FP16 result rounded, all else in float32.

ONNX Runtime's CPU provider computes FP16 graphs in float32 and never rounds between nodes, so
running one proves nothing. Explicit casts it keeps. Not modelled: in which order and precision a
GPU sums up within one operator, and fusions, which round less often than this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from birefnet_export.errors import ExportError
from birefnet_export.graph import EXTERNAL_BYTES, types_and_shapes
from birefnet_export.parity import Array, batches

from .tape import FLOAT, HALF

CANARY = "canary"
# 300 * 300 is beyond FP16's 65504: only a run that really rounds turns it into infinity.
_CANARY_FACTOR = 300.0
# These move or select numbers that are rounded already.
_EXACT = {"Concat", "Relu", "Reshape", "Slice", "Transpose"}


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 model of the same name and outputs, plus ``canary``, infinite where it rounds.

    After every node with an FP16 result stand a Cast to FP16 and one back; ``model`` is left alone.
    """
    types = {name: kind for name, (kind, _) in types_and_shapes(model).items()}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(_widen(tensor) for tensor in model.graph.initializer)
    graph.node.extend(_canary(model.graph.input[0].name))
    for node in model.graph.node:
        graph.node.extend(_emulated(node, types))
    graph.output.append(helper.make_tensor_value_info(CANARY, FLOAT, None))
    return result


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write an emulated ``model`` to ``path`` (large weights beside it); returns ``path``.

    Unchecked, and ``model`` is spent: its weights may lie in the file only.
    """
    external = model.ByteSize() > EXTERNAL_BYTES
    location = f"{path.name}.data"
    onnx.save_model(model, str(path), save_as_external_data=external, location=location)
    return path


def run(path: Path, images: Array, batch: int) -> Array:
    """The first output of the emulated model at ``path`` on ``images`` [N,3,H,W].

    Raises ExportError when the canary stayed finite: then nothing was rounded.
    """
    options = onnxruntime.SessionOptions()
    # The arena keeps every size it ever gave: gigabytes at 1024x1024.
    options.enable_cpu_mem_arena = False
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    name = session.get_inputs()[0].name
    parts = []
    for part in batches(images, batch):
        answer, canary = session.run(None, {name: part})
        if not np.isinf(canary).all():
            raise ExportError("ONNX Runtime did not round to FP16: this emulation proves nothing")
        parts.append(answer)
    return np.concatenate(parts)[: len(images)]


def _widen(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _emulated(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    (output,) = node.output
    if node.op_type == "Cast":
        source, target = types[node.input[0]], types[output]
        if target == HALF and source == FLOAT:
            yield from _round(node.input[0], output)
        else:
            yield helper.make_node("Identity", node.input, node.output, name=node.name)
        return
    if types[output] != HALF or node.op_type in _EXACT:
        yield node
        return
    exact = onnx.NodeProto()
    exact.CopyFrom(node)
    exact.output[0] = f"{output}/exact"
    yield exact
    yield from _round(exact.output[0], output)


def _round(source: str, target: str) -> Iterator[onnx.NodeProto]:
    half = f"{target}/half"
    yield helper.make_node("Cast", [source], [half], name=half, to=HALF)
    yield helper.make_node("Cast", [half], [target], name=f"{target}/back", to=FLOAT)


def _canary(image: str) -> Iterator[onnx.NodeProto]:
    """300 * 300 through one rounding; depends on the input, so that nothing folds it away."""
    factor = helper.make_tensor("value", FLOAT, [], [_CANARY_FACTOR])
    zero = helper.make_tensor("value", FLOAT, [], [0.0])
    yield helper.make_node("ReduceMax", [image], ["canary/max"], keepdims=0)
    yield helper.make_node("Constant", [], ["canary/zero"], value=zero)
    yield helper.make_node("Constant", [], ["canary/factor"], value=factor)
    yield helper.make_node("Mul", ["canary/max", "canary/zero"], ["canary/nothing"])
    yield helper.make_node("Add", ["canary/nothing", "canary/factor"], ["canary/one"])
    yield helper.make_node("Mul", ["canary/one", "canary/one"], ["canary/product"])
    yield from _round("canary/product", CANARY)
