"""What a server and its processes hold and spend, as Linux counts it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds between two weighings: a weighing walks through every page that is held.
_STEP = 0.5


class Weight:
    """Memory and processor time of a process and of those that it started.

    Memory is the proportional set size: a page that several share is counted once. The part of it
    that is of files (libraries) depends on who else on the machine has them open.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def now(self) -> float:
        """MiB."""
        return sum(_mib(pid, "Pss") for pid in family(self._pid))

    def own(self) -> float:
        """MiB without what is of files: nobody else changes it."""
        return sum(_mib(pid, "Pss_Anon") for pid in family(self._pid))

    def cpu(self) -> float:
        """Seconds of all cores together."""
        return sum(_cpu(pid) for pid in family(self._pid))

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """MiB every _STEP seconds, and at the end, until the ``with`` is left."""
        found, over = list[float](), threading.Event()

        def watch() -> None:
            while not over.wait(_STEP):
                found.append(self.now())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            over.set()
            thread.join()
            found.append(self.now())


def family(pid: int) -> list[int]:
    """``pid`` and the processes below it that live."""
    found = [pid]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(number) for number in _read(children).split()]
    return found


def _mib(pid: int, kind: str) -> float:
    text = _read(Path(f"/proc/{pid}/smaps_rollup"))
    size = re.search(rf"^{kind}:\s*(\d+) kB", text, re.MULTILINE)
    return int(size[1]) / 1024 if size else 0.0


def _cpu(pid: int) -> float:
    """User and system time; the name before them may hold spaces and brackets."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    """Its text; nothing where the process has ended meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""
