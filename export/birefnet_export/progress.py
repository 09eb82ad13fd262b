"""Step by step on stderr, with the time each took: an export of the large network takes minutes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Steps:
    """Numbered steps; on a terminal the running one counts its seconds."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self.total, self.number = total, 0
        self.stream = stream or sys.stderr

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step: a line with its seconds when it ends, however it ends."""
        self.number += 1
        start, label = time.perf_counter(), f"[{self.number}/{self.total}] {text}"
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(label, start, done), daemon=True)
        if self.stream.isatty():
            ticker.start()
        try:
            yield
        finally:
            done.set()
            if ticker.is_alive():
                ticker.join()
            end = "\r" if self.stream.isatty() else ""
            self._write(f"{end}{label}  {time.perf_counter() - start:.1f} s\n")

    def _tick(self, label: str, start: float, done: threading.Event) -> None:
        while not done.wait(0.5):
            self._write(f"\r{label}  {time.perf_counter() - start:.0f} s")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
