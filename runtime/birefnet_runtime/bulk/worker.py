"""Tasks -> outcomes, by one loaded model: in this process, or as a child of a batch.

As a child (``python -m birefnet_runtime.bulk.worker``) it reads lines of JSON from stdin: first
what to open, then tasks, as many as its parent likes. It answers on stdout: first how it was
opened, then an outcome for each task, in order. It ends when stdin does, at once where work is
left: its parent is gone then, and results that nobody commits are worth nothing.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from birefnet_runtime import animation
from birefnet_runtime.bulk.tasks import DONE, FAILED, Outcome, Task, digest
from birefnet_runtime.cutout import Cutout
from birefnet_runtime.decode import PictureSource
from birefnet_runtime.errors import (
    BirefnetError,
    ClosedError,
    InputError,
    LostDeviceError,
    OutputError,
    one_line,
)
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options

# Larger files are not held in memory. Of one picture within MAX_PIXELS there are none: 8 bytes per
# pixel, not compressed.
_MAX_BYTES = 1 << 31
# After these every other result fails in the same way.
_FATAL = (errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))
# Characters of an error that are kept.
_LONGEST = 500


class Worker:
    """Cuts out tasks' pictures by ``matting`` into files of ``suffix``."""

    def __init__(self, matting: Matting, options: Options, suffix: str) -> None:
        self._matting, self._options, self._suffix = matting, options, suffix

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """An outcome for each task, in order; some tasks are taken ahead.

        An error that has no name here, of a library say, costs the picture that raised it alone:
        those taken after it are done again. Raises LostDeviceError where the GPU is gone.
        """
        rest, again = iter(tasks), list[Task]()
        while True:
            turn = _Turn(self._options, self._suffix, chain(again, rest))
            try:
                yield from turn.run(self._matting)
                return
            except BirefnetError:
                raise
            except Exception as error:
                if not turn.items:
                    raise
                item, *others = turn.items.values()
                yield item.task, _failed(item, error)
                again = [other.task for other in others]


@dataclasses.dataclass
class _Item:
    """A task on its way."""

    task: Task
    known: dict[str, Any] = dataclasses.field(default_factory=dict)


class _Turn:
    """One stream. ``items``: tasks taken and not answered, by number, oldest first."""

    def __init__(self, options: Options, suffix: str, tasks: Iterator[Task]) -> None:
        self._options, self._suffix, self._tasks = options, suffix, tasks
        self.items: dict[int, _Item] = {}

    def run(self, matting: Matting) -> Iterator[tuple[Task, Outcome]]:
        """An outcome for each task; tasks are taken from the iterator in this thread."""
        results = matting.stream(self._sources(), self._options, errors="yield", work=self._save)
        for number, result in enumerate(results):
            if isinstance(result, LostDeviceError | ClosedError):
                raise result
            item = self.items.pop(number)
            if isinstance(result, BirefnetError):
                yield item.task, _failed(item, result)
            else:
                yield item.task, Outcome(item.task.name, DONE, **item.known)

    def _sources(self) -> Iterator[PictureSource]:
        for number, task in enumerate(self._tasks):
            item = self.items[number] = _Item(task)
            source = _read(item)
            # What is wrong with the file is found again, and reported, when it is decoded.
            with suppress(BirefnetError):
                frames = animation.count(source, self._options.max_pixels)
                if frames > 1:
                    item.known["remark"] = f"only the first of its {frames} frames is cut out"
            yield source

    def _save(self, number: int, cutout: Cutout) -> None:
        """Write the result to the task's part, and note what is known about it."""
        item = self.items[number]
        start = time.perf_counter()
        data = cutout.encode(self._suffix)
        _write(item.task.part, data)
        score = _plain(cutout.score)
        item.known.update(
            bytes=len(data),
            found=score.pop("found"),
            score=score,
            edge=cutout.edge,
            seconds=round(sum(cutout.timings.values()) + time.perf_counter() - start, 4),
        )


