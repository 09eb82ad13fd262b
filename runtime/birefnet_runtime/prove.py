"""``python -m birefnet_runtime.prove``: what a plan computes, against PyTorch's alpha.

``birefnet-build`` runs it in a process of its own after each build, because a bad plan may take its
process down, and decides by its answer: one JSON object on stdout. It takes the path that pictures
take: kernels, engine, captured graph.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet_export.contract import REFERENCE_NAME, BirefnetError, Contract, ContractError, read
from birefnet_runtime.cuda import CudaBackend, Settings
from birefnet_runtime.device import open_device
from birefnet_runtime.errors import one_line
from birefnet_runtime.frame import Bytes, Floats, Frame
from birefnet_runtime.gpu import Device
from birefnet_runtime.plan import PRECISIONS, Plan

# The design's gate for fp32 (alpha, of 1): ONNX Runtime keeps to the same.
FP32_GATE = {"max": 1 / 255, "mean": 0.02 / 255}
# Rows of a batch go through the same kernels; a tactic that splits the batch may add in another
# order. A quarter of a level is far above that in fp16 and far below the known faults.
_ROWS = 0.25 / 255
_WARM, _TIMED = 5, 20


@dataclass(frozen=True, eq=False)
class Reference:
    """``image``: uint8 [N,H,W,3] RGB at the model's size. ``alpha``: float32 [N,H,W] in 0..1."""

    image: Bytes
    alpha: Floats

    @classmethod
    def read(cls, folder: Path, contract: Contract) -> Reference:
        """The reference in a model folder; ContractError where it does not fit the contract."""
        path = folder / REFERENCE_NAME
        try:
            with np.load(path, allow_pickle=False) as data:
                image, alpha = data["image"], np.asarray(data["alpha"], np.float32)
        except (OSError, KeyError, ValueError) as error:
            raise ContractError(
                f"{path} is not readable ({one_line(error)}): export the model again"
            ) from error
        size = (contract.height, contract.width)
        if image.shape != (len(image), *size, 3) or alpha.shape != (len(image), 1, *size):
            raise ContractError(f"{path} does not fit the contract: export the model again")
        return cls(np.ascontiguousarray(image), alpha[:, 0])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 0 when the plan ran, whether it passed or not, else 1."""
    args = _arguments(argv)
    try:
        contract = read(args.folder)
        gate = find_gate(contract, args.precision)
        reference = Reference.read(args.folder, contract)
        device = open_device()
        with device.active():
            data, kernels = args.plan.read_bytes(), args.kernels.read_bytes()
            build = f"birefnet-build {args.folder}"
            engine = Plan(data, contract, device, args.batch, build)
            backend = open_backend(device, engine, kernels, contract)
        figures = prove(backend, reference, gate)
    except (BirefnetError, ImportError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m birefnet_runtime.prove", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="MODEL", help="model folder")
    parser.add_argument("plan", type=Path, metavar="PLAN", help="the plan to be proved")
    parser.add_argument("--onnx", required=True, help="file that the plan was built from")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--precision", choices=PRECISIONS, required=True)
    parser.add_argument("--kernels", type=Path, required=True, metavar="CUBIN")
    return parser.parse_args(argv)


def find_gate(contract: Contract, precision: str) -> dict[str, float]:
    """What a plan of ``precision`` must keep to; ContractError where the export set no gate."""
    exported = contract.parity.get("tensorrt", {})
    if exported.get("precision") == precision and "gate" in exported:
        return {name: float(exported["gate"][name]) for name in ("mean", "p999")}
    if precision == "fp32":
        return FP32_GATE
    raise ContractError(
        f"{contract.name} has no gate for {precision} in its contract: "
        f"birefnet-export ... --precision {precision}"
    )


def open_backend(device: Device, engine: Any, kernels: bytes, contract: Contract) -> CudaBackend:
    """The plan in one slot; the device is active."""
    return CudaBackend(device, engine, kernels, contract, "tensorrt", Settings(slots=1))


def prove(backend: CudaBackend, reference: Reference, gate: dict[str, float]) -> dict[str, Any]:
    """The figures; the backend is closed afterwards."""
    (slot,) = backend.open_slots()
    try:
        found, finite = _run_all(backend, slot, reference)
        milliseconds = _time(backend, slot)
    finally:
        backend.close([slot])
    off = np.abs(np.concatenate([answers - reference.alpha[index] for index, answers in found]))
    figures = {"mean": float(off.mean()), "max": float(off.max())}
    figures["p999"] = float(np.quantile(off, 0.999))
    equal = all(bool((np.ptp(answers, axis=0) <= _ROWS).all()) for _, answers in found)
    kept = all(figures[name] <= limit for name, limit in gate.items())
    return {
        **figures,
        "finite": finite,
        "rows_equal": equal,
        "pictures": len(reference.image),
        "gate": gate,
        "passed": finite and equal and kept,
        "milliseconds": milliseconds,
    }


def _run_all(
    backend: CudaBackend, slot: Any, reference: Reference
) -> tuple[list[tuple[int, NDArray[np.float32]]], bool]:
    """Each picture's number and its alphas, float32 [rows,H,W], from every row of the batch."""
    pictures = [backend.stage(Frame(image, None, REFERENCE_NAME)) for image in reference.image]
    found, finite = defaultdict(list), True
    for shift in range(len(pictures)):
        order = [(row + shift) % len(pictures) for row in range(backend.batch)]
        backend.begin(slot)
        for row, number in enumerate(order):
            backend.preprocess(slot, row, pictures[number])
        backend.infer(slot)
        alphas, good = backend.alphas(slot, backend.batch)
        finite = finite and good
        for row, number in enumerate(order):
            found[number].append(alphas[row])
    return [(number, np.stack(answers)) for number, answers in sorted(found.items())], finite


def _time(backend: CudaBackend, slot: Any) -> list[float]:
    """Milliseconds of the engine alone, on the GPU's own clock."""
    samples = []
    for _ in range(_WARM + _TIMED):
        backend.begin(slot)
        backend.infer(slot)
        samples.append(backend.seconds(slot)["model"] * 1e3)
    return samples[_WARM:]


if __name__ == "__main__":
    sys.exit(main())
