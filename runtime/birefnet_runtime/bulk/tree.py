"""A folder of pictures -> tasks whose results are laid out as the folder is."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from birefnet_runtime.bulk.tasks import Task
from birefnet_runtime.errors import InputError, OptionError
from birefnet_runtime.jobs import PIPE, is_picture


@dataclass(frozen=True)
class Shard:
    """Part ``index``, from 1, of ``count``."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``2/4``; OptionError otherwise."""
        index, _, count = text.partition("/")
        if index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count):
            return cls(int(index), int(count))
        raise OptionError(f"shard is {text!r}: give I/N, such as 2/4 for the second of four parts")

    @property
    def label(self) -> str:
        """For names of files: ``2-of-4``."""
        return f"{self.index}-of-{self.count}"

    def holds(self, name: str) -> bool:
        """Whether a picture is in this part: its name alone decides, whatever else is there."""
        return zlib.crc32(os.fsencode(name)) % self.count == self.index - 1


@dataclass(frozen=True)
class Tree:
    """Pictures below ``root`` and results below ``out``, both existing folders.

    A result has its picture's path with ``suffix`` for the picture's own, or behind it with
    ``full_names``.
    """

    root: Path
    out: Path
    suffix: str
    full_names: bool = False
    shard: Shard | None = None

    @classmethod
    def open(cls, root: str, out: str, suffix: str, full_names: bool, shard: Shard | None) -> Tree:
        """Make ``out`` where it is missing; OptionError where the two folders do not go together.

        ``out`` may lie inside ``root``: it is left out when pictures are looked for.
        """
        source, target = Path(root), Path(out)
        if not source.is_dir():
            remedy = "use birefnet remove for one picture" if source.exists() else "no such folder"
            raise OptionError(f"{root} is no folder: {remedy}")
        if target.exists() and not target.is_dir():
            raise OptionError(f"{out} is no folder: name one for the results")
        inside = target.resolve() in (source.resolve(), *source.resolve().parents)
        if inside:
            raise OptionError(
                f"{root} lies in {out}, where results would meet pictures: choose another OUT"
            )
        return cls(source, target, suffix, full_names, shard)

    def task(self, name: str) -> Task:
        """The task for the picture ``name``."""
        path = PurePosixPath(name)
        target = name + self.suffix if self.full_names else str(path.with_suffix(self.suffix))
        return Task(name, str(self.root / name), target)

    def walk(self) -> Iterator[str]:
        """Names of the pictures of this shard below the root, sorted within each folder.

        Hidden files and folders, ``out`` and results of ``birefnet remove`` are left out; links to
        folders are not followed. Raises InputError for a folder that cannot be read.
        """
        out = self.out.resolve()
        for folder, folders, files in os.walk(self.root, onerror=_refuse):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and (Path(folder) / name).resolve() != out
            )
            for name in sorted(files):
                path = Path(folder) / name
                if is_picture(path):
                    yield from self._mine(path.relative_to(self.root).as_posix())

    def listed(self, lines: Iterable[str]) -> Iterator[str]:
        """Names of this shard from ``lines``, in their order, each once; empty lines are skipped.

        A line is a path below the root, as it is from there or absolute. OptionError for others.
        """
        seen: set[str] = set()
        for line in lines:
            given = line.rstrip("\r\n")
            if not given:
                continue
            name = self._below(given)
            if name not in seen:
                seen.add(name)
                yield from self._mine(name)

    def _mine(self, name: str) -> Iterator[str]:
        if self.shard is None or self.shard.holds(name):
            yield name

    def _below(self, given: str) -> str:
        path = os.path.relpath(given, self.root) if Path(given).is_absolute() else given
        name = Path(os.path.normpath(path)).as_posix()
        if name == "." or name.split("/")[0] == "..":
            raise OptionError(f"{given} is not below {self.root}: the list holds paths below IN")
        return name


def tasks(tree: Tree, names: Iterable[str]) -> list[Task]:
    """A task for each name; OptionError where two would write one file."""
    found = [tree.task(name) for name in names]
    writers: dict[str, str] = {}
    for task in found:
        other = writers.setdefault(task.target, task.name)
        if other != task.name:
            raise OptionError(
                f"{other} and {task.name} would both be written to {task.target}: add "
                "--full-names, which keeps their suffixes apart"
            )
    return found


def read_list(path: str) -> list[str]:
    """The lines of a file, or of stdin for ``-``; OptionError where it cannot be read."""
    try:
        if path == PIPE:
            return [os.fsdecode(line) for line in sys.stdin.buffer]
        with Path(path).open("rb") as stream:
            return [os.fsdecode(line) for line in stream]
    except OSError as error:
        raise OptionError(f"the list {path} cannot be read: {error.strerror}") from error


def _refuse(error: OSError) -> None:
    raise InputError(str(error.filename), f"cannot be read: {error.strerror}") from error
