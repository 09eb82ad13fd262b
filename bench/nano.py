"""What is known of the embedded model, as one record: how good, how fast, and on a real matte.

    nano.py [--lemur FOLDER] [--rounds 20]

How good it is on held-out scenes is taken from ``nano.json``, the record beside its weights
(``make nano-eval`` finds it again). ``session.run`` is timed beside a 2048x2048 float32 product, in
turns. ``--lemur`` names pymatting's data/lemur (CC0), a photograph with its alpha.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from birefnet_export.contract import sha256
from birefnet_runtime import Matting
from birefnet_runtime.model import locate
from record import ROOT, Record, matmul_seconds

WEIGHTS = ROOT / "export" / "birefnet_export" / "nano" / "nano.safetensors"


def main() -> int:
    """Measure, print, write the record."""
    args = _arguments()
    model = locate("nano").path
    record = Record(
        "nano",
        {"threads": args.threads, "rounds": args.rounds, "lemur": args.lemur is not None},
        {WEIGHTS.name: sha256(WEIGHTS), model.name: sha256(model)},
    )
    record.findings["training"] = training()
    record.add("model.onnx", "MB", "lower", [model.stat().st_size / 1e6])
    speed(record, model, args)
    if args.lemur is None:
        record.missing["lemur"] = "its alpha is not in this repository: --lemur FOLDER names it"
    else:
        lemur(record, args.lemur, args.threads)
    for measure in record.measures:
        print(f"{measure.name}: {measure.median:.4g} {measure.unit}")
    print(f"record: {record.write()}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lemur", type=Path, help="folder of lemur.png and lemur_alpha.png")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def training() -> dict[str, object]:
    """Of the record beside the weights: time, steps, scenes, scores of held-out scenes by kind."""
    found = json.loads(WEIGHTS.with_name("nano.json").read_text(encoding="utf-8"))
    names = ("minutes", "steps", "training_scenes", "parameters", "machine", "held_out")
    return {name: found[name] for name in names}


def speed(record: Record, model: Path, args: argparse.Namespace) -> None:
    """Seconds of ``session.run`` for one picture and of the product, one after the other."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    image = np.random.default_rng(0).standard_normal(entry.shape, np.float32)
    session.run(None, {entry.name: image})
    runs: list[float] = []
    products: list[float] = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        session.run(None, {entry.name: image})
        runs.append(time.perf_counter() - start)
        products += matmul_seconds(1)
    record.add("session.run", "s", "lower", runs)
    record.add("matmul 2048x2048 float32", "s", "lower", products)
    record.configuration["input"] = list(entry.shape)


def lemur(record: Record, folder: Path, threads: int) -> None:
    """Mean and sum of the alpha's absolute error in 0..1; the sum in thousands, as is usual."""
    with Image.open(folder / "lemur_alpha.png") as image:
        truth = np.asarray(image.convert("L"), np.float64) / 255
    with Matting.open("nano", "cpu", threads) as matting:
        alpha = matting.remove(folder / "lemur.png").alpha
    error = np.abs(alpha.astype(np.float64) / 255 - truth)
    record.add("lemur MAE", "alpha", "lower", [float(error.mean())])
    record.add("lemur SAD", "thousands", "lower", [float(error.sum()) / 1e3])


if __name__ == "__main__":
    sys.exit(main())
