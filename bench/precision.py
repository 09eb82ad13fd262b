"""What FP16 costs, without a GPU: the typed graph emulated beside PyTorch's own half precision.

Distances are from float32 PyTorch, over fixed pictures and the photographs in ``examples/``; the
graph without its float32 islands is run too, to see what they are for. ``weights``: a checkpoint,
or ``swin_v1_t`` and ``swin_v1_l`` for the deterministic ones that the tests use.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet_export import checkpoint, graph
from birefnet_export.checkpoint import assemble
from birefnet_export.config import BACKBONES
from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD
from birefnet_export.fixed import FixedBiRefNet
from birefnet_export.half import run_half
from birefnet_export.nano.config import SIZE
from birefnet_export.network import BiRefNet
from birefnet_export.parity import Array, run_torch
from birefnet_export.pictures import fixed_pictures, normalise
from birefnet_export.typed import emulate
from birefnet_export.typed.layers import Choices
from birefnet_export.typed.network import typed_graph
from birefnet_export.typed.proof import Distance, distance
from record import ROOT, Record


def main() -> int:
    """Measure, print the table, write the record."""
    args = _arguments()
    network, digest = load(args.weights)
    record = Record(f"precision {Path(args.weights).stem} {args.size}", vars(args))
    record.hashes["weights"] = digest
    images = normalise(pictures(args.size, args.pictures), IMAGENET_MEAN, IMAGENET_STD)
    for name, found in measure(network, images).items():
        print(f"{name:24}{found.line()}", flush=True)
        for figure in ("mean", "p999", "max"):
            value = getattr(found, figure) * 255
            record.add(f"{name} alpha {figure}", "1/255", "lower", [value])
    record.missing["GPU"] = "the order of additions inside an operator is a GPU's own"
    print(f"record: {record.write()}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "weights", nargs="?", default="export/birefnet_export/nano/nano.safetensors"
    )
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--pictures", type=int, default=8)
    return parser.parse_args()


def load(weights: str) -> tuple[BiRefNet, str]:
    """The network and the sha256 of its weights ("deterministic" where they come from numbers)."""
    if weights in BACKBONES:
        sys.path.insert(0, str(ROOT / "tests"))
        from helpers import golden

        return assemble(BACKBONES[weights], golden.state(weights), weights), "deterministic"
    loaded = checkpoint.load(weights)
    return loaded.network, loaded.checkpoint.digest


def pictures(size: int, count: int) -> NDArray[np.uint8]:
    """``count`` pictures [count,size,size,3], the photographs first."""
    found = []
    for path in sorted((ROOT / "examples").glob("*.jpg"))[:count]:
        with Image.open(path) as image:
            found.append(np.asarray(image.convert("RGB").resize((size, size))))
    drawn = fixed_pictures(max(1, count - len(found)), size, size)
    return np.concatenate([np.stack(found), drawn])[:count]


def measure(network: BiRefNet, images: Array) -> dict[str, Distance]:
    """Distances from float32 PyTorch by what was run."""
    size = (images.shape[2], images.shape[3])
    expected = run_torch(network, images, 1)
    fixed = FixedBiRefNet(network, *size)
    found = {"PyTorch half": distance(expected, run_half(network, images, 1))}
    graphs = {"typed graph": Choices(), "without islands": Choices(islands=False)}
    with tempfile.TemporaryDirectory() as folder:
        for name, choices in graphs.items():
            model = typed_graph(fixed, 1, "precision", "fp16", graph.LOGITS, choices)
            path = emulate.save(emulate.emulate(model), Path(folder) / "emulated.onnx")
            logits = emulate.run(path, images, 1)
            found[name] = distance(expected, logits)
    return found


if __name__ == "__main__":
    sys.exit(main())
