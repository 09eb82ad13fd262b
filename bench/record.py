"""One measurement, one JSON file under ``bench/results/``: the only writer of records.

A record keeps every sample, what was measured on, with which versions and files, and what could not
be measured and why, so that another run can be compared with it later. It runs on Python 3.10 too.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
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
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "pycuda",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
    "torch",
    "torchvision",
    "triton",
    "onnx",
)
# Asked of nvidia-smi in this order: what decides how fast a GPU is, and how it was at that moment.
GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "pstate",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
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
    """What one run found.

    ``missing`` maps what could not be measured to the reason. ``findings``: what was found that is
    no sample. ``libraries``: versions of what ran in another interpreter. ``begun`` is when the
    record was made, in UTC; with the name and the machine it decides the file's name.
    """

    name: str
    configuration: dict[str, Any]
    hashes: dict[str, str] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    # datetime.UTC came with Python 3.11.
    begun: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def add(self, name: str, unit: str, better: str, samples: list[float]) -> Measure:
        """Keep a measure and return it."""
        measure = Measure(name, unit, better, samples)
        self.measures.append(measure)
        return measure

    def write(self, folder: Path = RESULTS) -> Path:
        """Write the record and return its path, named after the run, the machine and the time.

        May be called again as more is known: the file is replaced.
        """
        here = machine()
        data = {
            "schema": SCHEMA,
            "name": self.name,
            "time": self.begun.isoformat(timespec="seconds"),
            "source": source(),
            "machine": here,
            "versions": {**versions(), **self.libraries},
            "hashes": self.hashes,
            "configuration": self.configuration,
            "measures": [asdict(measure) for measure in self.measures],
            "missing": self.missing,
            "findings": self.findings,
        }
        slug = re.sub(r"[^a-z0-9]+", "-", f"{self.name} {here['class']}".lower()).strip("-")
        path = folder / f"{slug}-{self.begun:%Y%m%dT%H%M%SZ}.json"
        write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())
        return path


def source() -> dict[str, Any]:
    """Commit of the working tree, and whether it had changes.

    A copy of the tree without git is told by BIREFNET_COMMIT what it is a copy of.
    """
    commit = _git("rev-parse", "HEAD") or os.environ.get("BIREFNET_COMMIT") or None
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
    """CPU, cores, memory and GPU as read; no host name."""
    info = _read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info)
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = model[1].strip() if model else platform.processor() or platform.machine()
    gpu = read_gpu()
    kind = f"{cores}-core {platform.machine()} cpu"
    return {
        "class": f"{kind} {gpu['name']}" if gpu else kind,
        "cpu": name,
        "cores": cores,
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "gpu": gpu,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def read_gpu(fields: Sequence[str] = GPU_FIELDS) -> dict[str, str] | None:
    """``fields`` of the first NVIDIA GPU with their units, or None without one."""
    command = ["nvidia-smi", f"--id={gpu_id()}", f"--query-gpu={','.join(fields)}"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader"], capture_output=True, text=True, check=True
        )
        values = done.stdout.splitlines()[0].split(", ")
        return dict(zip(fields, values, strict=True))
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return None


def gpu_id() -> str:
    """What nvidia-smi calls the first GPU that CUDA shows: an index or a UUID."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


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
