"""ONNX graphs on ONNX Runtime's CPU, also with FP16 rounding emulated and with more outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from birefnet_export.errors import ExportError
from birefnet_export.graph import EXTERNAL_BYTES
from birefnet_export.parity import Array
from birefnet_export.typed import emulate


def open_cpu(model: onnx.ModelProto | Path, threads: int | None) -> Any:
    """A session on the CPU; large graphs take the way over a file that is gone afterwards."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    if isinstance(model, Path):
        return _session(str(model), options)
    if model.ByteSize() < EXTERNAL_BYTES:
        return _session(model.SerializeToString(), options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        onnx.save_model(copy, str(path), save_as_external_data=True, location="model.onnx.data")
        return _session(str(path), options)


def _session(model: str | bytes, options: Any) -> Any:
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def with_more(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of ``model`` with the values ``names`` as float32 outputs too."""
    known = {value.name for value in model.graph.output}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in dict.fromkeys(names):
        if name not in known:
            value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            copy.graph.output.append(value)
    return copy


class Emulated:
    """A typed graph with every FP16 result rounded; proves at each run that it does round."""

    def __init__(
        self, typed: onnx.ModelProto, threads: int | None, more: Sequence[str] = ()
    ) -> None:
        model = with_more(emulate.emulate(typed), more)
        self._input = model.graph.input[0].name
        self._session = open_cpu(model, threads)

    def run(self, outputs: Sequence[str], image: Array) -> list[Array]:
        """The values ``outputs`` for one full batch; ExportError where nothing was rounded."""
        *values, canary = self._session.run([*outputs, emulate.CANARY], {self._input: image})
        if not np.isinf(canary).all():
            raise ExportError("ONNX Runtime did not round to FP16: this emulation proves nothing")
        return list(values)
