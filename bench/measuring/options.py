"""The command line that ``bench.py`` and its three parts share, and the model that it names."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birefnet_export.contract import Contract, sha256
from birefnet_runtime import model as models
from birefnet_runtime.errors import OptionError
from birefnet_runtime.executor import Executor
from birefnet_runtime.options import Options
from measuring.pictures import SIZES
from record import RESULTS, ROOT

NANO_WEIGHTS = ROOT / "export" / "birefnet_export" / "nano" / "nano.safetensors"
# How foreground colours are made unless told otherwise: not at all, and the better estimate.
FOREGROUNDS = ("off", "ml")


@dataclass(frozen=True)
class Wanted:
    """What to measure, and how often.

    ``rounds`` are those at one megapixel; larger pictures take fewer. ``starts``: fresh processes
    for memory and the first call. ``passes``: over the mixed pictures. ``compiled``: also wait for
    torch.compile on a CPU.
    """

    model: str = models.NANO
    weights: str | None = None
    executors: tuple[str, ...] = ()
    foregrounds: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1,)
    sizes: tuple[int, ...] = tuple(SIZES)
    threads: int = 1
    rounds: int = 20
    starts: int = 3
    passes: int = 5
    pictures: int = 24
    rembg_python: str | None = None
    compiled: bool = False
    results: Path = RESULTS

    def rounds_of(self, megapixels: int) -> int:
        """Half of them at 12 megapixels, a third at 24, never fewer than 3 unless told so."""
        return max(round(self.rounds / (1 + megapixels // 12)), min(self.rounds, 3))

    def configuration(self) -> dict[str, Any]:
        """For a record: without what only this machine knows."""
        own = {"results", "rembg_python"}
        found = {name: value for name, value in vars(self).items() if name not in own}
        return {**found, "model": portable(self.model), "weights": portable(self.weights)}


def portable(value: str | None) -> str | None:
    """A path inside the clone, or its last name."""
    if value is None or not Path(value).exists():
        return value
    path = Path(value).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


@dataclass(frozen=True)
class Subject:
    """The model that every contestant runs. ``weights`` is None where PyTorch cannot take part.

    ``hashes``: sha256 of the files by name.
    """

    model: str
    path: Path
    contract: Contract
    weights: str | None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What a contestant that is not ours must know of the contract."""
        contract = self.contract
        return {
            "path": str(self.path),
            "width": contract.width,
            "height": contract.height,
            "mean": list(contract.mean),
            "std": list(contract.std),
            "activation": contract.activation,
            "mirror": contract.mirror,
        }


def find(wanted: Wanted) -> Subject:
    """The model's file, its complete contract and its weights; OptionError for other weights."""
    source = models.locate(wanted.model)
    contract = source.contract or Executor.open(source, "cpu").contract
    nano = str(NANO_WEIGHTS) if wanted.model == models.NANO and NANO_WEIGHTS.is_file() else None
    weights = wanted.weights or nano
    hashes = {source.path.name: sha256(source.path)}
    if weights is not None and Path(weights).is_file():
        hashes["weights"] = sha256(Path(weights))
        known = contract.checkpoint.get("sha256", hashes["weights"])
        if known != hashes["weights"]:
            raise OptionError(f"{weights} is not the file that {contract.name} was exported from")
    model = wanted.model if wanted.model == models.NANO else str(Path(wanted.model).resolve())
    return Subject(model, source.path.resolve(), contract, weights, hashes)


def offered(foregrounds: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``foregrounds`` that this runtime's Options takes."""
    make: Any = Options
    found = []
    for value in foregrounds:
        try:
            make(foreground=value)
        except (TypeError, OptionError):
            continue
        found.append(value)
    return tuple(found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every part."""
    usual = Wanted()
    add = parser.add_argument
    add("model", nargs="?", default=usual.model, help="nano, a model folder or an .onnx file")
    add("--weights", help="what it was exported from, for PyTorch (nano has its own)")
    add("--executors", type=_names, default=(), help="some contestants; default: all that work")
    add("--foreground", type=_names, default=None, help="off,ml: how Options makes colours")
    add("--batch", type=_numbers, default=usual.batches, help="1,4: of the model alone")
    add("--sizes", type=_numbers, default=usual.sizes, help="megapixels, of 1, 12 and 24")
    add("--threads", type=int, default=_cores(), help="of each contestant; default: one per core")
    add("--rounds", type=int, default=usual.rounds, help="at 1 megapixel; larger ones: fewer")
    add("--starts", type=int, default=usual.starts, help="fresh processes for memory")
    add("--passes", type=int, default=usual.passes, help="over the pictures of mixed sizes")
    add("--pictures", type=int, default=usual.pictures, help="of mixed sizes")
    add("--rembg-python", help="the Python of an environment with rembg: it takes part")
    add("--compile", action="store_true", help="torch.compile for a CPU too: takes minutes")
    add("--results", type=Path, default=usual.results, help="folder of the records")


def parse(args: argparse.Namespace) -> Wanted:
    """What the command line says; OptionError where it makes no sense."""
    foregrounds = offered(FOREGROUNDS) if args.foreground is None else args.foreground
    unknown = sorted(set(foregrounds) - set(offered(foregrounds)))
    if unknown:
        raise OptionError(f"Options has no foreground {', '.join(unknown)}: try off, ml or blur")
    if set(args.sizes) - set(SIZES) or not args.sizes:
        raise OptionError(f"--sizes are of {', '.join(map(str, SIZES))} megapixels")
    counts = (args.threads, args.rounds, args.starts, args.passes, args.pictures, *args.batch)
    if min(counts) < 1:
        raise OptionError("numbers of rounds, threads, pictures and rows are 1 or more")
    return Wanted(
        args.model,
        args.weights,
        args.executors,
        foregrounds,
        args.batch,
        tuple(sorted(args.sizes)),
        args.threads,
        args.rounds,
        args.starts,
        args.passes,
        args.pictures,
        args.rembg_python,
        args.compile,
        args.results,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _names(text))
