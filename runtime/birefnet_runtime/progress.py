"""How far a run of many pictures is, on stderr.

A terminal gets a bar that is drawn over. Elsewhere nothing is drawn, or, for long runs, a plain
line every half minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 30
_CLEAR_LINE = "\r\x1b[K"
# Seconds between two plain lines.
REPORT = 30.0


class Progress:
    """How many of ``total`` are done; with ``pace`` also how fast, and how long the rest takes."""

    def __init__(
        self,
        total: int,
        stream: TextIO | None = None,
        pace: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self._pace, self._clock = pace, clock
        self._done = 0
        # When the first was done, so that opening a model does not count, and the last.
        self._first = self._now = self._told = clock()
        terminal = self._stream.isatty()
        self._active = total > 1 and terminal
        self._plain = pace and not terminal

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self._now = self._clock()
        if self._done == 1:
            self._first = self._now
        self._draw()
        if self._plain and self._now - self._told >= REPORT:
            self._told = self._now
            self.say(f"birefnet: {self._state()}")

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
            filled = "#" * (_WIDTH * min(self._done, self._total) // self._total)
            bar = f"{_CLEAR_LINE}[{filled:.<{_WIDTH}}] {self._state()}"
            print(bar, end="", file=self._stream, flush=True)

    def _state(self) -> str:
        """``12/100``, with a pace ``12/100, 3.4/s, 26 s left``."""
        text = f"{self._done}/{self._total}" if self._total else f"{self._done}"
        elapsed = self._now - self._first
        if not self._pace or elapsed <= 0:
            return text
        rate = (self._done - 1) / elapsed
        text += f", {speed(rate)}"
        left = self._total - self._done
        return f"{text}, {duration(left / rate)} left" if left > 0 else text


def speed(rate: float) -> str:
    """``3.4/s``, or ``12/min`` where that says more. ``rate``: pictures per second."""
    return f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


def duration(seconds: float) -> str:
    """``26 s``, ``4 min``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
