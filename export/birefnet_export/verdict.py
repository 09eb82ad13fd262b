"""What every target of an export ends with."""

from __future__ import annotations

from typing import Any, Protocol


class Verdict(Protocol):
    """Whether one target's files give PyTorch's answer, and by how much they miss it."""

    @property
    def passed(self) -> bool:
        """Whether every figure is inside the gate."""

    def as_dict(self) -> dict[str, Any]:
        """Figures, gate and verdict, for the contract."""

    def table(self) -> str:
        """The figures as lines for a person."""
