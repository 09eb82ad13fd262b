"""Several worker processes, each with a model of its own: one per GPU, say.

A thread for each hands tasks to its process over a pipe and reads outcomes from another. A process
that dies is started again. The tasks that it had are then handed out one at a time, so that the
one that killed it is told from those beside it; it is tried once more alone, and has then failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any

from birefnet_runtime import errors
from birefnet_runtime.bulk.tasks import FAILED, Outcome, Task
from birefnet_runtime.errors import BirefnetError, DeviceError

# The child finds the package where its parent did, and nothing in the folder that it is started in.
_CODE = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from birefnet_runtime.bulk.worker import main; sys.exit(main())"
)
# Seconds that a process gets to end by itself.
_PATIENCE = 30.0


Announce = Callable[[str], object]


@dataclass(frozen=True)
class Setup:
    """What a worker process opens: arguments of ``Matting.open`` and of ``Options``, the results'
    suffix, and changes to its environment."""

    model: Mapping[str, Any]
    options: Mapping[str, Any]
    suffix: str
    environment: Mapping[str, str]


class Crew:
    """One process for each of ``setups``, started when they are first needed.

    ``announce`` is told once how the first of them runs its model.
    """

    def __init__(self, setups: Iterable[Setup], announce: Announce | None = None) -> None:
        self._hands = [_Hand(setup) for setup in setups]
        self._hands[0].announce = announce

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """An outcome for each task, as they come. ``tasks`` is used in threads, one at a time.

        Raises what kept a process from opening its model.
        """
        shared, found = _Shared(tasks), SimpleQueue[Any]()
        for hand in self._hands:
            threading.Thread(target=hand.drive, args=(shared, found), daemon=True).start()
        left = len(self._hands)
        failure: BaseException | None = None
        while left:
            item = found.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                failure = failure or item
                shared.end()
            else:
                yield item
        if failure is not None:
            raise failure

    def close(self, now: bool = False) -> None:
        """End the processes: when they have given back what they hold, or ``now``."""
        for hand in self._hands:
            hand.dismiss(now)


class _Shared:
    """An iterator that threads share, and that can be cut short."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = iter(tasks)
        self._lock = threading.Lock()
        self._ended = False

    def take(self) -> Task | None:
        with self._lock:
            return None if self._ended else next(self._tasks, None)

    def end(self) -> None:
        self._ended = True


class _Hand:
    """One place for a worker process, and the process that has it."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._child: subprocess.Popen[str] | None = None
        self._status: int | None = None
        self._dismissed = False
        # Tasks that the process has at a time; it says how many.
        self._ahead = 1
        self.announce: Announce | None = None

    def drive(self, shared: _Shared, found: SimpleQueue[Any]) -> None:
        """Take tasks and put outcomes until there are no more, then None; also what went wrong."""
        try:
            while lost := self._work(shared, found):
                for task in lost:
                    found.put((task, self._alone(task)))
        except BaseException as error:
            found.put(error)
        finally:
            found.put(None)

    def dismiss(self, now: bool) -> None:
        """End the process, as ``Crew.close`` says."""
        self._dismissed = True
        child, self._child = self._child, None
        if child is None:
            return
        if now:
            child.kill()
        with suppress(OSError):
            _stdin(child).close()
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _stdout(child).close()

    def _work(self, shared: _Shared, found: SimpleQueue[Any]) -> list[Task]:
        """Hand out tasks until there are no more; or those that a process had when it died."""
        flying: deque[Task] = deque()
        while True:
            while len(flying) < self._ahead and (task := shared.take()) is not None:
                flying.append(task)
                self._send(task)
            if not flying:
                return []
            outcome = self._receive()
            if outcome is None:
                return list(flying)
            found.put((flying.popleft(), outcome))

    def _alone(self, task: Task) -> Outcome:
        """The outcome of one of several tasks that a process had when it died."""
        self._send(task)
        outcome = self._receive()
        if outcome is not None:
            return outcome
        text = f"the worker process ended with status {self._status} on it"
        return Outcome(task.name, FAILED, error=text)

    def _send(self, task: Task) -> None:
        """Hand one task to the process, which is started where there is none."""
        child = self._child or self._start()
        # One that has just died takes nothing; `_receive` will see it.
        with suppress(BrokenPipeError):
            _stdin(child).write(task.to_line())
            _stdin(child).flush()

    def _receive(self) -> Outcome | None:
        """The next outcome, or None where the process died."""
        child = self._child
        if child is None:
            return None
        line = _stdout(child).readline()
        if line.endswith("\n"):
            return Outcome.from_line(line)
        self._bury(child)
        return None

    def _start(self) -> subprocess.Popen[str]:
        if self._dismissed:
            raise DeviceError("the worker processes were ended")
        child = subprocess.Popen(
            [sys.executable, "-c", _CODE, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",
            env={**os.environ, **self._setup.environment},
            # Ctrl-C is for the parent, which lets the pictures in flight end.
            start_new_session=True,
        )
        self._child = child
        with suppress(BrokenPipeError):
            _stdin(child).write(json.dumps(self._greeting()) + "\n")
            _stdin(child).flush()
        self._check(child, _stdout(child).readline())
        return child

    def _greeting(self) -> dict[str, Any]:
        setup = self._setup
        options = {name: _plain(value) for name, value in setup.options.items()}
        return {"model": dict(setup.model), "options": options, "suffix": setup.suffix}

    def _check(self, child: subprocess.Popen[str], line: str) -> None:
        """Note how the process runs its model; raises why it does not."""
        answer = json.loads(line) if line.endswith("\n") else {}
        if "description" in answer:
            self._ahead = answer["ahead"]
            if self.announce is not None:
                self.announce(answer["description"])
                self.announce = None
            return
        self._bury(child)
        if "error" in answer:
            kind = getattr(errors, answer["kind"], BirefnetError)
            raise kind(answer["error"])
        raise DeviceError(
            f"a worker process ended with status {self._status} while it opened the model: try "
            "without --workers and --gpus"
        )

    def _bury(self, child: subprocess.Popen[str]) -> None:
        self._status = child.wait()
        self._child = None
        with suppress(OSError):
            _stdin(child).close()
        _stdout(child).close()


def _stdin(child: subprocess.Popen[str]) -> IO[str]:
    assert child.stdin is not None
    return child.stdin


def _stdout(child: subprocess.Popen[str]) -> IO[str]:
    assert child.stdout is not None
    return child.stdout


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value
