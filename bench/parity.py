"""PyTorch against ONNX Runtime on photographs: ``make parity MODEL= [WEIGHTS=]``.

The same preprocessed picture goes through the PyTorch network and the model's ONNX file. Compared
are alpha at the model's size in float and the 8-bit mask at the picture's own size. Ends with 1
past the gate.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from birefnet_export import checkpoint
from birefnet_export.contract import Contract, ContractError, sha256
from birefnet_export.network import BiRefNet
from birefnet_export.parity import ALPHA_MAX, ALPHA_MEAN, sigmoid
from birefnet_runtime import refine
from birefnet_runtime.decode import decode
from birefnet_runtime.errors import BirefnetError
from birefnet_runtime.executor import Executor
from birefnet_runtime.frame import Slot
from birefnet_runtime.model import Source, locate
from birefnet_runtime.options import Options
from birefnet_runtime.preprocess import Preprocess
from record import Record

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
NANO = ROOT / "export" / "birefnet_export" / "nano" / "nano.safetensors"


def main() -> int:
    """Compare, print the table, write the record; 0 inside the gate."""
    args = _arguments()
    try:
        return run(args.model, args.weights, args.pictures)
    except BirefnetError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="nano", help="nano or a model folder")
    parser.add_argument("--weights", help="what was exported; default: nano's own, or the hub id")
    parser.add_argument("--pictures", type=Path, default=EXAMPLES, help="folder of pictures")
    return parser.parse_args()


def run(model: str, weights: str | None, folder: Path) -> int:
    """The comparison of ``model`` with the weights that its contract names."""
    source = locate(model)
    executor = Executor.open(source, "cpu")
    network = load(source, weights)
    pictures = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    gate = {"alpha max": ALPHA_MAX, "alpha mean": ALPHA_MEAN}
    record = Record(f"parity {executor.contract.name}", {"model": model, "gate": gate})
    record.hashes = {path.name: sha256(path) for path in (source.path, *pictures)}
    record.missing = {name: "no such executor yet" for name in ("cuda", "tensorrt")}
    print(f"{executor.contract.name}: PyTorch against ONNX Runtime, alpha in 1/255")
    print(f"{'picture':24}{'max':>10}{'mean':>12}{'8-bit max':>11}{'8-bit changed':>15}")
    passed = all([compare(path, network, executor, record) for path in pictures])
    verdict = "inside" if passed else "OUTSIDE"
    print(f"{verdict} the gate: max {ALPHA_MAX * 255:g}, mean {ALPHA_MEAN * 255:g}")
    print(f"record: {record.write()}")
    return 0 if passed else 1


def load(source: Source, weights: str | None) -> BiRefNet:
    """The PyTorch network behind ``source``, its file compared with the contract's sha256."""
    contract = source.contract
    if contract is None:
        raise ContractError(f"{source.path} has no contract: export it with birefnet-export")
    known = contract.checkpoint
    name = weights or (str(NANO) if contract.name == "nano" else known.get("name", ""))
    loaded = checkpoint.load(name, contract.patch_order)
    if loaded.checkpoint.digest != known.get("sha256"):
        raise ContractError(f"{name} is not the file that {contract.name} was exported from")
    return loaded.network


def compare(path: Path, network: BiRefNet, executor: Executor, record: Record) -> bool:
    """One picture: print and keep its figures; whether it is inside the gate."""
    contract: Contract = executor.contract
    frame = decode(path, Options().max_pixels)
    slot = Slot.create(contract.shape)
    Preprocess(contract).run(frame, slot)
    with torch.inference_mode():
        logits = network(torch.from_numpy(slot.tensor[:1])).numpy()[0, 0]
    first = sigmoid(logits).astype(np.float32)
    second = refine.activate(executor.run(slot), contract.activation)
    distance = np.abs(first.astype(np.float64) - second)
    masks = [refine.to_alpha(alpha, frame.size).astype(np.int16) for alpha in (first, second)]
    levels = np.abs(masks[0] - masks[1])
    changed = float((levels > 0).mean())
    record.add(f"{path.name} alpha max", "1", "lower", [float(distance.max())])
    record.add(f"{path.name} alpha mean", "1", "lower", [float(distance.mean())])
    record.add(f"{path.name} 8-bit max", "level", "lower", [float(levels.max())])
    record.add(f"{path.name} 8-bit changed", "share", "lower", [changed])
    print(
        f"{path.name:24}{distance.max() * 255:>10.5f}{distance.mean() * 255:>12.6f}"
        f"{levels.max():>11}{changed:>14.4%}"
    )
    return bool(distance.max() <= ALPHA_MAX and distance.mean() <= ALPHA_MEAN)


if __name__ == "__main__":
    sys.exit(main())
