"""Export and build of a network, in a process that outlives the one that asked for it.

The process holds a lock as long as it lives, so that a later call finds it, and writes a log, which
that call shows. What it has done is on the disk: a call after it has ended goes on from there.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from birefnet_engine.progress import GRACE
from birefnet_export.contract import FILE_NAME, read
from gpu_stages import interpreter
from gpu_stages.options import ROOT, Options
from gpu_stages.stage import PRECISION, Run, Say, StageError, Tools

_POLL = 0.5
_EXPORT = ROOT / "bench" / "gpu_stages" / "export_child.py"
# Processes that were started detached: nobody waits for them, and their objects must stay.
_STARTED: list[subprocess.Popen[bytes]] = []


class Build:
    """The build of one network under ``options.work``, which may be under way in any process."""

    def __init__(self, options: Options, tools: Tools, network: str) -> None:
        self.network = network
        self.lock = options.work / f"{network}.lock"
        self.log = options.work / f"{network}.log"
        self._command = [*tools.stage, network, "--prepare", *_plain(options)]

    def start(self) -> subprocess.Popen[bytes] | None:
        """Start it in a session of its own; None where it is under way already."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self.log.open("wb") as log:
                # The child inherits the lock, and it ends with the child.
                process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=interpreter.environment(sys.executable),
                    start_new_session=True,
                    pass_fds=(descriptor,),
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{process.pid}\n".encode(), 0)
        except BlockingIOError:
            return None
        finally:
            os.close(descriptor)
        return process

    def running(self) -> str | None:
        """The number of the process that is at it, or None."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(descriptor, 20, 0).decode().strip() or "unknown"
        finally:
            os.close(descriptor)
        return None

    def follow(self, limit: float, say: Say) -> None:
        """Show the log as it grows, until the process has ended.

        Raises StageError after ``limit`` seconds; the build then goes on.
        """
        shown, deadline = 0, time.monotonic() + limit
        while True:
            holder = self.running()
            shown = self._show(shown, say, ended=holder is None)
            if holder is None:
                return
            if time.monotonic() > deadline:
                raise StageError(
                    f"{self.network} is still being built by process {holder} after {limit:.0f} s "
                    f"({self.log}): run bench/gpu.py {self.network} again later"
                )
            time.sleep(_POLL)

    def last_line(self) -> str:
        """The end of the log."""
        lines = [line for line in self._text().splitlines() if line.strip()]
        return lines[-1] if lines else "its log is empty"

    def _show(self, shown: int, say: Say, ended: bool) -> int:
        """Say the log's lines from ``shown`` on that are complete; how many there are now."""
        lines = self._text().splitlines(keepends=True)
        if lines and not ended and not lines[-1].endswith("\n"):
            lines.pop()
        for line in lines[shown:]:
            say(f"  | {line.rstrip()}")
        return max(shown, len(lines))

    def _text(self) -> str:
        try:
            return self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""


def _plain(options: Options) -> list[str]:
    return [item for item in options.arguments() if item not in ("--detach", "--prepare")]


def detach(options: Options, tools: Tools, network: str, say: Say) -> None:
    """Start the build of ``network`` and return, or say that it is under way."""
    build = Build(options, tools, network)
    process = build.start()
    if process is None:
        say(f"{network} is being built by process {build.running()}: {build.last_line()}")
        return
    _STARTED.append(process)
    say(
        f"building {network} in process {process.pid}, log {build.log}\n"
        f"run bench/gpu.py {network} to see it through and measure"
    )


def ensure(stage: Run) -> None:
    """See that the network of ``stage`` is exported, built and proved, however far it is.

    A build that somebody detached is waited for. StageError where it cannot be done.
    """
    build = Build(stage.options, stage.tools, stage.name)
    process = build.start()
    if process is None:
        stage.say(f"waiting for process {build.running()}, which builds {stage.name}")
        build.follow(stage.options.wait, stage.say)
        # Whether it came to a good end is seen by doing what it left to be done, if anything.
        process = build.start()
        if process is None:
            raise StageError(f"{stage.name} is being built again by process {build.running()}")
    try:
        build.follow(stage.options.wait, stage.say)
    except KeyboardInterrupt:
        stage.say(f"stopping the build, process {process.pid}")
        process.terminate()
        _STARTED.append(process)
        raise
    except StageError:
        _STARTED.append(process)
        raise
    if process.wait() != 0:
        raise StageError(f"{stage.name} was not built ({build.last_line()}): see {build.log}")


def prepare(options: Options, tools: Tools, network: str, say: Say) -> None:
    """Export and build ``network``, whichever is still to be done: what the process does.

    Raises StageError.
    """
    folder = options.folder(network)
    if not _exported(options, folder):
        say(f"exporting {network} at {options.size}x{options.size} ...")
        python = interpreter.for_export(options)
        settings = [f"--targets={options.targets}", f"--size={options.size}"]
        if interpreter.run([python, str(_EXPORT), network, str(folder), *settings]):
            raise StageError(f"the export of {network} failed: what it said stands above")
    say(f"building {network} ...")
    effort = [f"--level={options.level}", f"--precision={PRECISION}"]
    # Told to end, birefnet-build finishes TensorRT's current step and keeps its timings.
    status = interpreter.run([*tools.build, str(folder), *effort], grace=GRACE + 30)
    if status:
        raise StageError(f"birefnet-build ended with {status}: what it said stands above")


def _exported(options: Options, folder: Path) -> bool:
    """Whether the model folder is there; StageError where it should be and is not."""
    if not (folder / FILE_NAME).is_file():
        if options.models is not None:
            raise StageError(
                f"{folder} holds no {FILE_NAME}: export the network there, or leave out --models"
            )
        return False
    # A folder from elsewhere is taken as it is.
    return options.models is not None or read(folder).height == options.size
