"""A record as read: its measures by part, contestant and step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birefnet_runtime.errors import OptionError
from measuring.stats import Ratio, Summary, ratio, summarise
from record import SCHEMA

YARDSTICK, TOTAL = "yardstick", "total"


@dataclass(frozen=True)
class Reading:
    """``path``: the file; ``data``: all of it; ``samples`` of each measure by its name."""

    path: Path
    data: dict[str, Any]
    samples: dict[str, list[float]]

    @classmethod
    def of(cls, path: Path) -> Reading:
        """OptionError where the file is no record of this schema."""
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}, not {SCHEMA}")
            samples = {one["name"]: one["samples"] for one in data["measures"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{path} is no record: {error}") from error
        return cls(path, data, samples)

    @property
    def parts(self) -> list[str]:
        """Such as ``12 MP``, in the record's order."""
        return list(dict.fromkeys(part for part, _, _ in self._names()))

    def names(self, part: str) -> list[str]:
        """Contestants of a part in the record's order, without the yardstick."""
        found = dict.fromkeys(name for where, name, _ in self._names() if where == part)
        return [name for name in found if name != YARDSTICK]

    def steps(self, part: str, name: str) -> list[str]:
        """Steps of a contestant, the total left out."""
        mine = [step for where, who, step in self._names() if (where, who) == (part, name)]
        return [step for step in mine if step != TOTAL]

    def get(self, part: str, name: str, step: str = TOTAL) -> list[float]:
        """Samples of one step; KeyError where it was not measured."""
        return self.samples[f"{part}: {name}: {step}"]

    def summary(self, part: str, name: str, step: str = TOTAL) -> Summary:
        """Figures of one step."""
        return summarise(self.get(part, name, step))

    def against(self, part: str, name: str, base: str, step: str = TOTAL) -> Ratio:
        """How ``name`` compares with ``base`` in the same rounds."""
        below = self.get(part, base, TOTAL if base == YARDSTICK else step)
        return ratio(self.get(part, name, step), below)

    def in_yardsticks(self, part: str, name: str, step: str = TOTAL) -> Ratio:
        """A time as a multiple of the matrix product's in the same rounds."""
        return self.against(part, name, YARDSTICK, step)

    def _names(self) -> Iterator[tuple[str, str, str]]:
        for name in self.samples:
            pieces = name.split(": ")
            if len(pieces) == 3:
                yield (pieces[0], pieces[1], pieces[2])

    @property
    def missing(self) -> dict[str, str]:
        """What could not be measured, and why."""
        return dict(self.data["missing"])

    @property
    def where(self) -> str:
        """The machine in words, and how busy it was when the record was written: every process
        that wanted to run, the bench's own among them."""
        machine = self.data["machine"]
        gpu = machine.get("gpu")
        graphics = f", {gpu['name']}" if gpu else ""
        load = machine.get("load")
        busy = "" if load is None else f" (load average {load:.1f})"
        return f"{machine['cores']} cores of {machine['cpu']}{graphics}{busy}"


Readings = list[Reading]


def link(reading: Reading) -> str:
    """The record's place in the clone."""
    return f"`bench/results/{reading.path.name}`"


def only(readings: Readings) -> Reading:
    """The one record of a region; OptionError for none or several."""
    if len(readings) != 1:
        raise OptionError(f"this region is made from one record, not {len(readings)}")
    return readings[0]
