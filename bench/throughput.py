"""Pictures per second over a folder of mixed sizes, results saved: part of ``make bench``.

The runtime streams (``Matting.stream`` with saving in ``work=``), the others take one picture after
the other, as their own folder commands do. Whole passes are interleaved.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from latency import describe
from measuring import tables
from measuring.contestants import line_up, open_all, refuse_none
from measuring.options import Wanted, find
from measuring.part import main_of, proven, say, say_of, start_yardstick
from measuring.pictures import MIXED, mixed
from measuring.reading import YARDSTICK, Reading
from measuring.rounds import interleave
from record import Record

# Products on either side of a pass: a pass is long, one product is not.
PRODUCTS = 3


def run(wanted: Wanted) -> Path:
    """Measure, print the table, write the record; its path."""
    subject = find(wanted)
    record = Record(f"throughput {subject.contract.name}", wanted.configuration(), subject.hashes)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        yardstick = start_yardstick(wanted, stack)
        everyone = line_up(wanted, subject)
        opened, missing = open_all(everyone, wanted.threads, stack, named=bool(wanted.executors))
        record.missing.update(missing)
        refuse_none(opened, missing)
        describe(record, opened)
        say(f"making {wanted.pictures} pictures of {MIXED[0]:g} to {MIXED[1]:g} megapixels ...")
        source, out = Path(folder) / "in", Path(folder) / "out"
        source.mkdir()
        out.mkdir()
        paths = [str(path) for path in mixed(source, wanted.pictures)]
        record.findings["pictures"] = {
            "count": len(paths),
            "megapixels": list(MIXED),
            "bytes": sum(Path(path).stat().st_size for path in paths),
        }
        # The first pass of all is over few pictures: it only warms up.
        few = {name: partial(one.stream, paths[:2], str(out)) for name, one in opened.items()}
        able = proven(record, "mixed", few)
        works: dict[str, Any] = {YARDSTICK: partial(product, yardstick)}
        works.update({name: partial(opened[name].stream, paths, str(out)) for name in able})
        found = interleave(works, wanted.passes, 0, say=partial(say_of, "mixed"))
    for name, answers in found.items():
        keep(record, name, answers, len(paths))
    path = record.write(wanted.results)
    reading = Reading.of(path)
    tables.show([tables.throughput(reading), tables.absent(reading)])
    return path


def product(yardstick: Any) -> dict[str, Any]:
    """The fastest of a few products: its seconds."""
    return {"seconds": min(yardstick.ask("matmul")["seconds"] for _ in range(PRODUCTS))}


def keep(record: Record, name: str, answers: list[dict[str, Any]], count: int) -> None:
    """One contestant's passes."""
    if name == YARDSTICK:
        values = [one["seconds"] for one in answers]
        record.add(f"mixed: {name}: total", "s", "lower", values)
        return
    short = [one["count"] for one in answers if one["count"] != count]
    if short:
        raise ValueError(f"{name} gave {short[0]} of {count} pictures")
    values = [one["seconds"] / count for one in answers]
    record.add(f"mixed: {name}: seconds a picture", "s", "lower", values)


if __name__ == "__main__":
    sys.exit(main_of(__doc__, [run]))
