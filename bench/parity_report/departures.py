"""The named tensors of the network, and where an executor leaves PyTorch among them."""

from __future__ import annotations

from dataclasses import dataclass

PASSES = ("bb/full", "bb/half")
LEVELS = (4, 3, 2)
STAGES = (
    *(f"{run}/stage{number}" for run in PASSES for number in (1, 2, 3, 4)),
    "squeeze",
    *(f"level{level}/{part}" for level in LEVELS for part in ("block", "out")),
    "logits",
)


@dataclass(frozen=True)
class Departure:
    """One executor's relative errors by stage, what was allowed, and what follows.

    ``first``: the first stage beyond its limit, or None.
    """

    name: str
    errors: dict[str, float]
    limits: dict[str, float]

    @property
    def first(self) -> str | None:
        """The first stage that departs; a NaN does."""
        for stage, error in self.errors.items():
            if not error <= self.limits[stage]:
                return stage
        return None

    @property
    def line(self) -> str:
        """The verdict in one line."""
        stage = self.first
        if stage is None:
            worst = max(self.errors, key=lambda name: self.errors[name])
            return (
                f"{self.name}: no tensor departs (largest relative error "
                f"{self.errors[worst]:.1e}, at {worst}; allowed {self.limits[worst]:.1e})"
            )
        return (
            f"{self.name}: {stage} departs first (relative error {self.errors[stage]:.1e}, "
            f"allowed {self.limits[stage]:.1e})"
        )
