"""Deterministic weights to a model folder; runs in the interpreter that has PyTorch and ONNX."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from birefnet_export.checkpoint import ORDER_KEY
from birefnet_export.contract import BirefnetError
from birefnet_export.export import ExportOptions, export
from golden.fill import weights


def main() -> int:
    """Export; 0, or 1 with one line on stderr."""
    args = _arguments()
    # Told to end, it leaves no weights behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    state = {key: torch.from_numpy(value) for key, value in weights(args.network).items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
        file = Path(folder) / f"{args.network}.safetensors"
        save_file(state, str(file), {ORDER_KEY: "new", "licence": "made from numbers"})
        del state
        options = ExportOptions(
            size=(args.size, args.size), targets=tuple(args.targets.split(",")), name=args.network
        )
        try:
            export(str(file), args.out, options)
        except BirefnetError as error:
            print(f"export: {error}", file=sys.stderr)
            return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("out", type=Path)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--size", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
