"""Ctrl-C and SIGTERM, once: end after the pictures in flight; twice: end now."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTE = b"birefnet: ending after the pictures in flight (once more: at once)\n"
# Seconds between two looks at whether to stop.
_LOOK = 0.1


class Stop:
    """Whether to stop. As a context, in the main thread, it listens to the two signals."""

    def __init__(self) -> None:
        self._asked = 0
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self._asked != 0

    @property
    def status(self) -> int:
        """What a shell reports for a process that the signal ended."""
        return 128 + self._asked

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Stop for signal ``number``; KeyboardInterrupt when that was asked before."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = number
        # A handler may run within a write to sys.stderr, which takes no second one.
        os.write(2, _NOTE)

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until there is a stop."""
        end = time.monotonic() + seconds
        while not self and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self.ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
