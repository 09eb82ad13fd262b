"""What this machine can do at most, in a process whose threads are set like the others'."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from measuring.line import Answer, serve
from record import matmul_seconds

# Larger than any cache here: what is copied is memory's rate.
COPIED = 128 << 20


class Yardstick:
    """Two rates: of float32 products, and of copies."""

    def open(self, request: dict[str, Any]) -> Answer:
        """Take the memory for copies, once touched."""
        start = time.perf_counter()
        self._threads = int(request["threads"])
        self._pool = ThreadPoolExecutor(self._threads)
        self._source = np.ones(COPIED, np.uint8)
        self._target = np.zeros(COPIED, np.uint8)
        return {"seconds": time.perf_counter() - start, "about": "NumPy", "libraries": {}}

    def matmul(self, request: dict[str, Any]) -> Answer:
        """Seconds of one 2048x2048 float32 product, after one that warms up."""
        (seconds,) = matmul_seconds(1)
        return {"seconds": seconds}

    def copy(self, request: dict[str, Any]) -> Answer:
        """Bytes read and written per second, every thread on a piece of its own."""
        edges = np.linspace(0, COPIED, self._threads + 1).astype(int)
        pieces = [slice(*pair) for pair in pairwise(edges)]
        start = time.perf_counter()
        list(self._pool.map(self._copy, pieces))
        return {"rate": 2 * COPIED / (time.perf_counter() - start)}

    def _copy(self, piece: slice) -> None:
        np.copyto(self._target[piece], self._source[piece])


def main() -> int:
    """Serve until stdin ends."""
    yardstick = Yardstick()
    return serve({"open": yardstick.open, "matmul": yardstick.matmul, "copy": yardstick.copy})


if __name__ == "__main__":
    sys.exit(main())
