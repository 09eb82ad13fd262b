"""Did it get slower? ``make bench-check``: the short set on the CPU against the last record of it.

Times count as multiples of a float32 product measured in the same rounds, and fail above 1.2 of
the committed record's, if a second run says so too. Steps too short to time are held to their
instructions, which callgrind counts. ``--record`` writes a record to commit as the next baseline.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import latency
from birefnet_export.contract import BirefnetError
from birefnet_runtime.errors import OptionError
from measuring import instructions
from measuring.child import ContestantError
from measuring.contestants import BASE, line_up, open_all
from measuring.options import Wanted, add_arguments, find, parse
from measuring.part import say, start_yardstick
from measuring.pictures import photograph
from measuring.reading import TOTAL, Reading
from measuring.tables import picture_parts
from record import RESULTS, ROOT, Record, machine

# What counts as slower; a second run must agree, because medians on a busy machine move.
TIME_LIMIT = 1.2
# Counts repeat within a hundredth; more than this is another amount of work.
COUNT_LIMIT = 1.05
TIMED = (TOTAL, "model")
COUNTED = "instructions"
SIZES = (1, 12)
ROUNDS = 18


@dataclass(frozen=True)
class Finding:
    """One figure, now and in the record: ``limit`` is how much larger it may be."""

    name: str
    now: float
    before: float
    limit: float

    @property
    def ratio(self) -> float:
        """Above 1 is worse."""
        return self.now / self.before

    @property
    def worse(self) -> bool:
        """Whether it is past its limit."""
        return self.ratio > self.limit

    def line(self) -> str:
        """For a person."""
        verdict = "WORSE" if self.worse else "ok"
        return (
            f"  {self.name:<36}{self.ratio:>8.3f} of the record's, limit {self.limit:g}: {verdict}"
        )


def main(argv: list[str] | None = None) -> int:
    """0 where nothing got worse, 1 where something did or nothing could be compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--record", action="store_true", help="write a record and compare nothing")
    args = parser.parse_args(argv)
    try:
        wanted = short(parse(args))
        name = f"check {find(wanted).contract.name}"
        if args.record:
            print(f"record, to be committed: {measure(name, wanted, wanted.results)}")
            return 0
        before = last(name, wanted.results)
        print(f"against {before.path.name}")
        return verdict(before, lambda: one_run(name, wanted))
    except BirefnetError as error:
        print(f"bench-check: {error}", file=sys.stderr)
        return 1


def short(wanted: Wanted) -> Wanted:
    """The set that is short: the runtime on the CPU, two sizes."""
    foregrounds = ("off",) if "off" in wanted.foregrounds else ()
    given = replace(wanted, executors=(BASE,), sizes=SIZES, rounds=ROUNDS, batches=())
    return replace(given, foregrounds=foregrounds)


def one_run(name: str, wanted: Wanted) -> Reading:
    """A run whose record is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return Reading.of(measure(name, wanted, Path(folder)))


def measure(name: str, wanted: Wanted, results: Path) -> Path:
    """Measure the short set and write its record to ``results``."""
    subject = find(wanted)
    record = Record(name, wanted.configuration(), subject.hashes)
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        yardstick = start_yardstick(wanted, stack)
        everyone = line_up(wanted, subject)
        opened, _ = open_all(everyone, wanted.threads, stack, named=True)
        for megapixels in wanted.sizes:
            path = Path(folder) / f"{megapixels}.jpg"
            path.write_bytes(photograph(megapixels))
            warm = Path(folder) / f"{min(wanted.sizes)}.jpg"
            latency.pictures(record, wanted, megapixels, (path, warm), opened, yardstick)
        add_counts(record, Path(folder) / f"{min(wanted.sizes)}.jpg")
    return record.write(results)


def add_counts(record: Record, picture: Path) -> None:
    """Keep the instructions of the steps on ``picture``; why not, where they cannot be counted."""
    reason = instructions.absent()
    if not reason:
        say("counting instructions ...")
        try:
            for step, value in instructions.count(picture).items():
                record.add(f"{COUNTED}: {BASE}: {step}", COUNTED, "lower", [value])
            return
        except ContestantError as error:
            reason = str(error)
    record.missing[COUNTED] = reason


def last(name: str, folder: Path = RESULTS) -> Reading:
    """The newest committed record ``name`` of this class of machine; OptionError without one."""
    here = machine()
    found = [Reading.of(path) for path in committed(folder)]
    fitting = [one for one in found if one.data["name"] == name and same_class(one, here)]
    if not fitting:
        raise OptionError(
            f"no record {name!r} of a machine with {here['cores']} cores of {here['cpu']} is "
            "committed: make bench-check ARGS=--record, commit it, and compare the next run"
        )
    return max(fitting, key=lambda one: str(one.data["time"]))


def same_class(reading: Reading, here: dict[str, object]) -> bool:
    """Whether a record was made on a machine like ``here``."""
    there = reading.data["machine"]
    return all(there[key] == here[key] for key in ("cpu", "cores"))


def committed(folder: Path) -> list[Path]:
    """Records that git knows; all that lie there where it knows nothing of the folder."""
    done = subprocess.run(
        ["git", "ls-files", "--", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = done.stdout.split() if done.returncode == 0 else []
    paths = [ROOT / name for name in names] or list(folder.glob("*.json"))
    return sorted(path for path in paths if path.suffix == ".json" and path.is_file())


def compare(now: Reading, before: Reading) -> list[Finding]:
    """Every figure that both have: times in products, and instructions."""
    found = []
    for part in picture_parts(before):
        for step in TIMED:
            then, this = (one.in_yardsticks(part, BASE, step).value for one in (before, now))
            found.append(Finding(f"{part} {step}", this, then, TIME_LIMIT))
    for step in before.steps(COUNTED, BASE):
        if step in now.steps(COUNTED, BASE):
            this, then = (one.get(COUNTED, BASE, step)[0] for one in (now, before))
            found.append(Finding(f"{step}, {COUNTED}", this, then, COUNT_LIMIT))
    return found


def verdict(before: Reading, measure: Callable[[], Reading]) -> int:
    """Measure, compare, and once more where something seems worse: 1 where both runs say so."""
    now = measure()
    if COUNTED in now.missing:
        print(f"  not counted: {COUNTED}: {now.missing[COUNTED]}")
    for name in sorted(set(before.data["hashes"]) & set(now.data["hashes"])):
        if before.data["hashes"][name] != now.data["hashes"][name]:
            print(f"  {name} is another file than the record's")
    found = compare(now, before)
    print("\n".join(one.line() for one in found))
    suspects = {one.name for one in found if one.worse}
    if not suspects:
        return 0
    print("once more, to be sure:")
    again = [one for one in compare(measure(), before) if one.name in suspects]
    print("\n".join(one.line() for one in again))
    return 1 if any(one.worse for one in again) else 0


if __name__ == "__main__":
    sys.exit(main())
