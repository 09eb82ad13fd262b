"""One measurement, one JSON file under ``bench/results/``: the only writer of records.

A record keeps every sample, what was measured on, with which versions and files, and what could not
be measured and why, so that another run can be compared with it later.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from birefnet_export.contract import write_atomically

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
LIBRARIES = (
    "birefnet-trt",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "simplejpeg",
    "isal",
    "onnxruntime",
    "torch",
    "onnx",
)


@dataclass(frozen=True)
class Measure:
    """One quantity: ``unit`` such as ``s`` or ``MiB``; ``better`` is ``lower`` or ``higher``."""

    name: str
    unit: str
    better: str
    samples: list[float]

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher"):
            raise ValueError(f"better is lower or higher, not {self.better!r}")
        if not self.samples:
            raise ValueError(f"{self.name} has no sample: list it under missing, with the reason")

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)


@dataclass
class Record:
    """What one run found. ``missing`` maps what could not be measured to the reason."""

    name: str
    configuration: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, unit: str, better: str, samples: list[float]) -> Measure:
        """Keep a measure and return it."""
        measure = Measure(name, unit, better, samples)
        self.measures.append(measure)
        return measure

    def write(self, folder: Path = RESULTS) -> Path:
        """Write the record and return its path, named after the run, the machine and the time."""
        now = datetime.now(UTC)
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "time": now.isoformat(timespec="seconds"),
            "source": source(),
            "machine": machine(),
            "versions": versions(),
            "hashes": self.hashes,
            "configuration": self.configuration,
            "measures": [asdict(measure) for measure in self.measures],
            "missing": self.missing,
        }
        slug = re.sub(r"[^a-z0-9]+", "-", f"{self.name} {machine()['class']}".lower()).strip("-")
        path = folder / f"{slug}-{now:%Y%m%dT%H%M%SZ}.json"
        write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())
        return path


def source() -> dict[str, Any]:
    """Commit of the working tree, and whether it had changes."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain")
    return {"commit": commit, "clean": None if changes is None else changes == ""}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """CPU, cores and memory as read; no host name."""
    info = _read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info)
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return {
        "class": f"{cores}-core {platform.machine()} cpu",
        "cpu": name,
        "cores": cores,
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpu": _gpu(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _gpu() -> dict[str, str] | None:
    """Name, driver and clocks of the first NVIDIA GPU, or None without one."""
    fields = "name,driver_version,clocks.sm,clocks.mem"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    values = done.stdout.splitlines()[0].split(", ")
    return dict(zip(fields.split(","), values, strict=True))


def versions() -> dict[str, str]:
    """Versions of the libraries in the path that are installed."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def matmul_seconds(repeats: int = 5) -> list[float]:
    """Seconds of a 2048x2048 float32 product: the yardstick that makes CPU times comparable."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    _ = a @ a
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        _ = a @ a
        samples.append(time.perf_counter() - start)
    return samples
