"""How good the embedded model is, as one record: on held-out scenes, and on a real matte.

    nano.py [--lemur FOLDER]

The scores of held-out scenes are those of ``nano.json``, the record beside its weights (``make
nano-eval`` finds them again). ``--lemur`` names pymatting's data/lemur (CC0), a photograph with its
alpha. How fast it is, ``latency.py nano`` says.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from birefnet_export.contract import sha256
from birefnet_runtime import Matting
from birefnet_runtime.model import locate
from outlines.judging import Judge
from record import ROOT, Record

WEIGHTS = ROOT / "export" / "birefnet_export" / "nano" / "nano.safetensors"


def main() -> int:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lemur", type=Path, help="folder of lemur.png and lemur_alpha.png")
    args, model = parser.parse_args(), locate("nano").path
    hashes = {WEIGHTS.name: sha256(WEIGHTS), model.name: sha256(model)}
    record = Record("nano", {"lemur": args.lemur is not None}, hashes)
    record.findings["training"] = training()
    record.add("model.onnx", "MB", "lower", [model.stat().st_size / 1e6])
    if args.lemur is None:
        record.missing["lemur"] = "its alpha is not in this repository: --lemur FOLDER names it"
    else:
        lemur(record, args.lemur)
    for measure in record.measures:
        print(f"{measure.name}: {measure.median:.4g} {measure.unit}")
    print(f"record: {record.write()}")
    return 0


def training() -> dict[str, object]:
    """Of the record beside the weights: time, steps, scenes, scores of held-out scenes by kind.

    Time and steps are of all runs, each of which began with the weights of the one before.
    """
    found = json.loads(WEIGHTS.with_name("nano.json").read_text(encoding="utf-8"))
    runs, run = [], found
    while run:
        runs.append(run)
        run = run["before"]
    sums = {name: sum(run[name] for run in runs) for name in ("minutes", "steps")}
    names = ("training_scenes", "parameters", "machine", "held_out")
    return {"runs": len(runs)} | sums | {name: found[name] for name in names}


def lemur(record: Record, folder: Path) -> None:
    """Mean and sum of the alpha's absolute error in 0..1; the sum in thousands, as is usual."""
    with Image.open(folder / "lemur_alpha.png") as image:
        truth = np.asarray(image.convert("L"), np.float32) / np.float32(255)
    with Matting.open("nano", "cpu") as matting:
        thousands = Judge(truth).figures(matting.remove(folder / "lemur.png").alpha)["all"]
    record.add("lemur MAE", "alpha", "lower", [thousands * 1e3 / truth.size])
    record.add("lemur SAD", "thousands", "lower", [thousands])


if __name__ == "__main__":
    sys.exit(main())
