"""What one cut-out costs on everything that works here, step by step: part of ``make bench``.

JPEG bytes to PNG bytes at 1, 12 and 24 megapixels, and the model alone, in interleaved rounds, a
2048x2048 float32 product in each of them. What is missing is listed with its reason.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from birefnet_export.contract import BirefnetError
from birefnet_export.cost import cost
from measuring import floor, tables
from measuring.contestants import BASE, Opened, line_up, open_all, refuse_none
from measuring.options import Subject, Wanted, find
from measuring.part import main_of, proven, say, say_of, start_yardstick
from measuring.pictures import SIZES, photograph
from measuring.reading import YARDSTICK, Reading
from measuring.rounds import interleave
from record import Record

Answer = dict[str, Any]
# Copies are quick and settle at once.
COPIES = 15


def run(wanted: Wanted) -> Path:
    """Measure, print the tables, write the record; its path."""
    subject = find(wanted)
    record = Record(f"latency {subject.contract.name}", wanted.configuration(), subject.hashes)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        yardstick = start_yardstick(wanted, stack)
        everyone = line_up(wanted, subject)
        say("opening the contestants ...")
        opened, missing = open_all(everyone, wanted.threads, stack, named=bool(wanted.executors))
        record.missing.update(missing)
        refuse_none(opened, missing)
        describe(record, opened)
        rates = [yardstick.ask("copy")["rate"] / 1e9 for _ in range(COPIES)]
        record.add("copy", "GB/s", "higher", rates)
        work, gmac = dict[str, Any](), multiply_adds(record, subject)
        for megapixels in wanted.sizes:
            path = Path(folder) / f"{megapixels}.jpg"
            path.write_bytes(photograph(megapixels))
            warm = Path(folder) / f"{min(wanted.sizes)}.jpg"
            answers = pictures(record, wanted, megapixels, (path, warm), opened, yardstick)
            sizes = (path.stat().st_size, next(iter(answers.values()))[0]["bytes"])
            work[f"{megapixels} MP"] = least(subject, megapixels, sizes, gmac)
            if megapixels == min(wanted.sizes):
                record.findings["alpha"] = agreement(path, opened, Path(folder))
        record.findings["least work"] = work
        graphics(record, opened)
        for batch in wanted.batches:
            model_alone(record, wanted, batch, opened, yardstick)
    path = record.write(wanted.results)
    tables.show(tables.latency(Reading.of(path)))
    return path


def describe(record: Record, opened: dict[str, Opened]) -> None:
    """Keep what runs, in words, and with which libraries."""
    record.findings["executors"] = {name: one.about for name, one in opened.items()}
    for one in opened.values():
        record.libraries.update(one.libraries)


def pictures(
    record: Record,
    wanted: Wanted,
    megapixels: int,
    files: tuple[Path, Path],
    opened: dict[str, Opened],
    yardstick: Any,
) -> dict[str, list[Answer]]:
    """Rounds at one size: totals and steps, kept by round; the answers by contestant.

    ``files``: the picture, and the small one that begins each turn.
    """
    part, rounds = f"{megapixels} MP", wanted.rounds_of(megapixels)
    works = {YARDSTICK: lambda: yardstick.ask("matmul")}
    works.update({name: partial(turn, one, *files) for name, one in opened.items()})
    works = proven(record, part, works)
    found = interleave(works, rounds, 0, say=partial(say_of, part))
    for name, answers in found.items():
        prefix = f"{part}: {name}"
        record.add(f"{prefix}: total", "s", "lower", [one["seconds"] for one in answers])
        for step in answers[0].get("steps", {}):
            values = [one["steps"][step] for one in answers]
            record.add(f"{prefix}: {step}", "s", "lower", values)
    del found[YARDSTICK]
    return found


def turn(one: Opened, path: Path, warm: Path) -> Answer:
    """A cut-out of ``path`` after one of ``warm`` that is not kept.

    A process that waited for the others has lost its place in the caches, and some of its memory
    where the system takes back what lies idle.
    """
    one.cut(str(warm))
    return one.cut(str(path))


def multiply_adds(record: Record, subject: Subject) -> float:
    """1e9 multiply-adds of a run; 0 where the file's shapes do not say, as the record then does."""
    try:
        return cost(onnx.load(subject.path)).gmac
    except (BirefnetError, KeyError, ValueError) as error:
        record.missing["multiply-adds"] = f"shapes of {subject.path.name} are open: {error}"
        return 0.0


