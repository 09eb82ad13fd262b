"""A contestant in a process of its own, as the bench sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from birefnet_export.contract import BirefnetError
from record import ROOT


class ContestantError(BirefnetError):
    """A contestant cannot run here, or failed at what it was asked; the text says why."""


def threads_environment(threads: int) -> dict[str, str]:
    """This process's variables, and every library's number of threads.

    OpenBLAS and MKL decide on NumPy's products; OMP_NUM_THREADS is also what rembg reads.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads))}


class Child:
    """A running contestant; ``ask`` sends a request and waits for the answer.

    ``prefix`` goes before the interpreter, for valgrind. The process ends with the ``with``.
    """

    def __init__(
        self,
        module: str,
        threads: int,
        python: str = sys.executable,
        prefix: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        environment = {**threads_environment(threads), **(variables or {})}
        path = [str(ROOT / "bench"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(item for item in path if item)
        try:
            self._process = subprocess.Popen(
                [*prefix, python, "-m", f"measuring.{module}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            raise ContestantError(f"{python} does not start ({error.strerror})") from error

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to one request; ContestantError where it is an error or there is none."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"do": do, **request}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ContestantError(f"it ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContestantError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process; may be called again."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
