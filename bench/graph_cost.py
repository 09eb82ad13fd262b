"""What the rewrites save, by shapes alone: nodes, multiply-adds, bytes, before and after.

Three graphs of one network at one size: traced as it is (with deformable convolutions as single
nodes), ``model.onnx``, and ``model.trt.onnx``, whose deformable convolutions are taken apart. The
weights are random: they do not change what a graph costs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from unittest import mock

import onnx
import torch
from torch import Tensor, nn

from birefnet_export import decoder, graph, trace
from birefnet_export.config import BACKBONES
from birefnet_export.cost import Cost, cost
from birefnet_export.fixed import FixedBiRefNet, deform_conv
from birefnet_export.network import BiRefNet
from birefnet_export.typed.network import typed_graph
from record import Record


def main() -> int:
    """Print the table and write the record."""
    args = _arguments()
    record = Record(f"graph cost {args.backbone}", vars(args))
    network = BiRefNet(BACKBONES[args.backbone]).eval()
    fixed = FixedBiRefNet(network, args.size, args.size)
    graphs: dict[str, Callable[[], onnx.ModelProto]] = {
        "plain": lambda: plain(network, args.size),
        "model.onnx": lambda: trace.to_onnx(fixed, 1, "fixed"),
        "model.trt.onnx": lambda: typed_graph(fixed, 1, "typed", head=graph.LOGITS),
        "model.trt.fp32.onnx": lambda: typed_graph(fixed, 1, "typed", "fp32", graph.LOGITS),
    }
    for name, make in graphs.items():
        print(f"writing {name} ...", file=sys.stderr, flush=True)
        found = cost(make())
        keep(record, name, found)
        print(f"{name:22}{found.line()}")
    print(f"record: {record.write()}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", choices=sorted(BACKBONES), default="swin_v1_t")
    parser.add_argument("--size", type=int, default=1024)
    return parser.parse_args()


def plain(network: BiRefNet, size: int) -> onnx.ModelProto:
    """The network as PyTorch has it, through the same exporter."""

    def opaque(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = deform_conv(x, offset, mask, weight, x.new_zeros(weight.shape[0]))
        return out

    with mock.patch.object(decoder, "deform_conv2d", opaque):
        return trace.program(Logits(network), torch.zeros(1, 3, size, size)).model_proto


class Logits(nn.Module):
    """``network`` without its side outputs."""

    def __init__(self, network: BiRefNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.network(image)
        return out


def keep(record: Record, name: str, found: Cost) -> None:
    """Three measures of one graph."""
    record.add(f"{name} nodes", "nodes", "lower", [float(found.nodes)])
    record.add(f"{name} multiply-adds", "GMAC", "lower", [found.gmac])
    record.add(f"{name} bytes, nothing fused", "GB", "lower", [found.gigabytes])


if __name__ == "__main__":
    sys.exit(main())
