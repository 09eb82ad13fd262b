"""What a batch hands to a worker and what comes back: plain data, one line of JSON each."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

DONE, FAILED = "done", "failed"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Task:
    """One picture of a batch.

    ``name``: its path below IN, with ``/``. ``source``: the path it is read from. ``target``: the
    result's path below OUT, with ``/``. ``part``: the path that the finished result is first
    written to, on OUT's file system, or empty before that is settled.
    """

    name: str
    source: str
    target: str
    part: str = ""

    def to_line(self) -> str:
        """One line of JSON, with its end. Names that are no UTF-8 survive it."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Task:
        """The task that ``to_line`` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    ``status``: ``done``, and then ``part`` holds the whole result of ``bytes`` bytes, or
    ``failed`` with an ``error``. ``sha256``, ``size`` and ``mtime_ns`` are the source's, as it was
    read. ``seconds``: spent on this picture, waiting left out. ``found``, ``score`` and ``edge``:
    what the cut-out says of itself. ``remark``: what else a person should know. ``fatal``: the same
    would happen to every other picture.
    """

    name: str
    status: str
    sha256: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    bytes: int | None = None
    seconds: float | None = None
    found: bool | None = None
    score: Any = None
    edge: str | None = None
    error: str | None = None
    remark: str | None = None
    fatal: bool = False

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """The outcome whose fields ``line`` holds."""
        return cls(**json.loads(line))


def digest(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, which is read in blocks."""
    whole = sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(_BLOCK):
            whole.update(block)
    return whole.hexdigest()
