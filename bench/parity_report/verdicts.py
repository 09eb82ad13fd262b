"""What an executor must keep to, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gate:
    """Limits by figure, in 0..1, and where they come from. No limits: an executor to measure by."""

    limits: dict[str, float]
    source: str


@dataclass(frozen=True)
class Verdict:
    """Whether one executor is inside its gate; ``reasons`` say where it is not."""

    gate: Gate
    reasons: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons

    @property
    def word(self) -> str:
        """What a table says."""
        if not self.passed:
            return "OUTSIDE"
        return "inside" if self.gate.limits else "yardstick"
