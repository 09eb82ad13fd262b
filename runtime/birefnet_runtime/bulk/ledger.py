"""``manifest.jsonl``: what a batch has done, one line of JSON per picture, safe against kill -9.

A worker writes a result whole into the run's folder in ``OUT/.birefnet``. To commit it, the ledger
writes down what it is about to do (``intent``), renames the result onto its target, and appends the
line. Whenever the process ends, the next one finds either no intent, and the picture is done again;
or the intent, and finishes it. So no line is lost or repeated, and no target is ever half-written.

Lines are appended by one write each, and reach the disk (fsync) with the first line ``FLUSH``
seconds after the last time, and whenever there is nothing left to do. A power cut can cost the
lines of those seconds, whose pictures are done again; a result that the disk lost is noticed by its
size. A torn last line is dropped.

The last line about a picture counts. ``source`` and ``target`` are paths below IN and OUT,
``model`` and ``options`` fingerprints of what the result was made with, ``time`` when, in UTC.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from birefnet_runtime.bulk.lock import Lock
from birefnet_runtime.bulk.marks import Marks
from birefnet_runtime.bulk.tasks import DONE, FAILED, Outcome, Task, digest
from birefnet_runtime.bulk.tree import Shard
from birefnet_runtime.errors import OutputError

FOLDER = ".birefnet"
# Seconds.
FLUSH = 5.0
_BLOCK = 1 << 20
_FIELDS = ("status", "target", "sha256", "size", "mtime_ns", "bytes", "model", "options", "time")


@dataclass(frozen=True)
class Entry:
    """What is kept of a line."""

    status: str
    target: str
    sha256: str | None
    size: int | None
    mtime_ns: int | None
    bytes: int | None
    model: str
    options: str
    time: str


class Ledger:
    """The manifest of ``out``, or of one shard of it, and the commit of results.

    Holds a lock, so that no two batches write one OUT: a whole one excludes all others, a shard its
    like. ``remarks``: what was found wrong and put right. Use as a context; OutputError where OUT
    cannot be written or is in use.
    """

    def __init__(self, out: Path, marks: Marks, shard: Shard | None = None) -> None:
        self._out, self._marks, self._shard = out, marks, shard
        self._label = f"shard-{shard.label}" if shard else "all"
        self._folder = out / FOLDER
        self._run, self._count = self._folder / self._label / secrets.token_hex(4), 0
        self.entries: dict[str, Entry] = {}
        self.remarks: list[str] = []

    @property
    def path(self) -> Path:
        """The file that lines are appended to."""
        name = f"manifest-{self._shard.label}.jsonl" if self._shard else "manifest.jsonl"
        return self._out / name

    def __enter__(self) -> Ledger:
        with ExitStack() as stack:
            try:
                self._open(stack)
            except OSError as error:
                raise _unwritable(self._out, error) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            self.flush()
            # What an error cut short is for the next run to finish.
            if kind is None:
                _remove(self._run)

    def _open(self, stack: ExitStack) -> None:
        (self._folder / self._label).mkdir(parents=True, exist_ok=True)
        stack.callback(Lock(self._folder / "lock", self._out, self._shard is not None).release)
        if self._shard is not None:
            stack.callback(Lock(self._folder / f"{self._label}.lock", self._out).release)
        self._repair(self.path)
        self._manifest = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        stack.callback(os.close, self._manifest)
        self._flushed = time.monotonic()
        for path in sorted(self._out.glob("manifest*.jsonl")):
            for name, entry in self._read(path).items():
                known = self.entries.get(name)
                if known is None or known.time <= entry.time:
                    self.entries[name] = entry
        self._recover()
        self._run.mkdir()

    def assign(self, task: Task) -> Task:
        """``task`` with a place for its result."""
        self._count += 1
        return replace(task, part=str(self._run / str(self._count)))

    def is_done(self, task: Task) -> bool:
        """Whether the target is there, made from this source with this model and these options.

        A source of the recorded size and time is taken to be the same; one of another time is read
        and its sha256 compared.
        """
        entry = self.entries.get(task.name)
        if entry is None or entry.status != DONE or entry.target != task.target:
            return False
        if (entry.model, entry.options) != (self._marks.model, self._marks.options):
            return False
        try:
            if (self._out / task.target).stat().st_size != entry.bytes:
                return False
            found = Path(task.source).stat()
            if found.st_size != entry.size:
                return False
            return found.st_mtime_ns == entry.mtime_ns or digest(task.source) == entry.sha256
        except OSError:
            return False

    def owners(self) -> dict[str, str]:
        """Names of the pictures whose results lie at targets, by target."""
        return {entry.target: name for name, entry in self.entries.items() if entry.status == DONE}

    def commit(self, task: Task, outcome: Outcome) -> Outcome:
        """Put a result in place and write its line; the outcome, failed where that was refused.

        Raises OutputError where the manifest itself cannot be written.
        """
        try:
            line = self._line(task, outcome)
            if outcome.status == DONE:
                reason = self._place(task, line)
                if reason is not None:
                    outcome = replace(outcome, status=FAILED, bytes=None, error=reason)
                    line = self._line(task, outcome)
            self._append(line)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return outcome

    def _place(self, task: Task, line: dict[str, Any]) -> str | None:
        """Announce ``line``, and rename the result onto its target; why not, if it cannot be."""
        intent = self._intent(self._label)
        part = Path(task.part).relative_to(self._run.parent).as_posix()
        announced = {"part": part, "line": line}
        intent.write_text(json.dumps(announced), encoding="ascii")
        target = self._out / task.target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(task.part).replace(target)
        except OSError as error:
            intent.unlink()
            Path(task.part).unlink(missing_ok=True)
            return f"{target} cannot be written: {error.strerror or error}"
        return None

    def _intent(self, label: str) -> Path:
        return self._folder / f"{label}.intent"

    def _line(self, task: Task, outcome: Outcome) -> dict[str, Any]:
        values = asdict(outcome)
        del values["name"], values["fatal"]
        status = values.pop("status")
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        head = {"source": task.name, "status": status, "target": task.target}
        return {**head, **values, **asdict(self._marks), "time": now}

    def _append(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode("ascii")
        # A full disk takes a part, and refuses the rest.
        while data:
            data = data[os.write(self._manifest, data) :]
        self.entries[line["source"]] = _entry(line)
        if time.monotonic() - self._flushed >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Bring every line to the disk."""
        os.fsync(self._manifest)
        self._flushed = time.monotonic()

    def _repair(self, path: Path) -> None:
        """Take off a last line that was cut short."""
        if not path.exists():
            return
        with path.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            end = _end_of_lines(stream, size)
            if end < size:
                stream.truncate(end)
                self.remarks.append(f"{path}: its last line was cut short, and is dropped")

    def _read(self, path: Path) -> dict[str, Entry]:
        """The last line about each picture of one manifest."""
        found = {}
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    values = json.loads(line)
                    found[values["source"]] = _entry(values)
                except (ValueError, KeyError, TypeError):
                    # A line without end is one that another shard is writing just now.
                    if line.endswith(b"\n"):
                        self.remarks.append(
                            f"{path}: line {number} cannot be read; its picture is done again"
                        )
        return found

    def _recover(self) -> None:
        """Finish what an earlier run had announced, and remove the parts that it left."""
        own = [self._folder / self._label]
        # A whole batch is alone here, and takes over from shards too.
        folders = own if self._shard else [p for p in self._folder.iterdir() if p.is_dir()]
        for folder in sorted(folders):
            intent = self._intent(folder.name)
            if intent.exists():
                self._finish(intent, folder)
                intent.unlink()
            for run in folder.iterdir():
                _remove(run)
            if folder not in own:
                folder.rmdir()

    def _finish(self, intent: Path, folder: Path) -> None:
        try:
            data = json.loads(intent.read_bytes())
            part, line = folder / data["part"], data["line"]
            entry, known = _entry(line), self.entries.get(line["source"])
        except (ValueError, KeyError, TypeError):
            # Cut short: nothing had been renamed yet.
            return
        if known is not None and known.time >= entry.time:
            return
        target = self._out / entry.target
        try:
            if part.exists() and part.stat().st_size == entry.bytes:
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            finished = target.stat().st_size == entry.bytes
        except OSError:
            return
        if finished:
            self._append(line)


def _remove(run: Path) -> None:
    """Remove a run's folder and the parts in it.

    A worker that outlives its batch for a moment may be adding one. It cannot where the folder is
    gone.
    """
    if not run.is_dir():
        run.unlink()
    while run.exists():
        for part in run.iterdir():
            part.unlink()
        try:
            run.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _entry(line: dict[str, Any]) -> Entry:
    return Entry(**{name: line[name] for name in _FIELDS})


def _end_of_lines(stream: Any, size: int) -> int:
    """Where the last whole line of a file of ``size`` bytes ends."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        place = stream.read(end - start).rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
        end = start
    return 0


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}")
