"""Where the time of one cut-out goes: ``make bench MODEL=``.

Stages of ``Matting.remove`` plus encoding, for photographs of 1, 12 and 24 megapixels as JPEG
bytes; load and first-call time; peak memory. Each size runs in a process of its own, so that its
peak is its own.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from birefnet_export.contract import sha256
from birefnet_runtime import Matting, Options
from birefnet_runtime.model import locate
from record import Record, matmul_seconds

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
# 4:3 pictures of 1, 12 and 24 megapixels, width x height.
SIZES = {1: (1152, 864), 12: (4000, 3000), 24: (5656, 4242)}
STAGES = ("decode", "preprocess", "model", "refine", "encode")


def main() -> int:
    """Measure, print the table, write the record."""
    args = _arguments()
    if args.child:
        print(json.dumps(measure(args.model, args.child, args.runs, args.threads)))
        return 0
    source = locate(args.model)
    record = Record(
        f"latency {source.path.parent.name if source.contract else source.path.stem}",
        {"model": args.model, "runs": args.runs, "threads": args.threads, "sizes": SIZES},
        {source.path.name: sha256(source.path)},
    )
    record.add("matmul 2048x2048 float32", "s", "lower", matmul_seconds())
    for megapixels in SIZES:
        print(f"measuring {megapixels} megapixels ...", file=sys.stderr, flush=True)
        keep(record, megapixels, _in_child(args, megapixels))
    for device in ("cuda", "tensorrt"):
        record.missing[device] = "this bench measures ONNX Runtime on the CPU so far"
    print(table(record))
    print(f"record: {record.write()}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--runs", type=int, default=7, help="samples per size after a warm-up")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--child", type=int, choices=SIZES, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_child(args: argparse.Namespace, megapixels: int) -> dict[str, Any]:
    command = [sys.executable, __file__, args.model, f"--child={megapixels}", f"--runs={args.runs}"]
    if args.threads:
        command.append(f"--threads={args.threads}")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(model: str, megapixels: int, runs: int, threads: int | None) -> dict[str, Any]:
    """Load time, first call, samples per stage in seconds, peak memory in MiB."""
    data = photograph(megapixels)
    start = time.perf_counter()
    matting = Matting.open(model, "cpu", threads)
    load = time.perf_counter() - start
    first, _ = run(matting, data)
    stages: dict[str, list[float]] = defaultdict(list)
    totals = []
    for _ in range(runs):
        total, timings = run(matting, data)
        totals.append(total)
        for stage, seconds in timings.items():
            stages[stage].append(seconds)
    # Linux gives the peak resident set in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"load": load, "first": first, "total": totals, "stages": stages, "peak": peak}


def photograph(megapixels: int) -> bytes:
    """JPEG bytes (quality 92): the dahlia enlarged, with grain so that it is no blur.

    Always this picture: how much of it is foreground decides what encoding costs.
    """
    with Image.open(EXAMPLES / "dahlia.jpg") as image:
        large = image.convert("RGB").resize(SIZES[megapixels], Image.Resampling.BICUBIC)
    pixels = np.asarray(large, np.int16)
    grain = np.random.default_rng(0).normal(0, 6, pixels.shape[:2]).astype(np.int16)
    noisy = np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=92)
    return stream.getvalue()


def run(matting: Matting, data: bytes) -> tuple[float, dict[str, float]]:
    """One cut-out from JPEG bytes to PNG bytes: total seconds, and seconds by stage."""
    start = time.perf_counter()
    cutout = matting.remove(data, Options())
    encoding = time.perf_counter()
    cutout.encode(".png")
    end = time.perf_counter()
    return end - start, {**cutout.timings, "encode": end - encoding}


def keep(record: Record, megapixels: int, result: dict[str, Any]) -> None:
    """Move one size's result into the record."""
    prefix = f"{megapixels} MP"
    for stage in STAGES:
        record.add(f"{prefix} {stage}", "s", "lower", result["stages"][stage])
    record.add(f"{prefix} total", "s", "lower", result["total"])
    record.add(f"{prefix} load", "s", "lower", [result["load"]])
    record.add(f"{prefix} first call", "s", "lower", [result["first"]])
    record.add(f"{prefix} peak memory", "MiB", "lower", [result["peak"]])


def table(record: Record) -> str:
    """Medians in milliseconds, a row a size, and the yardstick below."""
    median = {measure.name: measure.median for measure in record.measures}
    columns = (*STAGES, "total", "load", "first call")
    lines = ["".join(f"{title:>12}" for title in ("", *columns, "peak MiB"))]
    for megapixels in SIZES:
        cells = [median[f"{megapixels} MP {column}"] * 1e3 for column in columns]
        cells.append(median[f"{megapixels} MP peak memory"])
        lines.append(f"{megapixels:>9} MP" + "".join(f"{cell:>12.0f}" for cell in cells))
    yardstick = median["matmul 2048x2048 float32"] * 1e3
    lines.append(f"milliseconds, medians; beside a 2048x2048 float32 product of {yardstick:.0f} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
