"""The command ``birefnet batch``: a folder of pictures, to the end, whatever happens on the way."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from birefnet_runtime import flags
from birefnet_runtime.bulk.crew import Announce, Crew, Setup
from birefnet_runtime.bulk.ledger import Ledger
from birefnet_runtime.bulk.marks import Marks
from birefnet_runtime.bulk.stop import Stop
from birefnet_runtime.bulk.tasks import DONE, FAILED, Outcome, Task
from birefnet_runtime.bulk.tree import Shard, Tree, read_list, tasks
from birefnet_runtime.bulk.watch import Watch
from birefnet_runtime.bulk.worker import Worker
from birefnet_runtime.encode import check_suffix
from birefnet_runtime.errors import OptionError, OutputError
from birefnet_runtime.matting import Matting
from birefnet_runtime.options import Options
from birefnet_runtime.progress import Progress, duration, speed

# Failures that are listed at the end; the manifest has all.
_LISTED = 50
# Seconds between two looks at a watched folder, at most.
_LOOK = 1.0


def run(args: argparse.Namespace) -> int:
    """Cut out what ``args`` names; 0 when all is done, 1 when something failed, 128 + the signal
    where one ended it."""
    options = flags.options(args)
    suffix = _suffix(args.format, options)
    _check(args)
    shard = Shard.parse(args.shard) if args.shard else None
    tree = Tree.open(args.source, args.target, suffix, args.full_names, shard)
    found = [] if args.watch else tasks(tree, _names(tree, args))
    marks = Marks.of(flags.model(args), options)
    with Stop() as stop, Ledger(tree.out, marks, shard) as ledger:
        for remark in ledger.remarks:
            print(f"birefnet: {remark}", file=sys.stderr)
        team = _team(args, options, suffix)
        batch = Batch(team, ledger, stop, tree, args.redo)
        now = True
        try:
            if args.watch:
                batch.watch(args.settle)
            else:
                batch.once(found)
            now = False
        finally:
            team.close(now)
        return batch.status()


class Team(Protocol):
    """Whoever turns tasks into outcomes."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]: ...

    def close(self, now: bool) -> None: ...


class Solo:
    """This process alone, which opens the model when there is something to do."""

    def __init__(
        self,
        model: dict[str, Any],
        options: Options,
        suffix: str,
        announce: Announce | None = None,
    ) -> None:
        self._model, self._options, self._suffix = model, options, suffix
        self._announce = announce
        self._matting: Matting | None = None

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Outcome]]:
        """See ``Worker.run``."""
        if self._matting is None:
            self._matting = Matting.open(**self._model)
            if self._announce is not None:
                self._announce(self._matting.describe())
        yield from Worker(self._matting, self._options, self._suffix).run(tasks)

    def close(self, now: bool) -> None:
        """Let go of the model."""
        if self._matting is not None:
            self._matting.close()