def _read(item: _Item) -> PictureSource:
    """The bytes of a task's picture, with their sha256 noted; its path where they are not to be
    had, for which ``decode`` then finds the words."""
    path = Path(item.task.source)
    try:
        if not path.is_file():
            return path
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            small = state.st_size <= _MAX_BYTES
            data = stream.read() if small else b""
        found = sha256(data).hexdigest() if small else digest(path)
    except (OSError, ValueError):
        return path
    item.known = {"sha256": found, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    return data if small else path


def _write(path: str, data: bytes) -> None:
    try:
        with Path(path).open("wb") as stream:
            stream.write(data)
    except OSError as error:
        Path(path).unlink(missing_ok=True)
        raise OutputError(f"the result cannot be written: {error.strerror or error}") from error


def _failed(item: _Item, error: BaseException) -> Outcome:
    reason = error.reason if isinstance(error, InputError) else one_line(error)
    if not isinstance(error, BirefnetError):
        reason = f"{type(error).__name__}: {reason}"
    cause = error.__cause__
    fatal = isinstance(cause, OSError) and cause.errno in _FATAL
    known = {name: item.known.get(name) for name in ("sha256", "size", "mtime_ns")}
    return Outcome(item.task.name, FAILED, **known, error=reason[:_LONGEST], fatal=fatal)


def _plain(value: Any) -> Any:
    """``value`` as JSON takes it: dataclasses as objects, numbers with 6 digits."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(inner) for key, inner in dataclasses.asdict(value).items()}
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    return round(float(value), 6)


# --- as a child


def main() -> int:
    """Serve one parent until stdin ends."""
    out = _claim_stdout()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    inbox = _Inbox(sys.stdin)
    setup = json.loads(inbox.first())
    try:
        matting = Matting.open(**_tuples(setup["model"]))
        worker = Worker(matting, Options(**_tuples(setup["options"])), setup["suffix"])
    except (BirefnetError, ImportError) as error:
        _send(out, {"kind": type(error).__name__, "error": one_line(error)})
        return 1
    with matting:
        try:
            _send(out, {"description": matting.describe(), "ahead": matting.ahead})
            _serve(worker, inbox, out)
        except BrokenPipeError:
            # The parent is gone.
            return 1
        except BirefnetError as error:
            print(f"birefnet: {one_line(error)}", file=sys.stderr)
            return 1
    return 0


def _serve(worker: Worker, inbox: _Inbox, out: Any) -> None:
    while inbox.wait():
        for _, outcome in worker.run(inbox.waiting()):
            inbox.answered()
            _send(out, dataclasses.asdict(outcome))


class _Inbox:
    """Tasks as they come in. ``waiting`` ends when none is there, so that a stream can end and the
    last results go out while the parent has nothing to hand over."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._next: Task | None = None
        self._open = 0
        self._lock = threading.Lock()

    def first(self) -> str:
        """The first line; from then on a thread reads."""
        line: str = self._stream.readline()
        threading.Thread(target=self._read, daemon=True).start()
        return line

    def wait(self) -> bool:
        """Wait for a task; False when there will be none."""
        self._next = self._queue.get()
        return self._next is not None

    def waiting(self) -> Iterator[Task]:
        """Tasks that are there."""
        task = self._next
        while task is not None:
            yield task
            try:
                task = self._queue.get_nowait()
            except Empty:
                return
        # The end was met: `wait` shall find it too.
        self._queue.put(None)

    def answered(self) -> None:
        """One task less is open."""
        with self._lock:
            self._open -= 1

    def _read(self) -> None:
        for line in self._stream:
            with self._lock:
                self._open += 1
            self._queue.put(Task.from_line(line))
        with self._lock:
            if self._open:
                os._exit(1)
        self._queue.put(None)


def _claim_stdout() -> Any:
    """A stream on stdout that no library can print into: what they print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return out


def _send(out: Any, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's arrays as the tuples that they were."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


if __name__ == "__main__":
    sys.exit(main())
