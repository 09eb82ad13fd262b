"""What each edge mode gains, and what it costs: ``make bench-quality``.

Two settings, against exact alpha: an oracle that answers with the truth at the model's size, for
what a method loses whatever the model, also softened, and the model itself. Then time beside one
pass, and peak memory, for pictures of 0.3 to 100 megapixels, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from birefnet_export.contract import sha256
from birefnet_runtime import Matting, Options
from birefnet_runtime.frame import Bytes
from birefnet_runtime.model import locate
from outlines import hair, sheet
from outlines.hair import Scene
from outlines.judging import KEYS, LABELS, UNITS, Judge, around
from outlines.oracle import Oracle
from record import ROOT, Record, matmul_seconds

# Width x height: five at which a matting network of the time fades and then fails, full-frame
# cameras, and 12, 24 and 100 megapixels.
SIZES = (
    (640, 427),
    (1280, 853),
    (1920, 1274),
    (2240, 1488),
    (3840, 2544),
    (5472, 3648),
    (4000, 3000),
    (5656, 4242),
    (11552, 8664),
)
# Pixels from which a time is taken once, and no truth is drawn: figures would take minutes.
MANY = 50_000_000
# The scene of the costs, and the ways that are judged on it.
COAT, SHARE, SEED = "fur", 0.35, 1
JUDGED = ("single", "zoom", "tiles")
EDGES = ("single", "zoom", "tiles", "auto")
# Ways to a mask, hr apart: edge modes, and one pass with what can be done to its mask. The feather
# is the common recipe: a blur, then the middle of its levels.
WAYS: dict[str, dict[str, Any]] = {
    "single": {"edge": "single"},
    "zoom": {"edge": "zoom"},
    "tiles": {"edge": "tiles"},
    "guided": {"edge": "single", "guided": True},
    "feather": {"edge": "single", "feather": 0.8, "levels": (0.1, 0.9)},
}
# Height x width, share of the shorter side that the subject fills, seed.
TWELVE = (3000, 4000)
SCENES = (
    ("smooth", 0.35, 5),
    ("fur", 0.35, 1),
    ("wisps", 0.35, 2),
    ("smooth", 0.85, 6),
    ("fur", 0.85, 3),
    ("wisps", 0.85, 4),
)
SIDE, HR_SIDE = 1024, 2048
# Cells of the sheet.
SHOWN = ("single", "zoom", "tiles", "hr")


@dataclass
class Setting:
    """One model, and the ways it is tried: ``rows`` of scene, way, figures, seconds, remark."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Measure, print the tables, write the record and the sheet."""
    args = _arguments()
    source = locate(args.model)
    record = Record(
        f"quality {source.path.parent.name if source.contract else source.path.stem}",
        {
            "model": args.model,
            "rounds": args.rounds,
            "threads": args.threads,
            "sizes": args.sizes,
            "scenes": [list(one) for one in SCENES],
            "oracle": [SIDE, HR_SIDE],
        },
        {source.path.name: sha256(source.path)},
    )
    record.add("matmul 2048x2048 float32", "s", "lower", matmul_seconds())
    if not args.no_figures:
        print(figures(args, record), flush=True)
        record.write()
    if not args.no_cost:
        print(costs(args, record))
    print(f"record: {record.write()}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--rounds", type=int, default=3, help="of time, single and another in turn")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--lemur", type=Path, help="pymatting's data/lemur (CC0): picture, foreground and alpha"
    )
    parser.add_argument("--sheet", type=Path, default=ROOT / "out" / "quality" / "sheet.png")
    parser.add_argument("--sizes", nargs="*", type=_size, default=SIZES, help="WxH, for the costs")
    parser.add_argument("--no-figures", action="store_true")
    parser.add_argument("--no-cost", action="store_true")
    return parser.parse_args()


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def figures(args: argparse.Namespace, record: Record) -> str:
    """The tables of every setting; figures go into ``record``, cells into the sheet."""
    settings = {name: Setting(name) for name in ("oracle", "oracle softened", args.model)}
    cells: list[list[Bytes]] = []
    with Matting.open(args.model, "cpu", args.threads) as model:
        for scene in scenes(args, record):
            print(f"measuring {scene.name} ...", file=sys.stderr, flush=True)
            judge, spot = Judge(scene.alpha), _spot(scene)
            true = np.rint(scene.alpha * 255).astype(np.uint8)
            row = [sheet.cell(scene.rgb, spot, scene.name), sheet.cell(true, spot, "truth")]
            for name, way, matting in _ways(scene, model, args.model):
                found, alpha = _measure(scene, judge, matting, way)
                settings[name].rows.append(found)
                if found["way"] in SHOWN:
                    row.append(sheet.cell(alpha, spot, f"{name}: {found['way']}"))
            cells.append(row)
    sheet.write(cells, args.sheet)
    print(f"sheet: {args.sheet}", file=sys.stderr)
    for setting in settings.values():
        _keep(setting, record)
    return "\n\n".join(table(setting) for setting in settings.values())


