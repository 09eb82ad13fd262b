"""A model that is held at its door."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from birefnet_runtime import Matting
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.host import HostBackend
from helpers.bright import contract

# Seconds in which anything that is going to happen here has happened.
SOON = 10.0


class Gate(HostBackend):
    """A model whose runs wait until they are let through."""

    def __init__(self) -> None:
        executor: Any = _Grey()
        super().__init__(executor)
        self.runs = 0
        self.entered, self.passes = threading.Semaphore(0), threading.Semaphore(0)
        self.matting = Matting(self)

    def infer(self, slot: Slot) -> Floats:
        self.entered.release()
        assert self.passes.acquire(timeout=SOON)
        self.runs += 1
        return super().infer(slot)

    def open(self, count: int = 1000) -> None:
        self.passes.release(count)

    def wait_for(self, runs: int) -> None:
        for _ in range(runs):
            assert self.entered.acquire(timeout=SOON)


class _Grey:
    device = "gate"
    contract = contract(32, 32)

    def run(self, slot: Slot) -> Floats:
        return np.ones((32, 32), np.float32)
