"""The record beside the weights: how they came to be and how good they are."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from .evaluate import Score
from .train import Plan, Progress

LIBRARIES = ("torch", "numpy", "opencv-python-headless", "pillow", "safetensors")
DEBIAN = ("openclipart-png", "gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers")


def write(
    file: Path, plan: Plan, progress: Progress, score: Score, scenes: int, parameters: int
) -> None:
    """Writes the record as JSON. Minutes are of training only; the scenes were made before."""
    text = json.dumps(
        {
            "name": "nano",
            "plan": asdict(plan),
            "minutes": round(progress.spent / 60, 2),
            "steps": progress.step,
            "loss": round(progress.loss, 4),
            "held_out": asdict(score),
            "training_scenes": scenes,
            "parameters": parameters,
            "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "cpu": cpu()},
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES if present(name)},
            "debian": {name: package(name) for name in DEBIAN},
        },
        indent=1,
    )
    file.write_text(text + "\n")


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


def draw(file: Path, curve: list[tuple[float, float]]) -> None:
    """The loss over the minutes as a small PNG."""
    width, height = 640, 240
    canvas = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(canvas)
    last, top = max(curve[-1][0], 1.0), max(loss for _, loss in curve)
    points = [
        (10 + t / last * (width - 20), height - 20 - y / top * (height - 40)) for t, y in curve
    ]
    pen.line(points, fill=0, width=2)
    pen.text(
        (10, 4), f"loss {curve[0][1]:.2f} to {curve[-1][1]:.2f} in {last / 60:.0f} min", fill=0
    )
    canvas.save(file)
