"""What an executor is, whatever runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from birefnet_runtime.frame import Bytes, Floats


@dataclass(frozen=True)
class Settings:
    """``threads`` of one run on the CPU, None for all; ``batch``: rows of the row check."""

    threads: int | None = None
    batch: int = 2


class Executor(Protocol):
    """Something that turns pictures at the model's size, uint8 [N,h,w,3], into alphas.

    ``precision``: ``fp32`` or ``fp16``, which decides its gate.
    """

    name: str
    detail: str
    precision: str

    def alphas(self, pictures: Bytes) -> Floats:
        """float32 [N,h,w], each picture run for itself."""

    def rows(self, pictures: Bytes, batch: int) -> Floats:
        """float32 [N,h,w], run ``batch`` at a time; Unavailable where it has no such batch."""

    def close(self) -> None:
        """Give back what it holds."""
