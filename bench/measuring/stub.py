"""The runtime round a stub of fixed time: what is left is what serving costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Floats, Frame, Slot, View
from birefnet_runtime.host import SLOTS, HostBackend
from birefnet_runtime.matting import Matting
from measuring.fixed import Clock, Fixed, disc


@dataclass(frozen=True, eq=False)
class _Executor:
    """The part of an executor that ``HostBackend`` asks for."""

    contract: Contract
    device: str = "stub"

    def run(self, slot: Slot) -> Floats:
        raise AssertionError


class StubBackend(HostBackend):
    """Decodes, resizes and refines as on the CPU; the run between takes ``clock``'s time and gives
    each of its rows the same disc. A run may take several pictures, which ``HostBackend`` does
    not."""

    def __init__(self, clock: Clock) -> None:
        side = clock.fixed.side
        executor: Any = _Executor(Contract(name="stub", height=side, width=side))
        super().__init__(executor)
        self.batch = clock.fixed.batch
        self._clock, self._disc = clock, disc(side)
        self._rows: dict[Slot, int] = {}

    def open_slots(self) -> list[Slot]:
        _, *shape = self.contract.shape
        return [Slot.create((self.batch, shape[0], shape[1], shape[2])) for _ in range(SLOTS)]

    def begin(self, slot: Slot) -> None:
        self._rows[slot] = 0

    def preprocess(self, slot: Slot, index: int, frame: Frame, view: View | None = None) -> None:
        super().preprocess(Slot(slot.tensor[index : index + 1]), 0, frame, view)
        self._rows[slot] = index + 1

    def infer(self, slot: Slot) -> Floats:
        """float32 [h,w], the answer for every row."""
        self._clock.run(self._rows[slot])
        answer: Floats = self._disc
        return answer

    def answers(self, slot: Slot, answer: Floats, count: int) -> list[Floats]:
        return [answer.copy() for _ in range(count)]

    def refine(
        self, slot: Slot, answer: Floats, frames: list[Any], options: Any, patient: bool
    ) -> list[Any]:
        """A cut-out for each frame that is not None."""
        return [
            None
            if frame is None
            else super(StubBackend, self).refine(slot, answer, [frame], options, patient)[0]
            for frame in frames
        ]


def stub_matting(
    seconds: float,
    batch: int = 1,
    side: int = 384,
    row_seconds: float = 0.0,
    turn: str | None = None,
) -> Matting:
    """A Matting whose model takes ``seconds`` a run and ``row_seconds`` for each of its pictures,
    of which there are at most ``batch``. ``turn``: see ``Clock``."""
    return Matting(StubBackend(Clock(Fixed(seconds, row_seconds, batch, side), turn)))
