"""What goes on, on stderr: a step with its seconds, and how far a long build is.

A terminal gets one line that is drawn over; a file or a pipe gets a line for each step, and one
every half minute while the builder works.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

_CLEAR_LINE = "\r\x1b[K"
_BAR = 24
# Seconds between two drawings on a terminal, and between two lines elsewhere.
TICK, REPORT = 0.5, 30.0
# Seconds that an interrupted builder gets to end its current step and hand over its timings.
GRACE = 60.0

T = TypeVar("T")


class Abandoned(KeyboardInterrupt):
    """Interrupted while TensorRT could not be stopped: its thread still runs in this process."""


@dataclass
class _Phase:
    """One phase of the builder: ``done`` of ``total`` steps, inside the phase ``parent``."""

    parent: str | None
    total: int
    done: int = 0


class Phases:
    """The builder's phases as TensorRT reports them, from any of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self.cancelled = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside the phase ``parent`` or, with None, at the top."""
        with self._lock:
            self._phases[name] = _Phase(parent, steps)

    def step(self, name: str, step: int) -> bool:
        """Step number ``step``, from 0, is done; whether the builder shall go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
            return not self.cancelled

    def finish(self, name: str) -> None:
        """A phase has ended, by itself or because the build was given up."""
        with self._lock:
            self._phases.pop(name, None)

    def cancel(self) -> None:
        """Let TensorRT give up at its next step."""
        with self._lock:
            self.cancelled = True

    def now(self) -> tuple[float, str] | None:
        """(share of the top phase that is done, the innermost phase's name), or None."""
        with self._lock:
            top = next((name for name, item in self._phases.items() if not item.parent), None)
            if top is None:
                return None
            return self._share(top), list(self._phases)[-1]

    def _share(self, name: str) -> float:
        """Done share of a phase; a phase inside it counts as its share of one step."""
        phase = self._phases[name]
        inner = [self._share(key) for key, item in self._phases.items() if item.parent == name]
        return min(1.0, (phase.done + min(1.0, sum(inner))) / max(1, phase.total))


class Screen:
    """Steps and notes on stderr. ``say`` and ``step`` are for one thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._write(f"{_CLEAR_LINE if self._terminal else ''}{text}\n")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """One step: a line with its seconds when it ends, also when it fails."""
        start = time.perf_counter()
        self._draw(text)
        ended = "failed after"
        try:
            yield
            ended = "took"
        finally:
            self.say(f"{text}: {ended} {clock(time.perf_counter() - start)}")

    def watch(self, text: str, work: Callable[[], T], phases: Phases, reports: bool) -> T:
        """The result of ``work``, which runs in a thread of its own while its progress is shown.

        So Ctrl-C arrives although C++ code runs. ``reports``: whether ``phases`` is fed, through
        which ``work`` can be stopped too; KeyboardInterrupt comes when it has ended, Abandoned
        when it cannot be made to.
        """
        job = _Job(work)
        start = shown = time.perf_counter()
        try:
            while not job.done.wait(TICK):
                elapsed = time.perf_counter() - start
                line = f"{text}: {_state(phases, reports)}{clock(elapsed)}"
                self._draw(line)
                if not self._terminal and time.perf_counter() - shown >= REPORT:
                    shown = time.perf_counter()
                    self.say(line)
        except KeyboardInterrupt:
            self._stop(job.done, phases, reports)
            raise
        return job.result()

    def _stop(self, done: threading.Event, phases: Phases, reports: bool) -> None:
        phases.cancel()
        if reports:
            self.say("stopping: TensorRT ends its current step ...")
            # A second Ctrl-C waits no longer.
            with suppress(KeyboardInterrupt):
                done.wait(GRACE)
        if not done.is_set():
            raise Abandoned

    def _draw(self, text: str) -> None:
        if self._terminal:
            self._write(f"{_CLEAR_LINE}{text}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _Job(Generic[T]):
    """``work`` in a thread of its own. ``done`` is told apart from the thread's own state, which
    Python before 3.13 gets wrong once a join was interrupted.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self.done = threading.Event()
        self._work = work
        self._box: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._box.append(self._work())
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        """What ``work`` returned, or its exception raised."""
        if self._error is not None:
            raise self._error
        return self._box[0]


def _state(phases: Phases, reports: bool) -> str:
    now = phases.now()
    if now is None:
        return "" if reports else "(this TensorRT reports no progress) "
    share, name = now
    filled = "#" * int(_BAR * share)
    return f"[{filled:.<{_BAR}}] {share:4.0%} {name[:40]}, "


def clock(seconds: float) -> str:
    """``8.3 s`` or ``3 min 12 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
