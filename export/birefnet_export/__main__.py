"""``birefnet-export WEIGHTS OUT``: checkpoint to model folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from . import zoo
from .contract import PRECISIONS, BirefnetError, Contract

EPILOG = f"""WEIGHTS is a Hugging Face id such as {zoo.DEFAULT}, a folder with model.safetensors, a
.safetensors file, or a .pth file (read without executing it). OUT is the model folder to write."""


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    p = argparse.ArgumentParser("birefnet-export", description=__doc__, epilog=EPILOG)
    p.add_argument("weights", metavar="WEIGHTS")
    p.add_argument("out", metavar="OUT", type=Path)
    p.add_argument("--size", type=parse_size, help="1024 or HxW; default: the checkpoint's own")
    p.add_argument(
        "--batch",
        type=parse_batches,
        default=(1,),
        metavar="N[,N...]",
        help="pictures per run, fixed in the file; more than one number: TensorRT graphs for each",
    )
    p.add_argument(
        "--mirror",
        action="store_true",
        help="answer from three images of a picture: a little better, 2.5 times the work",
    )
    p.add_argument("--patch-order", choices=("auto", "new", "legacy"), default="auto")
    p.add_argument("--backbone", default="auto", help="auto reads it off the weights")
    p.add_argument("--head", choices=("alpha", "logits"), default="alpha")
    p.add_argument(
        "--target",
        type=lambda text: tuple(text.split(",")),
        default=("onnxruntime", "tensorrt"),
        metavar="onnxruntime,tensorrt",
        help="model.onnx, model.trt.onnx, or both (default)",
    )
    p.add_argument("--precision", choices=PRECISIONS, default="fp16", help="of model.trt.onnx")
    p.add_argument(
        "--compact",
        action="store_true",
        help="store the weights of model.onnx that float16 holds exactly in it: smaller, same bits",
    )
    p.add_argument(
        "--mask",
        choices=("adds", "constant"),
        default="adds",
        help="attention's bias and window mask in model.trt.onnx: two additions, or one constant",
    )
    p.add_argument("--release", metavar="ID", help="which released checkpoint a local file is")
    p.add_argument("--name", help="the name inside the contract")
    hub = p.add_argument_group("Hugging Face")
    hub.add_argument("--revision", help="branch, tag or commit")
    hub.add_argument("--token", help="for gated repositories; default: the stored login")
    hub.add_argument("--offline", action="store_true", help="use the local cache only")
    return p


def parse_size(text: str) -> tuple[int, int]:
    """``1024`` or ``HxW`` as (height, width)."""
    parts = text.lower().split("x")
    try:
        sides = [int(part) for part in parts]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor HxW such as 1440x2560")
    return sides[0], sides[-1]


def parse_batches(text: str) -> tuple[int, ...]:
    """``4`` or ``1,4`` as numbers; the first is the contract's."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number, nor numbers with commas"
        ) from None


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        contract = run(args)
    except BirefnetError as error:
        print(f"birefnet-export: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("birefnet-export: stopped; nothing was written", file=sys.stderr)
        return 130
    report(contract, args.out)
    return 0


def run(args: argparse.Namespace) -> Contract:
    """The export that ``args`` ask for. PyTorch is imported here: --help answers at once."""
    try:
        from .checkpoint import Hub
        from .export import ExportOptions, export
        from .typed.layers import Choices
    except ModuleNotFoundError as error:
        raise BirefnetError(
            f"{error.name} is not installed: pip install 'birefnet-trt[export,cpu]'"
        ) from error
    options = ExportOptions(
        size=args.size,
        batch=args.batch[0],
        batches=args.batch[1:],
        targets=args.target,
        precision=args.precision,
        compact=args.compact,
        choices=Choices(mask=args.mask),
        mirror=args.mirror,
        patch_order=args.patch_order,
        backbone=args.backbone,
        head=args.head,
        name=args.name,
        release=args.release,
        hub=Hub(args.revision, args.token, args.offline),
    )
    return export(args.weights, args.out, options)


def report(contract: Contract, out: Path) -> None:
    """Print what was written, for whom it is, and what to do with it."""
    print(
        f"{contract.name}: {contract.backbone}, {contract.height}x{contract.width}, patch order "
        f"{contract.patch_order}, licence {contract.licence}"
    )
    if figures := contract.parity.get("onnxruntime"):
        print(
            f"PyTorch against ONNX Runtime: alpha max {figures['alpha_max'] * 255:.5f}/255, mean "
            f"{figures['alpha_mean'] * 255:.6f}/255; logits max {figures['logits_max']:.2e}, mean "
            f"{figures['logits_mean']:.2e}"
        )
    if figures := contract.parity.get("tensorrt"):
        print(_typed_line(figures))
    if contract.notice:
        print(f"NOTE: {contract.notice}")
    print(f"wrote {out}; try: birefnet remove PHOTO.jpg --model {out}")


def _typed_line(figures: dict[str, Any]) -> str:
    emulated, half, cost = figures["emulated"], figures["half"], figures["cost"]
    beside = f" (PyTorch's own half precision: {half['mean'] * 255:.4f}/255)" if half else ""
    how = "emulated" if half else "in ONNX Runtime"
    return (
        f"PyTorch against the {figures['precision']} graph for TensorRT, {how}: alpha mean "
        f"{emulated['mean'] * 255:.4f}/255{beside}, 99.9 % of pixels within "
        f"{emulated['p999'] * 255:.3f}/255\n"
        f"graph: {cost['nodes']} nodes, {cost['gmac']:.1f} GMAC, {cost['gigabytes']:.2f} GB unfused"
    )


if __name__ == "__main__":
    sys.exit(main())
