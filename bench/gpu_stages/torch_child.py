"""PyTorch's side of the comparison; runs in whatever interpreter has torch, numpy being all else.

Writes OUT/results.jsonl, a line for each figure as soon as it is known, and OUT/alphas.npz.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from birefnet_export import contract as contracts
from birefnet_export import decoder, deform
from birefnet_export.config import BACKBONES
from birefnet_export.network import BiRefNet
from birefnet_export.pictures import normalise
from golden.fill import weights

try:
    torchvision_op: Any = import_module("torchvision.ops").deform_conv2d
except (ImportError, RuntimeError):
    # RuntimeError: a torchvision of another torch.
    torchvision_op = None
SDPA = "torch.nn.functional.scaled_dot_product_attention"
# Sides of the FP16 products: the first fits the caches, the second is what cuBLAS is best at.
SIDES = (4096, 8192)


class Book:
    """The file of results."""

    def __init__(self, out: Path) -> None:
        self._path = out / "results.jsonl"
        self._path.write_text("")

    def write(self, **line: Any) -> None:
        """Add one line."""
        with self._path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(f"  torch: {line.get('name', 'versions')} done", file=sys.stderr, flush=True)


def main() -> int:
    """Measure what was asked for; 1 and one line on stderr where there is no CUDA."""
    args = _arguments()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            "torch: this PyTorch sees no CUDA device: give another --torch-python", file=sys.stderr
        )
        return 1
    # Full float32 for the reference; the fastest algorithm for a shape that never changes.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    book = Book(args.out)
    book.write(libraries=_libraries())
    if args.what == "matmul":
        for side in SIDES:
            product(book, side, args)
    else:
        compare(book, args)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("matmul", *sorted(BACKBONES)))
    parser.add_argument("--folder", type=Path, help="model folder, for its contract and pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--warm", type=int, default=50)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--device", default="cuda", help="cpu tries the script out")
    return parser.parse_args()


def _libraries() -> dict[str, str]:
    found = {"torch": str(torch.__version__), "torch's CUDA": str(torch.version.cuda)}
    for name in ("torchvision", "triton"):
        if name in sys.modules:
            found[name] = str(sys.modules[name].__version__)
    if torch.cuda.is_available():
        found["cuDNN"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return found


def product(book: Book, side: int, args: argparse.Namespace) -> None:
    """FP16 square matrices of random numbers."""
    a, b = (torch.randn(side, side, device=args.device).half() for _ in range(2))
    out = torch.empty_like(a)
    times = measure(lambda: torch.mm(a, b, out=out), args.device, 10, 50)
    book.write(name=f"FP16 product {side}x{side}", operations=2 * side**3, **times)


def measure(work: Callable[[], Any], device: str, warm: int, samples: int) -> dict[str, Any]:
    """``gpu`` and ``wall`` seconds of each run; on a CPU only ``wall``."""
    found: dict[str, Any] = {"gpu": [], "wall": []}
    cuda = device == "cuda"
    if cuda:
        first, last = (_event() for _ in range(2))
        torch.cuda.synchronize()
    for number in range(warm + samples):
        start = time.perf_counter()
        if cuda:
            first.record()
            work()
            last.record()
            torch.cuda.synchronize()
        else:
            work()
        wall = time.perf_counter() - start
        if number >= warm:
            found["wall"].append(wall)
            if cuda:
                found["gpu"].append(first.elapsed_time(last) / 1e3)
    return found


class Comparison:
    """One network's variants, each timed on the first reference picture and run on all."""

    def __init__(self, book: Book, args: argparse.Namespace) -> None:
        self._book, self._args = book, args
        self._alphas: dict[str, Any] = {}
        sampling = "torchvision.ops.deform_conv2d" if torchvision_op else "this project's own"
        self._uses = {"deformable convolution": sampling, "attention": SDPA}

    def add(self, name: str, key: str, work: Callable[[Tensor], Tensor], x: Tensor) -> None:
        """Measure ``work``, whose alphas are kept as ``key``; why not, where it fails."""
        try:
            self._book.write(name=name, uses=self._uses, **self._measure(key, work, x))
        except Exception as error:
            # A variant that this PyTorch cannot run leaves the others be.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._book.write(name=name, missing=reason)

    def _measure(self, key: str, work: Callable[[Tensor], Tensor], x: Tensor) -> dict[str, Any]:
        args, cuda = self._args, self._args.device == "cuda"
        start = time.perf_counter()
        work(x[:1])
        if cuda:
            torch.cuda.synchronize()
        first = time.perf_counter() - start
        parts = [work(x[i : i + 1]).float().sigmoid().cpu().numpy() for i in range(len(x))]
        self._alphas[key] = np.concatenate(parts)
        np.savez(args.out / "alphas.npz", **self._alphas)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        times = measure(lambda: work(x[:1]), args.device, args.warm, args.samples)
        peak = torch.cuda.max_memory_allocated() if cuda else 0
        return {"first": first, "peak_bytes": peak, **times}


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def compare(book: Book, args: argparse.Namespace) -> None:
    """Times and alphas of the network in float32, in half, and compiled in half."""
    contract = contracts.read(args.folder)
    with np.load(args.folder / contracts.REFERENCE_NAME) as data:
        images = normalise(data["image"], contract.mean, contract.std)
    x = torch.from_numpy(images).to(args.device)
    network = load(args.what).to(args.device)
    half = copy.deepcopy(network).half()
    found = Comparison(book, args)
    sample(plain)
    with torch.inference_mode():
        found.add("PyTorch eager FP32", "fp32", network, x)
    # So that its memory does not count as the others'.
    network.cpu()
    x = x.half()
    with torch.inference_mode():
        found.add("PyTorch eager FP16", "fp16", half, x)
        sample(in_float)
        found.add("PyTorch eager FP16, float32 sampling", "fp16_sampled", half, x)
    sample(plain)
    with torch.no_grad():
        compiled = torch.compile(half, mode="max-autotune")
        found.add("torch.compile max-autotune FP16", "compiled", compiled, x)


def sample(form: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Let the network's deformable convolutions be computed by ``form`` from now on."""
    setattr(decoder, "deform_conv2d", form)  # noqa: B010


def plain(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """``birefnet_export.deform.deform_conv2d`` by torchvision, in the type of its inputs."""
    if torchvision_op is None:
        return deform.deform_conv2d(x, offset, mask, weight)
    out: Tensor = torchvision_op(x, offset, weight, padding=weight.shape[-1] // 2, mask=mask)
    return out


def in_float(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """The same, computed in float32 and rounded to the type of ``x``."""
    wide = [item.float() for item in (x, offset, mask, weight)]
    return plain(wide[0], wide[1], wide[2], wide[3]).to(x.dtype)


def load(backbone: str) -> nn.Module:
    """The network with the deterministic weights, float32, on the CPU, in eval mode."""
    network = BiRefNet(BACKBONES[backbone])
    state = {key: torch.from_numpy(value) for key, value in weights(backbone).items()}
    result = network.load_state_dict(state, strict=False)
    integers = {key for key, value in network.state_dict().items() if not value.is_floating_point()}
    absent = [key for key in result.missing_keys if key not in integers]
    if absent or result.unexpected_keys:
        raise SystemExit(f"torch: the weights of {backbone} lack {absent}: mend golden/fill.py")
    return network.eval().requires_grad_(False)


if __name__ == "__main__":
    sys.exit(main())
