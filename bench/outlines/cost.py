"""Time and memory of one way at one size, in a process of its own.

python -m outlines.cost MODEL FILE EDGE ROUNDS
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import numpy as np

from birefnet_runtime import Matting, Options


def main() -> None:
    """Print seconds of ``single`` and of EDGE in turn, and the peak above the open model in MiB:
    for the outline alone, then with the foreground's colours and a PNG."""
    model, file, edge, rounds, threads = sys.argv[1:]
    with Matting.open(model, "cpu", int(threads)) as matting:
        # One run, so that the model has taken its memory.
        matting.remove(np.zeros((64, 64, 3), np.uint8), plain("single"))
        base = resident("VmHWM")
        seconds: dict[str, list[float]] = {"single": [], "edge": []}
        done = ""
        for _ in range(int(rounds)):
            for key, way in (("single", "single"), ("edge", edge)):
                begun = time.perf_counter()
                done = matting.remove(file, plain(way)).edge
                seconds[key].append(time.perf_counter() - begun)
        removed = resident("VmHWM") - base
        matting.remove(file, Options(edge=edge, foreground="ml")).encode(".png")
        saved = resident("VmHWM") - base
    print(json.dumps({**seconds, "done": done, "removed": removed, "saved": saved}))


def plain(edge: str) -> Options:
    """Nothing but the outline's resolution: the picture's own colours."""
    return Options(edge=edge, foreground="off")


def resident(name: str) -> float:
    """MiB of this process: ``VmHWM``, the most it has held so far."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "only Linux says it"
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
