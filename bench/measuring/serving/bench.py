"""What the parts of the load bench share: servers that do the same work, loads, what is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gpu_stages.timing import percentile
from measuring.child import Child, ContestantError
from measuring.part import say_of
from measuring.rounds import interleave
from measuring.serving.server import Rival, Server
from measuring.serving.wanted import LineUp, Wanted
from record import Record

Turn = dict[str, Any]
Turns = Mapping[str, Sequence[Turn]]
# Of paced requests, not kept: the queue has not yet found its length.
SKIP = 0.1
# Mean distance of alpha, in levels of 255, past which somebody does other work: rembg's Lanczos
# and its stretching of the mask stay below half a level.
_APART = 2.0


@dataclass(frozen=True)
class Bench:
    """What every part needs. ``picture`` is the file that the client sends first."""

    wanted: Wanted
    record: Record
    client: Child
    folder: Path
    line_up: LineUp
    picture: Path

    def start(self, rivals: Sequence[Rival], stack: ExitStack) -> dict[str, Server]:
        """Those of ``rivals`` that give the same cut-out as the first; the record says why others
        do not take part."""
        found: dict[str, Server] = {}
        first: Any = None
        for rival in rivals:
            say_of("start", f"{rival.name} ...")
            try:
                server = stack.enter_context(Server(rival, self.folder, self.wanted.threads))
                kept = self.folder / "answer.png"
                server.wait_ready(self.client, kept)
                alpha = alpha_of(kept.read_bytes())
                first = alpha if first is None else first
                self._judge(rival.name, alpha, first)
            except ContestantError as error:
                self.record.missing[rival.name] = str(error)
                continue
            found[rival.name] = server
        return found

    def _judge(self, name: str, alpha: Any, first: Any) -> None:
        if alpha.shape != first.shape:
            raise ContestantError(f"its cut-out has {alpha.shape} pixels, not {first.shape}")
        apart = float(np.abs(alpha.astype(float) - first).mean())
        self.record.findings.setdefault("alpha", {})[name] = apart
        if apart > _APART:
            raise ContestantError(f"its alpha is {apart:.1f} levels from the first one's")

    def ask(self, server: Server, do: str, **request: Any) -> Turn:
        """One load on one server: what the client found, memory and processor time."""
        before = server.weight.cpu()
        with server.weight.watched() as held:
            turn = self.client.ask(do, **server.address, **request)
        spent = server.weight.cpu() - before
        return {**turn, "peak": max(held), "cpu": spent / max(turn["answered"], 1)}

    def closed(self, server: Server, connections: int, requests: int) -> Turn:
        """``connections`` callers, and that many measured requests, two of each at least."""
        count = max(requests, 2 * connections)
        return self.ask(server, "closed", connections=connections, count=count)

    def paced(self, server: Server, arrivals: Sequence[float]) -> Turn:
        """A request at each of ``arrivals``."""
        skip = int(len(arrivals) * SKIP)
        return self.ask(server, "paced", arrivals=list(arrivals), skip=skip)

    def rounds(self, part: str, works: Mapping[str, Callable[[], Turn]]) -> None:
        """Interleave ``works`` and keep what they found."""
        turns = interleave(works, self.wanted.rounds, warm=0, say=partial(say_of, part))
        keep(self.record, part, turns)


def keep(record: Record, part: str, turns: Turns) -> None:
    """Rate, percentiles, memory and processor time of each round; who got nothing is missing."""
    for name, mine in turns.items():
        lost: dict[str, int] = {}
        for turn in mine:
            for what, count in turn["failed"].items():
                lost[what] = lost.get(what, 0) + count
        if lost:
            record.findings.setdefault("failed", {})[f"{part}: {name}"] = lost
        if not all(turn["latencies"] for turn in mine):
            record.missing[f"{part}: {name}"] = f"requests without an answer: {lost}"
            continue
        add = partial(_add, record, f"{part}: {name}", mine)
        add("rate", "1/s", "higher", lambda turn: len(turn["latencies"]) / turn["seconds"])
        for share in (50, 95, 99):
            add(f"p{share}", "s", "lower", partial(_percentile, share / 100))
        add("peak", "MiB", "lower", lambda turn: turn["peak"])
        add("cpu", "s", "lower", lambda turn: turn["cpu"])
        _note(record, "refused", part, name, sum(turn["refused"] for turn in mine))
        _note(record, "lag", part, name, round(max(turn["lag"] for turn in mine), 3))


def _note(record: Record, what: str, part: str, name: str, value: float) -> None:
    """Of little interest where it is nothing, as it should be."""
    if value:
        record.findings.setdefault(what, {})[f"{part}: {name}"] = value


def _add(
    record: Record,
    name: str,
    turns: Sequence[Turn],
    step: str,
    unit: str,
    better: str,
    value: Callable[[Turn], float],
) -> None:
    record.add(f"{name}: {step}", unit, better, [round(float(value(turn)), 6) for turn in turns])


def _percentile(share: float, turn: Turn) -> float:
    return percentile(turn["latencies"], share)


def alpha_of(png: bytes) -> Any:
    """uint8 [H,W]."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))[..., 3]
