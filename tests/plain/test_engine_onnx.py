"""Node names read off an ONNX file's bytes, against the real library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from birefnet_engine import onnx_nodes
from birefnet_runtime.model import NANO_FOLDER


def test_a_real_model() -> None:
    path = NANO_FOLDER / "model.onnx"
    model = onnx.load(path)
    expected = [
        f"{node.name or f'node {index}'} ({node.op_type})"
        for index, node in enumerate(model.graph.node)
    ]
    assert onnx_nodes.names(path) == expected
    assert len(expected) > 100


def test_weights_subgraphs_and_odd_fields_are_stepped_over(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["y"], name="inner")], "g", [], [])
    nodes = [
        helper.make_node("If", ["c"], ["y"], name="ä/if", then_branch=inner, else_branch=inner),
        helper.make_node("Add", ["y", "w"], ["z"]),
    ]
    weights = numpy_helper.from_array(np.zeros(300, np.float32), "w")
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("c", TensorProto.BOOL, [])], [], [weights]
    )
    data = helper.make_model(graph).SerializeToString()
    path = tmp_path / "m.onnx"
    # Unknown fields of fixed width: number 200, eight bytes; number 201, four bytes.
    path.write_bytes(b"\xc1\x0c" + b"8" * 8 + b"\xcd\x0c" + b"4" * 4 + data)
    assert onnx_nodes.names(path) == ["ä/if (If)", "node 1 (Add)"]
    path.write_bytes(data[:-200])
    with pytest.raises(ValueError, match="cut short"):
        onnx_nodes.names(path)


@pytest.mark.parametrize("data", [b"", b"\xff" * 30, b"\x0b", b"\x3a"])
def test_what_is_no_onnx(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"."):
        onnx_nodes.names(path)
