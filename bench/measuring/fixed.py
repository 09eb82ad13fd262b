"""What stands for a model: a run takes a fixed time, and every answer is the same disc.

The standard library and numpy only, and Python 3.10's: every contestant's interpreter imports it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Fixed:
    """``seconds`` of a run and ``row_seconds`` of each of its pictures; ``batch``: rows it has;
    ``side``: of the square input in pixels."""

    seconds: float
    row_seconds: float = 0.0
    batch: int = 1
    side: int = 384

    def run_seconds(self, rows: int) -> float:
        """What a run of ``rows`` pictures takes."""
        return self.seconds + rows * self.row_seconds

    @property
    def limit(self) -> float:
        """Pictures per second when every run is full and follows the last at once."""
        return self.batch / self.run_seconds(self.batch)


class Clock:
    """Takes a run's time, one run at a time as a GPU would, without a core.

    ``turn``: a file that processes which share the executor lock; None for one process.
    """

    def __init__(self, fixed: Fixed, turn: str | None = None) -> None:
        self.fixed = fixed
        self._lock = threading.Lock()
        self._turn = None if turn is None else os.open(turn, os.O_RDWR | os.O_CREAT)

    def run(self, rows: int) -> None:
        """Return when the run is done."""
        with self._alone():
            time.sleep(self.fixed.run_seconds(rows))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self._turn is None:
                yield
                return
            fcntl.flock(self._turn, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._turn, fcntl.LOCK_UN)


def disc(side: int) -> Any:
    """float32 [side,side] in 0..1: a disc whose edge fades over an eighth of the side."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.clip(5 - 8 * np.hypot(line, line[:, None]), 0, 1).astype(np.float32)
