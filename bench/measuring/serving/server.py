"""A server in processes of its own, as the bench sees it: started, asked, weighed, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from measuring.child import Child, ContestantError, threads_environment
from measuring.serving.weight import Weight
from measuring.serving.wire import Form
from record import ROOT

HOST = "127.0.0.1"
# Seconds for imports and a model on a busy machine, and for the last answers.
_START, _END = 120.0, 15.0


@dataclass(frozen=True)
class Rival:
    """One server: ``module`` is run by ``python`` (None: this one) with ``request``; ``form`` is
    how it wants pictures. ``absent``: why it cannot take part, known beforehand."""

    name: str
    module: str
    form: Form
    request: dict[str, Any] = field(default_factory=dict)
    python: str | None = None
    absent: str = ""


class Server:
    """A running server. It and the processes that it started end with the ``with``."""

    def __init__(self, rival: Rival, folder: Path, threads: int = 1) -> None:
        """ContestantError where it does not start; its output goes to a file in ``folder``."""
        if rival.absent:
            raise ContestantError(rival.absent)
        self.rival, self.port = rival, free_port()
        self._log = folder / f"{rival.name.replace(' ', '-')}.log"
        rooms = [str(ROOT / room) for room in ("bench", "runtime", "engine", "export")]
        environment = {**threads_environment(threads), "PYTHONPATH": os.pathsep.join(rooms)}
        request = json.dumps({**rival.request, "port": self.port})
        python = rival.python or sys.executable
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [python, "-m", f"measuring.serving.{rival.module}", request],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise ContestantError(f"{python} does not start ({error.strerror})") from error
        self.weight = Weight(self._process.pid)

    @property
    def address(self) -> dict[str, Any]:
        """What the client must know to ask it."""
        form = self.rival.form
        return {
            "host": HOST,
            "port": self.port,
            "path": form.path,
            "part": form.part,
            "fields": dict(form.fields),
        }

    def wait_ready(self, client: Child, keep: Path) -> None:
        """Ask until a picture is cut out, which goes to ``keep``; ContestantError where none is."""
        until, last = time.monotonic() + _START, "no answer"
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ContestantError(f"it ended with {self._process.returncode}: {self.said()}")
            try:
                status = client.ask("once", **self.address, keep=str(keep))["status"]
                if status == 200:
                    return
                last = f"status {status}: {keep.read_bytes()[:200]!r}"
                if status not in (503, 502):
                    break
            except ContestantError as error:
                last = str(error)
            time.sleep(0.2)
        raise ContestantError(f"it was not ready: {last}; {self.said()}")

    def said(self) -> str:
        """The last line of its output."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        """End it and what it started; may be called again."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END)
        # What a server leaves behind of its workers, too: they are of its session.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port
