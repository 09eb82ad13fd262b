"""Memory at its peak, loading and the first call, in fresh processes: part of ``make bench``.

A process opens the model, cuts one picture out twice, and is asked for the most memory that it
ever held. Its interpreter alone is told apart: what the process held before it imported anything.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from measuring import tables
from measuring.child import ContestantError
from measuring.contestants import Contestant, line_up, open_one
from measuring.options import Wanted, find
from measuring.part import main_of, proven, say_of, start_yardstick
from measuring.pictures import photograph
from measuring.reading import YARDSTICK, Reading
from measuring.rounds import interleave
from record import Record, read_gpu


def run(wanted: Wanted) -> Path:
    """Measure, print the table, write the record; its path."""
    subject = find(wanted)
    record = Record(f"memory {subject.contract.name}", wanted.configuration(), subject.hashes)
    everyone = line_up(wanted, subject)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        yardstick = start_yardstick(wanted, stack)
        paths = {size: Path(folder) / f"{size}.jpg" for size in wanted.sizes}
        for megapixels, path in paths.items():
            path.write_bytes(photograph(megapixels))
        # Also reads every library once, so that no first process pays for the disk.
        tries = {one.name: partial(start, one, wanted, paths[min(paths)]) for one in everyone}
        able = proven(record, "memory", tries)
        for megapixels, path in paths.items():
            works: dict[str, Any] = {YARDSTICK: partial(yardstick.ask, "matmul")}
            mine = [one for one in everyone if one.name in able]
            works.update({one.name: partial(start, one, wanted, path) for one in mine})
            part = f"{megapixels} MP"
            found = interleave(works, wanted.starts, 0, say=partial(say_of, part))
            for name, answers in found.items():
                keep(record, f"{part}: {name}", answers)
    target = record.write(wanted.results)
    reading = Reading.of(target)
    tables.show([tables.memory(reading), tables.absent(reading)])
    return target


def start(one: Contestant, wanted: Wanted, path: Path) -> dict[str, Any]:
    """A fresh process: seconds to load and of the first picture, MiB of host and GPU."""
    before = gpu_mib()
    with ExitStack() as stack:
        opened = open_one(one, wanted.threads, stack)
        first = opened.cut(str(path))["seconds"]
        opened.cut(str(path))
        memory = opened.child.ask("peak")
        after = gpu_mib()
    if memory["peak"] is None:
        raise ContestantError("this system does not say how much memory a process held")
    answer = {"load": opened.load, "first call": first, "peak": memory["peak"]}
    answer["above the interpreter"] = memory["peak"] - memory["bare"]
    if before is not None and after is not None:
        answer["GPU"] = after - before
    return answer


def gpu_mib() -> float | None:
    """MiB in use on the first GPU by every program, or None without one."""
    found = read_gpu(("memory.used",))
    return None if found is None else float(found["memory.used"].split()[0])


def keep(record: Record, prefix: str, answers: list[dict[str, Any]]) -> None:
    """One contestant's starts; the yardstick has seconds alone."""
    for key in answers[0]:
        samples = [one[key] for one in answers]
        if key == "seconds":
            record.add(f"{prefix}: total", "s", "lower", samples)
        else:
            unit = "s" if key in ("load", "first call") else "MiB"
            record.add(f"{prefix}: {key}", unit, "lower", samples)


if __name__ == "__main__":
    sys.exit(main_of(__doc__, [run]))