class Batch:
    """Tasks through a team into a ledger, with a word about each failure."""

    def __init__(
        self, team: Team, ledger: Ledger, stop: Stop, tree: Tree, redo: bool = False
    ) -> None:
        self._team, self._ledger, self._stop, self._redo = team, ledger, stop, redo
        self._tree = tree
        # Which picture's result each target is, in this run or an earlier one.
        self._owners = ledger.owners()
        self._start = time.monotonic()
        self._done = self._skipped = self._empty = 0
        self._failures: list[str] = []
        self._failed = 0
        self._full = self._watching = False

    def once(self, found: list[Task]) -> None:
        """Do those of ``found`` that are not done yet."""
        left = list(self._left(found))
        if not left:
            return
        progress = Progress(0 if self._watching else len(left), pace=not self._watching)
        for task, outcome in self._team.run(self._assigned(left)):
            self._note(task, self._ledger.commit(task, outcome), progress)
            progress.step()
        progress.clear()
        self._ledger.flush()

    def _left(self, found: list[Task]) -> Iterator[Task]:
        for task in found:
            if self._stop:
                return
            if not self._redo and self._ledger.is_done(task):
                self._skipped += 1
            elif self._is_free(task):
                yield task

    def watch(self, settle: float) -> None:
        """Do what is there and what comes, until there is a stop."""
        tree, self._watching = self._tree, True
        print(f"birefnet: watching {tree.root}; Ctrl-C ends", file=sys.stderr)
        watch = Watch(tree.root, settle)
        while not self._stop and not self._full:
            ready = watch.look(tree.walk(), time.monotonic())
            self.once([tree.task(name) for name in ready])
            if not ready:
                self._stop.sleep(min(_LOOK, max(settle / 2, 0.05)))

    def status(self) -> int:
        """Say what was done and what failed; the command's exit status."""
        elapsed = time.monotonic() - self._start
        made = self._done + self._failed
        parts = [f"{self._done} done", f"{self._failed} failed", f"{self._skipped} skipped"]
        pace = f" ({speed(made / elapsed)})" if made and elapsed else ""
        text = f"birefnet: {', '.join(parts)} in {duration(elapsed)}{pace}"
        if self._empty:
            text += f"; nothing found in {self._empty}"
        print(text, file=sys.stderr)
        for failure in self._failures:
            print(f"  {failure}", file=sys.stderr)
        if self._failed > len(self._failures):
            more = self._failed - len(self._failures)
            print(f"  and {more} more, see {self._ledger.path}", file=sys.stderr)
        if self._stop:
            return self._stop.status
        return 1 if self._failed else 0

    def _assigned(self, left: list[Task]) -> Iterator[Task]:
        for task in left:
            if self._stop or self._full:
                return
            yield self._ledger.assign(task)

    def _is_free(self, task: Task) -> bool:
        """Whether the target is no other picture's result, or that picture is gone; the task has
        failed otherwise."""
        other = self._owners.get(task.target, task.name)
        if other == task.name or not (self._tree.root / other).exists():
            self._owners[task.target] = task.name
            return True
        reason = f"{task.target} is the result of {other}: add --full-names, or rename one"
        outcome = Outcome(task.name, FAILED, error=reason)
        self._note(task, self._ledger.commit(task, outcome), Progress(0))
        return False

    def _note(self, task: Task, outcome: Outcome, progress: Progress) -> None:
        if outcome.status == DONE:
            self._done += 1
            self._empty += outcome.found is False
            if self._watching:
                progress.say(f"birefnet: {task.name} -> {task.target}")
            if outcome.remark:
                progress.say(f"birefnet: {task.name}: {outcome.remark}")
            return
        self._failed += 1
        self._full = self._full or outcome.fatal
        text = f"{task.name}: {outcome.error}"
        progress.say(f"birefnet: {text}")
        if len(self._failures) < _LISTED:
            self._failures.append(text)


def _suffix(form: str, options: Options) -> str:
    suffix = "." + form.lower().lstrip(".")
    try:
        return check_suffix(suffix, options.transparent, options.depth)
    except OutputError as error:
        raise OptionError(f"format {form}: {error}") from None


def _check(args: argparse.Namespace) -> None:
    if args.workers is not None and args.workers < 1:
        raise OptionError(f"workers must be 1 or more, not {args.workers}")
    if args.settle < 0:
        raise OptionError(f"settle must be 0 seconds or more, not {args.settle}")
    if args.gpus is not None:
        _gpus(args.gpus)
    if args.watch and args.list is not None:
        raise OptionError("a list is read once, and not watched: leave out --watch or --list")


def _names(tree: Tree, args: argparse.Namespace) -> Iterator[str]:
    if args.list is None:
        return tree.walk()
    return tree.listed(read_list(args.list))


def _team(args: argparse.Namespace, options: Options, suffix: str) -> Team:
    model = flags.model(args)
    announce = _announce if args.device == "auto" else None
    if args.workers is None and args.gpus is None:
        return Solo(model, options, suffix, announce)
    if args.gpus is not None:
        environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in _gpus(args.gpus)]
    else:
        environments = [{}] * args.workers
    # Each would take every core otherwise.
    model.setdefault("threads", max(1, _cores() // len(environments)))
    setups = [Setup(model, flags.given(args), suffix, change) for change in environments]
    return Crew(setups, announce)


def _announce(description: str) -> None:
    print(f"birefnet: {description}", file=sys.stderr)


def _gpus(text: str) -> list[str]:
    """Numbers of GPUs, or their UUIDs, from a list with commas."""
    found = [part.strip() for part in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise OptionError(f"gpus is {text!r}: give different ones with commas, such as 0,1")
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
