"""Models that cost nothing: what is bright is foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime.errors import BirefnetError, ModelError
from birefnet_runtime.frame import Box, Floats, Frame, Rendered, Slot, View
from birefnet_runtime.host import HostBackend
from birefnet_runtime.options import Options
from birefnet_runtime.preprocess import Preprocess
from birefnet_runtime.refine import to_alpha


def contract(height: int, width: int, **values: Any) -> Contract:
    """Pixels reach the model as 0..1."""
    return Contract("bright", height, width, mean=(0, 0, 0), std=(1, 1, 1), **values)


@dataclass
class Bright:
    """An executor: alpha is the mean of the channels, raised a little so that white is 1."""

    contract: Contract
    device: str = "bright"
    runs: int = 0

    def run(self, slot: Slot) -> Floats:
        self.runs += 1
        return answer(slot.tensor[0])


def answer(row: Floats) -> Floats:
    """float32 [h,w] from float32 [3,h,w]."""
    bright: Floats = (row.mean(0) * np.float32(1.02)).astype(np.float32)
    return bright


@dataclass
class Seen:
    """What happened: the views of each run, in the order of its rows, and what was refused."""

    runs: list[list[View | None]] = field(default_factory=list)
    refined: list[int] = field(default_factory=list)
    finished: int = 0


class BrightBatch(HostBackend):
    """A backend with rows, which tells what it was asked for. ``bad``: runs that are not finite,
    counted from 0; their first row is refused."""

    batch = 4

    def __init__(self, height: int, width: int, bad: Sequence[int] = ()) -> None:
        executor: Any = Bright(contract(height, width, batch=self.batch))
        super().__init__(executor)
        self.seen, self._bad = Seen(), bad
        self._step = Preprocess(self.contract)
        self._views: list[View | None] = []

    def begin(self, slot: Slot) -> None:
        self._views = []

    def preprocess(self, slot: Slot, index: int, frame: Frame, view: View | None = None) -> None:
        assert index == len(self._views) < self.batch
        self._views.append(view)
        self._step.run(frame, Slot(slot.tensor[index : index + 1]), view)

    def infer(self, slot: Slot) -> Any:
        self.seen.runs.append(self._views)
        return [answer(row) for row in slot.tensor]

    def answers(self, slot: Slot, found: Any, count: int) -> list[Any]:
        rows: list[Any] = [np.clip(one, 0, 1) for one in found[:count]]
        if len(self.seen.runs) - 1 in self._bad:
            rows[0] = ModelError("not finite")
        return rows

    def refine(
        self, slot: Slot, found: Any, staged: Sequence[Any], options: Options, patient: bool
    ) -> list[Any]:
        results: list[Rendered | BirefnetError | None] = []
        for index, frame in enumerate(staged):
            if frame is None:
                results.append(None)
                continue
            self.seen.refined.append(index)
            alpha = to_alpha(np.clip(found[index], 0, 1), frame.size, frame.alpha)
            results.append(Rendered(frame.rgb, alpha))
        return results

    def finish(self, slot: Slot, frame: Frame, alpha: Any, options: Options) -> Rendered:
        self.seen.finished += 1
        return Rendered(frame.rgb, alpha)


def spot(size: tuple[int, int], box: Box, ground: int = 0) -> Any:
    """uint8 [H,W,3]: a white rectangle with a soft rim on a dark ground."""
    pixels = np.full((*size, 3), ground, np.uint8)
    rim = max(1, min(box.size) // 16)
    for step in range(rim):
        inner = Box(box.top + step, box.left + step, box.height - 2 * step, box.width - 2 * step)
        pixels[inner.slices] = ground + (255 - ground) * (step + 1) // rim
    return pixels
