"""The runtime round a model of no cost, as a contestant: JPEG bytes to PNG bytes on the CPU."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.host import HostBackend
from birefnet_runtime.matting import Matting
from measuring.line import Answer, serve
from measuring.ours_child import Ours


class Free:
    """Stands for an executor: always the same answer, float32 [h,w] in 0..1, at once."""

    device = "cpu"

    def __init__(self, answer: Floats) -> None:
        height, width = answer.shape
        self.contract = Contract(name="free", height=height, width=width)
        self._answer = answer

    def run(self, slot: Slot) -> Floats:
        return self._answer.copy()


class OursForNothing(Ours):
    """``Ours``, whose model is the file ``answer`` of the request, from np.save."""

    def open(self, request: dict[str, Any]) -> Answer:
        """Make the Matting."""
        executor: Any = Free(np.load(request["answer"]))
        self._backend = HostBackend(executor)
        self._matting = Matting(self._backend)
        return {"seconds": 0.0, "about": "birefnet-trt", "libraries": {}}


def main() -> int:
    """Serve until stdin ends."""
    ours = OursForNothing()
    return serve({"open": ours.open, "cut": ours.cut})


if __name__ == "__main__":
    sys.exit(main())