def least(subject: Subject, megapixels: int, files: tuple[int, int], gmac: float) -> dict[str, Any]:
    """The least work of each step, for the record."""
    weights = subject.path.stat().st_size
    found = floor.works(subject.contract, SIZES[megapixels], files, gmac, weights)
    return {step: work.as_dict() for step, work in found.items()}


def agreement(path: Path, opened: dict[str, Opened], folder: Path) -> dict[str, float]:
    """Mean distance of each one's alpha from the first one's, in 1/255: do they do the same?"""
    alphas = {}
    for name, one in opened.items():
        keep = folder / "kept.png"
        one.cut(str(path), str(keep))
        with Image.open(io.BytesIO(keep.read_bytes())) as image:
            alphas[name] = np.asarray(image.getchannel("A"), np.float64)
    first = alphas.get(BASE, next(iter(alphas.values())))
    return {name: float(np.abs(alpha - first).mean()) for name, alpha in alphas.items()}


def graphics(record: Record, opened: dict[str, Opened]) -> None:
    """Keep what a GPU can do at most, where PyTorch sees one."""
    torch = next((one for name, one in opened.items() if name.startswith("torch-")), None)
    if torch is None or " on CPU" in torch.about:
        record.missing["rates of a GPU"] = "PyTorch sees none, or takes no part"
        return
    for name, samples in torch.child.ask("rates").items():
        unit, scale = ("TFLOP/s", 1e12) if "products" in name else ("GB/s", 1e9)
        record.add(name, unit, "higher", [value / scale for value in samples])


def model_alone(
    record: Record, wanted: Wanted, batch: int, opened: dict[str, Opened], yardstick: Any
) -> None:
    """Rounds of the model without the rest, ``batch`` pictures a run."""
    part = f"model, batch {batch}"
    with ExitStack() as stack:
        able = rows_of(record, wanted, batch, opened, stack)
        works = {YARDSTICK: lambda: yardstick.ask("matmul")}
        works.update({name: partial(forward, one, batch) for name, one in able})
        works = proven(record, part, works)
        found = interleave(works, wanted.rounds, 0, say=partial(say_of, part))
    for name, answers in found.items():
        record.add(f"{part}: {name}: total", "s", "lower", [one["seconds"] for one in answers])
        if answers[0].get("gpu") is not None:
            gpu = [one["gpu"] for one in answers]
            record.add(f"{part}: {name}: on the GPU", "s", "lower", gpu)


def forward(one: Opened, batch: int) -> Answer:
    """A run of the model alone after one that is not kept; see ``turn``."""
    one.child.ask("forward", batch=batch)
    return one.child.ask("forward", batch=batch)


def rows_of(
    record: Record, wanted: Wanted, batch: int, opened: dict[str, Opened], stack: ExitStack
) -> list[tuple[str, Opened]]:
    """Those that may run ``batch`` pictures at once; a plan is opened anew for its rows.

    Left out, because they run the same model: rembg, and the runtime with foreground colours.
    """
    found = []
    for name, one in opened.items():
        estimates = one.contestant.options.get("foreground", "off") != "off"
        if name.startswith("rembg") or estimates:
            continue
        if batch == 1 or name.startswith("torch-"):
            found.append((name, one))
        elif name == "tensorrt":
            more, missing = open_all([one.contestant], wanted.threads, stack, batch=batch)
            found.extend(more.items())
            record.missing.update({f"{name}, batch {batch}": text for text in missing.values()})
        else:
            record.missing[f"{name}, batch {batch}"] = "it runs one picture at a time"
    return found


if __name__ == "__main__":
    sys.exit(main_of(__doc__, [run]))