def scenes(args: argparse.Namespace, record: Record) -> Iterator[Scene]:
    """The drawn scenes, and the lemur where its alpha is at hand."""
    for coat, share, seed in SCENES:
        yield hair.scene(coat, TWELVE, share, seed)
    if args.lemur is None:
        record.missing["lemur"] = "its alpha is not in this repository: --lemur FOLDER names it"
        return
    rgb, own, alpha = (
        cv2.imread(str(args.lemur / f"lemur{part}.png"), kind)
        for part, kind in (
            ("", cv2.IMREAD_COLOR),
            ("_foreground", cv2.IMREAD_COLOR),
            ("_alpha", cv2.IMREAD_GRAYSCALE),
        )
    )
    if rgb is None or own is None or alpha is None:
        raise SystemExit(f"{args.lemur} has not lemur.png, lemur_foreground.png, lemur_alpha.png")
    truth = np.asarray(alpha, np.float32) / np.float32(255)
    yield Scene("lemur", np.ascontiguousarray(rgb[..., ::-1], np.uint8), truth)
    # The same animal where the picture around it is 2.9 times as wide: the shape of 3:2 cameras.
    colours: Bytes = np.ascontiguousarray(own[..., ::-1], np.uint8)
    yield hair.placed("lemur, 35%", colours, truth, (1294, 2000), 7)


def _ways(scene: Scene, model: Matting, name: str) -> Iterator[tuple[str, str, Matting]]:
    """(setting, way, what runs it). The lemur is small: its oracle is too."""
    shrunk = min(1.0, max(scene.alpha.shape) / max(TWELVE))
    side, large = round(SIDE * shrunk), round(HR_SIDE * shrunk)
    for setting, sigma in (("oracle", 0.0), ("oracle softened", 1.0)):
        for way in WAYS:
            yield setting, way, Matting(Oracle(scene.alpha, side, sigma))
        yield setting, "hr", Matting(Oracle(scene.alpha, large, sigma))
    for way in WAYS:
        yield name, way, model


def _measure(
    scene: Scene, judge: Judge, matting: Matting, way: str
) -> tuple[dict[str, Any], Bytes]:
    # The larger oracle's one pass is what an HR model's would be.
    options = Options(**WAYS.get(way, WAYS["single"]), output="alpha", foreground="off")
    begun = time.perf_counter()
    cutout = matting.remove(scene.rgb, options)
    seconds = time.perf_counter() - begun
    row = {"scene": scene.name, "way": way, "done": cutout.edge, "seconds": seconds}
    return {**row, **judge.figures(cutout.alpha)}, cutout.alpha


def _spot(scene: Scene) -> tuple[int, int]:
    """(y, x) of the leftmost outline, half way down."""
    box = around(scene.alpha > 0.5, 0)
    return box.top + box.height // 2, max(0, box.left)


def _keep(setting: Setting, record: Record) -> None:
    for row in setting.rows:
        prefix = f"{setting.name}, {row['scene']}, {row['way']}"
        for key in KEYS:
            record.add(f"{prefix} {LABELS[key]}", UNITS[key], "lower", [row[key]])
        record.findings[prefix] = row["done"]


def table(setting: Setting) -> str:
    """Markdown: a row a scene and way."""
    titles = [f"{LABELS[key]} {UNITS[key]}" for key in KEYS]
    lines = [f"**{setting.name}**", "", _row(["scene", "way", *titles, "what was done"])]
    lines.append(_row(["---"] * (len(KEYS) + 3)))
    for row in setting.rows:
        cells = [_number(row[key]) for key in KEYS]
        lines.append(_row([row["scene"], row["way"], *cells, row["done"]]))
    return "\n".join(lines)


