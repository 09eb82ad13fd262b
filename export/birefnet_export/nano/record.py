"""The record beside the weights: how they came to be and how good they are."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from birefnet_export.contract import sha256

from .config import MIRROR, SIZE
from .run import KEPT, SHARPER
from .sources import PACKAGES, listing
from .train import Plan, Progress

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "pillow", "safetensors")
# What a record repeats of the run before: its own "before" last, down to the random weights.
FORMER = ("plan", "minutes", "steps", "training_scenes", "parameters", "kept", "before")
INK = {"loss": (0, 0, 0), "IoU": (0, 90, 200), "MAE": (200, 60, 0)}


def write(
    file: Path,
    plan: Plan,
    progress: Progress,
    held_out: dict[str, dict[str, float | None]],
    scenes: int,
    parameters: int,
    start: Path | None = None,
) -> None:
    """Writes the record as JSON. Minutes are of training only; the scenes were made before.

    ``held_out`` is the score by kind of scene, and of "all", at ``size`` pixels and with the mirror
    image taken in, as ``mirror`` says; tests during the run are of the picture alone, at the size
    that they name. ``start`` are the weights that the run began with, None for random ones.
    """
    text = json.dumps(
        {
            "name": "nano",
            "plan": asdict(plan),
            "minutes": round(progress.spent / 60, 2),
            "steps": progress.step,
            "loss": round(progress.loss, 4),
            "tests": progress.tests,
            "size": SIZE,
            "mirror": MIRROR,
            "held_out": held_out,
            "training_scenes": scenes,
            "parameters": parameters,
            "before": None if start is None else before(start),
            "kept": None if start is None else KEPT,
            "sharper": None if start is None else SHARPER,
            "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": cpu()},
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES if present(name)},
            "debian": {
                name: {"version": package(name), "licence": licence}
                for name, licence in PACKAGES.items()
            },
            "sources": listing(),
        },
        indent=1,
    )
    file.write_text(text + "\n")


def before(start: Path) -> dict[str, Any]:
    """SHA-256 of the weights ``start``, and of the run that made them what ``FORMER`` names.

    This comes from the record beside the weights and is absent without one.
    """
    file = start.with_suffix(".json")
    former = json.loads(file.read_text()) if file.exists() else {}
    return {"sha256": sha256(start)} | {name: former[name] for name in FORMER if name in former}


def present(name: str) -> bool:
    """Whether a distribution is installed."""
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def cpu() -> str:
    """The processor's name as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "unknown"
    )


def package(name: str) -> str:
    """Version of an installed Debian package."""
    command = ["dpkg-query", "-W", "-f", "${Version}", name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def draw(file: Path, progress: Progress) -> None:
    """Loss, and IoU and MAE on held-out scenes, over the minutes, as a small PNG."""
    width, height = 800, 320
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    last = max(progress.spent, 1.0)
    top = max(loss for _, loss in progress.curve)
    lines = {
        "loss": [(t, loss / top) for t, loss in progress.curve],
        "IoU": [(t, iou) for t, _, iou, _ in progress.tests],
        "MAE": [(t, mae) for t, _, _, mae in progress.tests],
    }
    for row, (name, line) in enumerate(lines.items()):
        points = [(30 + t / last * (width - 40), (height - 20) * (1 - y)) for t, y in line]
        pen.line(points, fill=INK[name], width=2)
        pen.text((width - 250, 215 + 14 * row), caption(name, progress), fill=INK[name])
    for tenth in range(0, 11, 2):
        pen.text((4, (height - 20) * (1 - tenth / 10)), f"{tenth / 10:.1f}", fill="grey")
        minutes = f"{tenth * last / 600:.0f} min"
        # The first label begins at its tick, the last one ends there.
        left = 30 + tenth / 10 * (width - 40 - pen.textlength(minutes))
        pen.text((left, height - 14), minutes, fill="grey")
    canvas.save(file)


def caption(name: str, progress: Progress) -> str:
    """What a line's legend says."""
    if name == "loss":
        return f"loss, from {progress.curve[0][1]:.2f} to {progress.loss:.2f}"
    if not progress.tests:
        return ""
    iou, mae = progress.tests[-1][2:]
    return f"{name} of held-out scenes, at last {iou if name == 'IoU' else mae:.3f}"
