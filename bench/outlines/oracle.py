"""A model that is always right, at its size: what is left is what the method around it loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Box, Floats, Frame, Slot, View
from birefnet_runtime.host import HostBackend


@dataclass(frozen=True, eq=False)
class _Executor:
    """The part of an executor that ``HostBackend`` asks for."""

    contract: Contract
    device: str = "oracle"

    def run(self, slot: Slot) -> Floats:
        raise AssertionError


class Oracle(HostBackend):
    """Answers with the true alpha, averaged over the area of each of the model's pixels.

    It is told which view it sees, as no model is. ``sigma``: of a Gaussian in the model's pixels
    that follows, since models are softer than the truth.
    """

    def __init__(self, truth: Floats, side: int, sigma: float = 0.0) -> None:
        """``truth``: float32 [H,W] of the one picture; ``side``: of the square input."""
        executor: Any = _Executor(Contract(name=f"oracle {side}", height=side, width=side))
        super().__init__(executor)
        self._truth, self._sigma = truth, sigma
        self._view: View | None = None

    def preprocess(self, slot: Slot, index: int, frame: Frame, view: View | None = None) -> None:
        self._view = view

    def infer(self, slot: Slot) -> Floats:
        height, width = self.contract.height, self.contract.width
        answer = np.zeros((height, width), np.float32)
        whole = View(Box(0, 0, *self._truth.shape), Box(0, 0, height, width))
        view = self._view or whole
        part = self._truth[view.box.slices]
        answer[view.inner.slices] = average(part, view.inner.size)
        if self._sigma:
            answer = np.asarray(cv2.GaussianBlur(answer, (0, 0), self._sigma), np.float32)
        return answer


def average(plane: Floats, size: tuple[int, int]) -> Floats:
    """float32 of ``size`` (H, W): area averages, or bilinear along an axis that grows."""
    rows, columns = min(plane.shape[0], size[0]), min(plane.shape[1], size[1])
    small = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA)
    full = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32)