def costs(args: argparse.Namespace, record: Record) -> str:
    """Markdown: time, its ratio to one pass and memory, a row a size and mode."""
    titles = ["size", "MP", "edge", "seconds", "of single", "peak MiB", "to PNG", "what was done"]
    lines = ["**cost**", "", _row(titles), _row(["---"] * len(titles))]
    sized: list[Setting] = [Setting("oracle"), Setting(args.model)]
    with tempfile.TemporaryDirectory() as folder:
        for width, height in args.sizes:
            file = Path(folder) / f"{width}x{height}.jpg"
            large = _sized(args, record, (width, height), sized)
            cv2.imwrite(str(file), cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
            for edge in EDGES:
                lines += _cost_line(args, record, file, edge, (width, height))
            # What is known so far stays, whatever happens to the next.
            record.write()
            file.unlink()
    for setting in sized:
        _keep(setting, record)
    return "\n\n".join([*(table(setting) for setting in sized), "\n".join(lines)])


def _sized(
    args: argparse.Namespace, record: Record, size: tuple[int, int], settings: list[Setting]
) -> Bytes:
    """The scene of the costs, uint8 [H,W,3], in ``size`` (W, H); what the ways make of it goes into
    ``settings``: the oracle's, then the model's."""
    width, height = size
    if width * height >= MANY:
        record.missing[f"figures at {width}x{height}"] = "their truth would take minutes to draw"
        drawn = hair.scene(COAT, (1200, 1600), SHARE, SEED).rgb
        large = cv2.resize(drawn, size, interpolation=cv2.INTER_CUBIC)
        return np.asarray(large, np.uint8)
    scene = hair.scene(COAT, (height, width), SHARE, SEED)
    scene = Scene(f"{width}x{height}", scene.rgb, scene.alpha)
    print(f"judging {scene.name} ...", file=sys.stderr, flush=True)
    judge = Judge(scene.alpha)
    with Matting.open(args.model, "cpu", args.threads) as model:
        for way in JUDGED:
            for setting, matting in zip(
                settings, (Matting(Oracle(scene.alpha, SIDE)), model), strict=True
            ):
                setting.rows.append(_measure(scene, judge, matting, way)[0])
    return scene.rgb


def _cost_line(
    args: argparse.Namespace, record: Record, file: Path, edge: str, size: tuple[int, int]
) -> list[str]:
    """One row, or none where it failed: the record then has the reason."""
    width, height = size
    name = f"{width}x{height} {edge}"
    try:
        found = _cost(args, file, edge, width * height)
    except subprocess.CalledProcessError as error:
        record.missing[name] = f"its process ended with {error.returncode}"
        return []
    _keep_cost(record, name, found)
    return [_row([file.stem, f"{width * height / 1e6:.1f}", edge, *_cost_cells(found)])]


def _cost(args: argparse.Namespace, file: Path, edge: str, pixels: int) -> dict[str, Any]:
    print(f"measuring {file.stem} {edge} ...", file=sys.stderr, flush=True)
    rounds = args.rounds if pixels < MANY else 1
    words = [args.model, str(file), edge, str(rounds), str(args.threads)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bench")}
    done = subprocess.run(
        [sys.executable, "-m", "outlines.cost", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    pairs = zip(found["edge"], found["single"], strict=True)
    found["ratio"] = [edge / single for edge, single in pairs]
    return found


def _keep_cost(record: Record, prefix: str, found: dict[str, Any]) -> None:
    record.add(f"{prefix} time", "s", "lower", found["edge"])
    record.add(f"{prefix} time beside single", "", "lower", found["ratio"])
    record.add(f"{prefix} peak memory above the model", "MiB", "lower", [found["removed"]])
    record.add(
        f"{prefix} peak memory above the model, colours and PNG",
        "MiB",
        "lower",
        [found["saved"]],
    )
    record.findings[prefix] = found["done"]


def _cost_cells(found: dict[str, Any]) -> list[str]:
    seconds, ratio = (float(np.median(found[key])) for key in ("edge", "ratio"))
    memory = [f"{found[key]:.0f}" for key in ("removed", "saved")]
    return [f"{seconds:.2f}", f"{ratio:.2f}", *memory, found["done"]]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
