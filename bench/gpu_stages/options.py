"""The command line of ``bench/gpu.py``. Standard library only, so that --help needs nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What must be importable: the three rooms, these scripts, and the tests' twins and weights.
ROOMS = ("engine", "runtime", "export", "bench", "tests")
NETWORKS = ("swin_v1_t", "swin_v1_l")
# In this order: what needs least comes first.
STAGES = ("device", "kernels", *NETWORKS, "pytorch", "stream")
EPILOG = """Each stage writes a record of its own under bench/results/, also when it fails half-way.
A build goes on where it was stopped: TensorRT's timing cache is kept. bench/README.md says what
each stage measures, and how to run them on a machine without network."""


@dataclass(frozen=True)
class Options:
    """What was asked for; field for field an option of the command line.

    ``warm`` and ``samples``: runs before and while it is timed. ``wait`` and ``torch_limit``:
    seconds that a build and PyTorch are waited for. ``prepare``: only export and build.
    """

    stages: tuple[str, ...] = STAGES
    networks: tuple[str, ...] = NETWORKS
    models: Path | None = None
    work: Path = ROOT / "out" / "gpu"
    results: Path = ROOT / "bench" / "results"
    export_python: str = ""
    torch_python: str = ""
    targets: str = "onnxruntime,tensorrt"
    size: int = 1024
    level: int = 5
    warm: int = 50
    samples: int = 300
    pictures: int = 100
    wait: float = 7200.0
    torch_limit: float = 3600.0
    small: bool = False
    detach: bool = False
    prepare: bool = False

    def arguments(self) -> list[str]:
        """The command line that says the same, without the stages."""
        found = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "stages" or value is None or value is False or value == "":
                continue
            flag = f"--{item.name.replace('_', '-')}"
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            found.append(flag if value is True else f"{flag}={text}")
        return found

    def alone(self, stage: str) -> Options:
        """The same for one stage."""
        return replace(self, stages=(stage,))

    def folder(self, network: str) -> Path:
        """The model folder of ``network``."""
        return (self.models or self.work / "models") / network


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options; ends the process where they make no sense, and after --help."""
    p = parser()
    args = p.parse_args(argv)
    args.stages = tuple(dict.fromkeys(args.stages)) or STAGES
    if unknown := [stage for stage in args.stages if stage not in STAGES]:
        p.error(f"no stage {unknown[0]}; known: {', '.join(STAGES)}")
    if (args.detach or args.prepare) and not (len(args.stages) == 1 and args.stages[0] in NETWORKS):
        p.error(f"--detach builds one network: give {' or '.join(NETWORKS)}")
    if min(args.warm, args.samples, args.pictures) < 1:
        p.error("--warm, --samples and --pictures are at least 1")
    for name in ("models", "work", "results"):
        path = getattr(args, name)
        setattr(args, name, path and path.absolute())
    return Options(**vars(args))


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    own = Options()
    p = argparse.ArgumentParser(
        "gpu.py",
        description="Measure everything that needs an NVIDIA GPU, one record a stage.",
        epilog=EPILOG,
    )
    p.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)}; default: all")
    _add_models(p, own)
    _add_effort(p, own)
    return p


def _add_models(p: argparse.ArgumentParser, own: Options) -> None:
    group = p.add_argument_group("networks")
    group.add_argument(
        "--networks",
        type=_networks,
        default=own.networks,
        metavar="NAME,...",
        help="what the stages pytorch and stream measure, where it was built; default: both",
    )
    group.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="model folders swin_v1_t, swin_v1_l exported elsewhere; default: export them here",
    )
    group.add_argument("--work", type=Path, default=own.work, help="for exports, builds, logs")
    group.add_argument("--results", type=Path, default=own.results, help="for records")
    group.add_argument(
        "--export-python",
        default="",
        metavar="PYTHON",
        help="an interpreter with torch, onnx and onnxruntime; default: this one",
    )
    group.add_argument(
        "--torch-python",
        default="",
        metavar="PYTHON",
        help="an interpreter with torch for CUDA; default: this one, or --export-python's",
    )
    group.add_argument(
        "--targets",
        default=own.targets,
        metavar="onnxruntime,tensorrt",
        help="what is exported; tensorrt alone is quicker, and ONNX Runtime is then not measured",
    )
    group.add_argument("--size", type=int, default=own.size, help="pixels of a side; default: 1024")


def _add_effort(p: argparse.ArgumentParser, own: Options) -> None:
    group = p.add_argument_group("effort")
    group.add_argument("--level", type=int, choices=range(6), default=own.level, help="of a build")
    group.add_argument("--warm", type=int, default=own.warm, help="runs before the timed ones")
    group.add_argument("--samples", type=int, default=own.samples, help="timed runs")
    group.add_argument("--pictures", type=int, default=own.pictures, help="in the stage stream")
    group.add_argument(
        "--small", action="store_true", help="leave out the kernels' cases of 12 megapixels"
    )
    group.add_argument(
        "--detach",
        action="store_true",
        help="start export and build in a session of their own and return; a later call goes on",
    )
    group.add_argument(
        "--wait", type=float, default=own.wait, metavar="SECONDS", help="for a build under way"
    )
    group.add_argument(
        "--torch-limit", type=float, default=own.torch_limit, metavar="SECONDS", help="for PyTorch"
    )
    group.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)


def _networks(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not set(found) <= set(NETWORKS):
        raise argparse.ArgumentTypeError(f"{text!r} is not among {', '.join(NETWORKS)}")
    return found
