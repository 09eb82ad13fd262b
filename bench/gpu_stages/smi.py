"""Clocks, power and use of the GPU while something runs, sampled by nvidia-smi."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import IO

from record import gpu_id

INTERVAL_MS = 200
# nvidia-smi's name -> (ours, unit, better).
FIELDS = {
    "utilization.gpu": ("GPU utilisation", "%", "higher"),
    "clocks.sm": ("SM clock", "MHz", "higher"),
    "power.draw": ("power", "W", "lower"),
    "temperature.gpu": ("temperature", "C", "lower"),
}
COMMAND = ("nvidia-smi", "--format=csv,noheader,nounits", f"--loop-ms={INTERVAL_MS}")


class Watch:
    """Samples between ``with`` and its end: ``samples`` by our name, [] where nothing was told.

    ``reason`` says why there is none. A watch never stops what it watches.
    """

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = (*command, f"--id={gpu_id()}", f"--query-gpu={','.join(FIELDS)}")
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None
        self.samples: dict[str, list[float]] = {name: [] for name, _, _ in FIELDS.values()}
        self.reason = ""

    def __enter__(self) -> Watch:
        # A file, not a pipe: nobody reads while it runs.
        self._file = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command, stdout=self._file, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self.reason = f"nvidia-smi does not start ({error.strerror})"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        if self._file is not None:
            self._file.seek(0)
            for line in self._file.read().decode(errors="replace").splitlines():
                self._take(line)
            self._file.close()
        if not self.reason and not any(self.samples.values()):
            self.reason = "nvidia-smi told nothing while it ran"

    def _take(self, line: str) -> None:
        """One line of numbers; "[N/A]" and a line cut short are passed over."""
        cells = line.split(", ")
        if len(cells) != len(FIELDS):
            return
        for (name, _, _), cell in zip(FIELDS.values(), cells, strict=True):
            with suppress(ValueError):
                self.samples[name].append(float(cell))
