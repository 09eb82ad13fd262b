"""ONNX file -> TensorRT network, with errors that name the nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import api, onnx_nodes
from .errors import ParseError, one_line

# Path part that marks the nodes of an FP32 island in the typed graph.
ISLAND = "fp32"
# More than these many errors are the first ones over again.
SHOWN = 5
# What TensorRT calls the layers that its ONNX parser adds around a node.
_HELPERS = ("(Unnamed Layer", "ONNXTRT_")
# Kinds of layer without arithmetic, or whose type is part of what they are.
_UNPINNED = ("CONSTANT", "SHAPE", "CAST", "IDENTITY", "ASSERTION")


def parse(trt: Any, builder: Any, logger: Any, onnx: Path) -> tuple[Any, Any]:
    """(network, parser) of the file ``onnx``, whose external data lies beside it.

    The parser owns the weights and must live until the network is built. Raises ParseError with
    the nodes that TensorRT does not take, one line each.
    """
    network = api.create_network(trt, builder)
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(str(onnx)):
        return network, parser
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    lines = [_describe(trt, error, onnx) for error in errors[:SHOWN]]
    if len(errors) > SHOWN:
        lines.append(f"and {len(errors) - SHOWN} more")
    if not lines:
        lines.append("it gives no reason: --verbose shows what it said")
    raise ParseError(
        f"TensorRT {trt.__version__} does not take {onnx.name}: export the model again with this "
        "birefnet-export, or use a newer TensorRT" + "".join(f"\n  {line}" for line in lines)
    )


def _describe(trt: Any, error: Any, onnx: Path) -> str:
    where = api.node_name(trt, error) or _looked_up(onnx, error.node())
    return f"{where}: {one_line(error.desc())}" if where else one_line(error.desc())


def _looked_up(onnx: Path, number: int) -> str:
    """Name of node ``number``, in the file's order; -1 stands for the file as a whole."""
    if number < 0:
        return ""
    try:
        return onnx_nodes.names(onnx)[number]
    except (OSError, ValueError, IndexError):
        return f"node {number}"


def pin_islands(trt: Any, network: Any) -> int:
    """Pin the FP32 islands of a weakly typed network; how many layers.

    A layer is pinned when the parser gave it float outputs and its ONNX node is in an island, or
    it is a helper that the parser added between such nodes. Pinning anything else would take the
    transformer blocks out of their fused kernels.
    """
    pinned = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if _in_island(trt, layer):
            api.pin_float(trt, layer)
            pinned += 1
    return pinned


def _in_island(trt: Any, layer: Any) -> bool:
    if layer.type.name in _UNPINNED:
        return False
    named = ISLAND in layer.name.split("/") or layer.name.startswith(_HELPERS)
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    return named and bool(outputs) and all(item.dtype == trt.DataType.FLOAT for item in outputs)
