"""A progress bar on stderr, for people only: nothing is drawn when stderr is no terminal."""

from __future__ import annotations

import sys
from typing import TextIO

_WIDTH = 30
_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """How many of ``total`` are done, on one line that is drawn over."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._done = 0
        self._active = total > 1 and self._stream.isatty()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self._draw()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.clear()
        print(text, file=self._stream, flush=True)
        self._draw()

    def clear(self) -> None:
        """Take the bar away."""
        if self._active:
            print(_CLEAR_LINE, end="", file=self._stream, flush=True)

    def _draw(self) -> None:
        if self._active:
            filled = "#" * (_WIDTH * self._done // self._total)
            bar = f"{_CLEAR_LINE}[{filled:.<{_WIDTH}}] {self._done}/{self._total}"
            print(bar, end="", file=self._stream, flush=True)
