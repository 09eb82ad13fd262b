"""The runtime as a contestant: ``Matting`` on one device, from JPEG bytes to PNG bytes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from measuring.line import Answer, serve


class Ours:
    """One open model. Heavy modules are imported in ``open``, so that its time has them in it."""

    def __init__(self, backend: Any = None, matting: Any = None) -> None:
        """Both are made by ``open``."""
        self._backend, self._matting = backend, matting

    def open(self, request: dict[str, Any]) -> Answer:
        """Load the model; seconds of it, imports included, and what runs."""
        start = time.perf_counter()
        from birefnet_runtime.backend import Request, open_backend
        from birefnet_runtime.matting import Matting
        from birefnet_runtime.model import Overrides

        wanted = Request(
            request["device"],
            request["threads"],
            batch=request.get("batch"),
            provider=request.get("provider", "cuda"),
        )
        self._backend = open_backend(request["model"], Overrides(), wanted)
        self._matting = Matting(self._backend)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "about": self._matting.describe(), "libraries": {}}

    def cut(self, request: dict[str, Any]) -> Answer:
        """Seconds from the bytes of ``path`` to PNG bytes, by step; ``keep``: a file to write."""
        data, options = read(request["path"]), _options(request)
        start = time.perf_counter()
        cutout = self._matting.remove(data, options)
        encoding = time.perf_counter()
        png = cutout.encode(".png")
        end = time.perf_counter()
        if request.get("keep"):
            Path(request["keep"]).write_bytes(png)
        steps = {**cutout.timings, "encode": end - encoding}
        return {"seconds": end - start, "steps": steps, "bytes": len(png)}

    def forward(self, request: dict[str, Any]) -> Answer:
        """Seconds of the model alone on ``batch`` pictures that are already normalised; on a GPU
        by events too. There wall time has the upload and the resize in it."""
        backend, rows = self._backend, request["batch"]
        if rows != backend.batch:
            raise ValueError(f"this one runs {backend.batch} at a time, not {rows}")
        slot = backend.open_slots()[0]
        staged = self._stage()
        on_gpu = hasattr(backend, "seconds")
        start = time.perf_counter()
        backend.begin(slot)
        for row in range(rows):
            backend.preprocess(slot, row, staged)
        if not on_gpu:
            start = time.perf_counter()
        backend.infer(slot)
        gpu = backend.seconds(slot)["model"] if on_gpu else None
        return {"seconds": time.perf_counter() - start, "gpu": gpu}

    def _stage(self) -> Any:
        """A picture at the model's own size, numbers and not zeros, where ``preprocess`` reads."""
        import numpy as np

        from birefnet_runtime.frame import Frame

        contract = self._matting.contract
        shape = (contract.height, contract.width, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        return self._backend.stage(Frame(pixels, None, "bench"))

    def stream(self, request: dict[str, Any]) -> Answer:
        """Seconds for all of ``paths``, saved to the folder ``out`` while the next one runs."""
        out, options = Path(request["out"]), _options(request)

        def save(number: int, cutout: Any) -> None:
            cutout.save(out / f"{number}.png")

        start = time.perf_counter()
        count = sum(1 for _ in self._matting.stream(request["paths"], options, work=save))
        return {"seconds": time.perf_counter() - start, "count": count}


def _options(request: dict[str, Any]) -> Any:
    from birefnet_runtime.options import Options

    return Options(**request.get("options", {}))


@lru_cache(maxsize=1)
def read(path: str) -> bytes:
    """The bytes of a file, kept: reading is not what is measured."""
    return Path(path).read_bytes()


class Steps:
    """The four steps on the CPU one by one, for counting their instructions.

    Each is done once when the picture is opened, so that what a first call alone does is not
    counted. One thread, because a pool's waiting is counted as instructions too.
    """

    def open(self, request: dict[str, Any]) -> Answer:
        """Read the picture and run the steps; their names."""
        import cv2
        import numpy as np

        from birefnet_export.contract import Contract
        from birefnet_runtime import refine
        from birefnet_runtime.cutout import Cutout
        from birefnet_runtime.decode import decode
        from birefnet_runtime.frame import Slot
        from birefnet_runtime.options import Options
        from birefnet_runtime.preprocess import Preprocess

        cv2.setNumThreads(1)
        side = request["side"]
        contract = Contract("steps", side, side)
        data, slot, ready = read(request["path"]), Slot.create(contract.shape), Preprocess(contract)
        frame = decode(data, Options().max_pixels)
        # A disk whose edge fades, as mattes do.
        line = np.linspace(-1, 1, side, dtype=np.float32)
        small = np.clip(8 - 16 * np.hypot(line, line[:, None]), 0, 1).astype(np.float32)
        alpha = refine.to_alpha(small, frame.size)
        self._works: dict[str, Callable[[], object]] = {
            "decode": lambda: decode(data, Options().max_pixels),
            "preprocess": lambda: ready.run(frame, slot),
            "refine": lambda: refine.to_alpha(refine.activate(small, "none"), frame.size),
            "encode": lambda: Cutout(frame.rgb, alpha).encode(".png"),
        }
        for work in self._works.values():
            work()
        return {"steps": list(self._works)}

    def step(self, request: dict[str, Any]) -> Answer:
        """Run the step ``name`` once."""
        self._works[request["name"]]()
        return {}


def main() -> int:
    """Serve until stdin ends."""
    ours, steps = Ours(), Steps()
    return serve(
        {
            "open": ours.open,
            "cut": ours.cut,
            "forward": ours.forward,
            "stream": ours.stream,
            "open steps": steps.open,
            "step": steps.step,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
