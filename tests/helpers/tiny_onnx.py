"""ONNX models of one or two nodes, for tests that need a model and no network.

Bright pixels are foreground: alpha = sigmoid(GAIN * mean of the three normalised channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from birefnet_export.contract import ONNX_NAME, Contract, sha256

GAIN = 4.0
Shape = Sequence[int | str]


def write_mask_model(
    path: Path,
    shape: Shape = (1, 3, 32, 32),
    names: tuple[str, str] = ("image", "alpha"),
    sigmoid: bool = True,
    extra_outputs: Sequence[str] = (),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A model with a mask [B,1,H,W]; ``extra_outputs`` come before it and hold half its value."""
    source, target = names
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    gain = numpy_helper.from_array(np.array(GAIN, dtype), "gain")
    half = numpy_helper.from_array(np.array(0.5, dtype), "half")
    nodes = [
        helper.make_node("ReduceMean", [source], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "gain"], ["logit"]),
        helper.make_node("Sigmoid" if sigmoid else "Identity", ["logit"], [target]),
        *(helper.make_node("Mul", [target, "half"], [name]) for name in extra_outputs),
    ]
    mask = [shape[0], 1, *shape[2:]]
    inputs = [helper.make_tensor_value_info(source, kind, shape)]
    outputs = [helper.make_tensor_value_info(name, kind, mask) for name in (*extra_outputs, target)]
    return _save(path, nodes, inputs, outputs, [gain, half])


def write_constant_model(path: Path, value: float, mask: Shape = (1, 1, 8, 8)) -> Path:
    """A model [1,3,8,8] -> ``mask`` whose every answer is ``value``."""
    sizes = [size for size in mask if isinstance(size, int)]
    constant = numpy_helper.from_array(np.full(sizes, value, np.float32), "constant")
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Shape", ["most"], ["scalar"]),
        helper.make_node("Expand", ["constant", "scalar"], ["alpha"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))]
    outputs = [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, mask)]
    return _save(path, nodes, inputs, outputs, [constant])


def write_model_folder(folder: Path, size: int = 32, batch: int = 1, **changes: Any) -> Path:
    """A model folder with the mask model and its contract; ``changes`` are contract fields."""
    folder.mkdir(parents=True, exist_ok=True)
    file = write_mask_model(folder / ONNX_NAME, (batch, 3, size, size))
    values: dict[str, Any] = {"name": "tiny", "height": size, "width": size, "batch": batch}
    values["files"] = {ONNX_NAME: sha256(file)}
    Contract(**{**values, **changes}).write(folder)
    return folder


def _save(path: Path, nodes: Any, inputs: Any, outputs: Any, values: Any) -> Path:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, values)
    # IR 8 and opset 17 are read by every ONNX Runtime that the project supports.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
