"""The command line of the load bench, and who takes part."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birefnet_export.contract import BirefnetError
from birefnet_runtime.strips import cores
from measuring.fixed import Fixed
from measuring.serving.server import Rival
from measuring.serving.wire import Form
from record import RESULTS

PARTS = ("closed", "load", "nano", "batching", "soak")
OURS, NANO = "ours", "ours, nano"
LITSERVE, LITSERVE_2, REMBG = "litserve", "litserve, 2 workers", "rembg"
# Seconds after which servers may give a request up: far more than 64 callers of any of them wait.
_PATIENCE = 300
# No colours are estimated: rembg does not, and everyone is to do the same work.
_OURS = Form("/v1/remove?foreground=off")
# Long enough that two cores can decode, encode and ask beside it: some 60 ms of a core a request.
STUB = Fixed(0.1)


@dataclass(frozen=True)
class Wanted:
    """What to measure. ``fixed``: the stub of everyone; ``requests``: of a load in a round;
    ``soak``: those of the memory's part; ``queue``: what ours lets wait."""

    fixed: Fixed = STUB
    megapixels: float = 1.0
    connections: tuple[int, ...] = (1, 4, 16, 64)
    requests: int = 100
    paced: int = 300
    rounds: int = 2
    soak: int = 10_000
    queue: int = 64
    threads: int = cores()
    parts: tuple[str, ...] = PARTS
    litserve_python: str | None = None
    rembg_python: str | None = None
    results: Path = RESULTS

    def configuration(self) -> dict[str, Any]:
        """For a record: without what only this machine knows."""
        own = {"results", "litserve_python", "rembg_python", "fixed"}
        found = {name: value for name, value in vars(self).items() if name not in own}
        return {**found, "stub": vars(self.fixed)}


@dataclass(frozen=True)
class LineUp:
    """Makes the servers of a run; ``turn`` is the file by which processes share a stub."""

    wanted: Wanted
    turn: Path
    shared: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        limits = {"queue": self.wanted.queue, "batch": None, "wait": 0.0}
        shared = {"limits": limits, "patience": _PATIENCE, "threads": self.wanted.threads}
        object.__setattr__(self, "shared", shared)

    def ours(self, fixed: Fixed, name: str = OURS, **limits: Any) -> Rival:
        """The runtime's server round a stub."""
        mine = {**self.shared, "limits": {**self.shared["limits"], **limits}}
        return Rival(name, "ours", _OURS, {**mine, "stub": vars(fixed)})

    def nano(self) -> Rival:
        """The runtime's server with the embedded model on the CPU."""
        return Rival(NANO, "ours", _OURS, {**self.shared, "stub": None, "model": "nano"})

    def everyone(self) -> list[Rival]:
        """Ours and its rivals round the same stub."""
        wanted, stub = self.wanted, vars(self.wanted.fixed)
        request = {**self.shared, "stub": stub, "turn": str(self.turn)}
        found = [self.ours(wanted.fixed)]
        for workers, name in ((1, LITSERVE), (2, LITSERVE_2)):
            asked, form = {**request, "workers": workers}, Form("/cut", "request")
            absent = "" if wanted.litserve_python else _absent("litserve")
            found.append(Rival(name, "litserve_app", form, asked, wanted.litserve_python, absent))
        form = Form("/api/remove", "file", {"model": "bench"})
        absent = "" if wanted.rembg_python else _absent("rembg")
        found.append(Rival(REMBG, "rembg_app", form, request, wanted.rembg_python, absent))
        return found


def _absent(name: str) -> str:
    return f"not asked for: --{name}-python PYTHON, the interpreter of an environment that has it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    usual, stub = Wanted(), STUB
    add = parser.add_argument
    add("--seconds", type=float, default=stub.seconds, help="of one run of the stub")
    add("--row-seconds", type=float, default=stub.row_seconds, help="more for each picture of it")
    add("--batch", type=int, default=stub.batch, help="pictures that a run of the stub takes")
    add("--side", type=int, default=stub.side, help="of the stub's input, in pixels")
    add("--megapixels", type=float, default=usual.megapixels, help="of the picture")
    add("--connections", type=_numbers, default=usual.connections, help="1,4,16,64")
    add("--requests", type=int, default=usual.requests, help="measured of a load in a round")
    add("--paced", type=int, default=usual.paced, help="the same at 80 %% load")
    add("--rounds", type=int, default=usual.rounds)
    add("--soak", type=int, default=usual.soak, help="requests over which memory is watched")
    add("--queue", type=int, default=usual.queue, help="pictures that our server lets wait")
    add("--threads", type=int, default=usual.threads, help="of every library, in every server")
    add("--parts", type=_names, default=PARTS, help=f"some of {','.join(PARTS)}")
    add("--litserve-python", help="the Python of an environment with litserve: it takes part")
    add("--rembg-python", help="the same with rembg[cli,cpu]")
    add("--results", type=Path, default=usual.results, help="folder of the record")


def parse(args: argparse.Namespace) -> Wanted:
    """What the command line says; BirefnetError where it makes no sense."""
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown or not args.parts:
        raise BirefnetError(f"no part {', '.join(unknown)}: there are {', '.join(PARTS)}")
    counts = (*args.connections, args.requests, args.rounds, args.batch, args.queue, args.threads)
    # Fewer than ten have no tenths.
    if not args.connections or min(counts) < 1 or min(args.soak, args.paced) < 10:
        raise BirefnetError("counts are 1 or more, those of --soak and --paced 10 or more")
    if args.seconds + args.row_seconds <= 0:
        raise BirefnetError("a run of the stub takes some time: --seconds")
    return Wanted(
        Fixed(args.seconds, args.row_seconds, args.batch, args.side),
        args.megapixels,
        args.connections,
        args.requests,
        args.paced,
        args.rounds,
        args.soak,
        args.queue,
        args.threads,
        args.parts,
        args.litserve_python,
        args.rembg_python,
        args.results,
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in _names(text))
