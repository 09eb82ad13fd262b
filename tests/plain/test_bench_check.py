"""``make bench-check``: what passes, what fails, and that a second run decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import check
from birefnet_runtime.errors import OptionError
from measuring import instructions
from measuring.reading import Reading
from record import Record, machine

STEPS = ("decode", "preprocess", "refine", "encode")


def reading(
    folder: Path, slower: float = 1.0, more: float = 1.0, product: float = 0.1, counted: bool = True
) -> Reading:
    """A record of the short set: times are ``slower`` and counts ``more`` than they were."""
    record = Record("check nano", {}, {"model.onnx": "ab"})
    for part in ("1 MP", "12 MP"):
        record.add(f"{part}: yardstick: total", "s", "lower", [product] * 5)
        record.add(f"{part}: ort-cpu: total", "s", "lower", [slower * product * 4] * 5)
        record.add(f"{part}: ort-cpu: model", "s", "lower", [product] * 5)
    if counted:
        for step in STEPS:
            record.add(f"instructions: ort-cpu: {step}", "instructions", "lower", [more * 1e8])
    else:
        record.missing["instructions"] = "valgrind not installed"
    folder.mkdir(parents=True, exist_ok=True)
    return Reading.of(record.write(folder))


class Clock:
    """Gives one run after the other; ``runs`` counts them."""

    def __init__(self, *found: Reading) -> None:
        self._found = list(found)
        self.runs = 0

    def __call__(self) -> Reading:
        self.runs += 1
        return self._found.pop(0)


@pytest.fixture
def before(tmp_path: Path) -> Reading:
    return reading(tmp_path / "before")


def test_the_same_passes_at_once(before: Reading, tmp_path: Path) -> None:
    # Twice as slow a machine: the product is too.
    clock = Clock(reading(tmp_path / "now", product=0.2))
    assert check.verdict(before, clock) == 0
    assert clock.runs == 1


def test_a_single_slow_run_is_forgiven(before: Reading, tmp_path: Path) -> None:
    clock = Clock(reading(tmp_path / "1", slower=1.3), reading(tmp_path / "2", slower=1.1))
    assert check.verdict(before, clock) == 0
    assert clock.runs == 2


def test_slow_twice_fails(
    before: Reading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(reading(tmp_path / "1", slower=1.3), reading(tmp_path / "2", slower=1.25))
    assert check.verdict(before, clock) == 1
    told = capsys.readouterr().out
    assert "12 MP total" in told
    assert "1.300 of the record's, limit 1.2: WORSE" in told
    # The second run repeats the suspects alone.
    assert "12 MP model" not in told.partition("once more")[2]


def test_other_figures_slow_each_time_are_no_confirmation(before: Reading, tmp_path: Path) -> None:
    clock = Clock(reading(tmp_path / "1", slower=1.3), reading(tmp_path / "2", more=1.2))
    assert check.verdict(before, clock) == 0


def test_more_instructions_fail_where_time_shows_nothing(before: Reading, tmp_path: Path) -> None:
    clock = Clock(*(reading(tmp_path / name, more=1.06) for name in "12"))
    assert check.verdict(before, clock) == 1


def test_without_valgrind_times_alone_count(
    before: Reading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(reading(tmp_path / "now", counted=False))
    assert check.verdict(before, clock) == 0
    assert "not counted: instructions: valgrind not installed" in capsys.readouterr().out


def test_the_reason_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "apt-get install valgrind" in instructions.absent()


def test_the_newest_record_of_this_class_is_taken(tmp_path: Path) -> None:
    def write(file: str, **changes: Any) -> None:
        here = {**machine(), **changes.pop("machine", {})}
        data = {"schema": 1, "name": "check nano", "machine": here, "measures": [], **changes}
        (tmp_path / file).write_text(json.dumps(data))

    write("old.json", time="2026-01-01")
    write("new.json", time="2026-02-01")
    write("other-cores.json", time="2026-03-01", machine={"cores": 999})
    write("other-name.json", time="2026-03-01", name="check other")
    assert check.last("check nano", tmp_path).path.name == "new.json"
    with pytest.raises(OptionError, match="bench-check ARGS=--record"):
        check.last("check nothing", tmp_path)


def test_a_dump_tells_its_own_instructions() -> None:
    assert instructions.total("part: 2\nsummary: 34\ntotals: 49\n") == 34
    assert instructions.total("nothing") == 0
