"""What TensorRT says while it works, kept so that an error can quote it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .errors import one_line

# TensorRT's own names of the severities that mean failure.
_FAILURES = ("INTERNAL_ERROR", "ERROR")


class Messages:
    """TensorRT's messages, from any of its threads. ``show`` gets each line; None: nobody does."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._failures: list[str] = []

    def add(self, severity: str, text: str) -> None:
        """One message with the name of its severity."""
        line = one_line(text)
        with self._lock:
            if severity in _FAILURES and line not in self._failures:
                # The first is the cause, the last the outcome; the rest follow from the first.
                self._failures = [*self._failures[:1], line]
            if self._show and severity != "VERBOSE":
                self._show(f"TensorRT {severity.lower()}: {line}")

    def cause(self) -> str:
        """The first failure and the last; "" when there was none."""
        with self._lock:
            return "; ".join(self._failures)
