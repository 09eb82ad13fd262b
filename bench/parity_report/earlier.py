"""This run beside an earlier record of one: what changed, and what got worse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birefnet_runtime.errors import OptionError

from .figures import KINDS, Kind

# What two runs of one graph differ by on other processors and thread counts, and a floor below
# which a difference means nothing in 8 bits.
FACTOR, FLOOR = 1.1, {"1/255": 1e-3, "%": 1e-3, "dB": 0.5, "": 1e-5, "level": 0.5}


@dataclass(frozen=True)
class Change:
    """One figure over all pictures, then and now, in ``kind``'s unit."""

    executor: str
    kind: Kind
    before: float
    now: float

    @property
    def worse(self) -> bool:
        """Whether it moved the wrong way by more than chance."""
        lost = self.now - self.before if self.kind.better == "lower" else self.before - self.now
        room = abs(self.before) * (FACTOR - 1) if self.kind.better == "lower" else 0.0
        return lost > max(room, FLOOR[self.kind.unit])


def read(path: Path) -> dict[str, Any]:
    """The record at ``path``; OptionError where it is none of this command."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "total" not in data["findings"]:
            raise KeyError("findings.total")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(f"{path} is no record of make parity ({error})") from error
    return data


def compare(before: dict[str, Any], total: dict[str, dict[str, float]]) -> list[Change]:
    """Every figure that both runs have, in this run's order."""
    known = before["findings"]["total"]
    return [
        Change(name, kind, known[name][kind.key] * kind.scale, figures[kind.key] * kind.scale)
        for name, figures in total.items()
        for kind in KINDS
        if kind.key in known.get(name, {})
    ]


def differences(before: dict[str, Any], findings: dict[str, Any], hashes: dict[str, str]) -> str:
    """What else is not the same, in words; empty where the two runs compare like with like."""
    then = before["findings"]
    parts = [
        f"other {what}"
        for what in ("pictures", "reference", "size")
        if then.get(what) != findings.get(what)
    ]
    both = set(before["hashes"]) & set(hashes)
    changed = sorted(name for name in both if before["hashes"][name] != hashes[name])
    if changed:
        parts.append(f"other bytes in {', '.join(changed[:4])}")
    return "; ".join(parts)
