"""Muon: momentum whose matrices are made orthogonal, so that every direction learns equally fast.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the quintic's
coefficients and the scale of the update are those of Liu et al. 2025, "Muon is Scalable for LLM
Training". PyTorch's own (torch.optim.Muon) takes matrices only; a convolution is a matrix here as
well, output channels by the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .team import Team

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters of two or more dimensions.

    An update has root mean square 0.2 ``lr``, as AdamW's have roughly, so rates can be shared.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        team: Team | None = None,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.team = team or Team()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every parameter that has a gradient; the members of a team share the iterations."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            updates = [self._update(p, group["momentum"]) for p in moved]
            mine = shares([work(u) for u in updates], self.team.size)[self.team.rank]
            for index, update in enumerate(updates):
                updates[index] = orthogonal(update) if index in mine else torch.zeros_like(update)
            self.team.add(updates)
            for parameter, update in zip(moved, updates, strict=True):
                scale = 0.2 * max(update.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)

    def _update(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's step for ``parameter`` as a matrix, its state moved on."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        velocity: Tensor = state["momentum"]
        velocity.lerp_(gradient, 1 - momentum)
        return gradient.lerp(velocity, momentum).flatten(1)


def work(matrix: Tensor) -> int:
    """Multiplications of one iteration of ``orthogonal``, and something for its calls."""
    small, large = sorted(matrix.shape)
    return small * small * (2 * large + small) + 50_000


def shares(costs: Sequence[int], count: int) -> list[set[int]]:
    """``count`` sets of indices of about the same total cost: the dearest first, to the idlest."""
    parts: list[set[int]] = [set() for _ in range(count)]
    totals = [0] * count
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        idle = totals.index(min(totals))
        parts[idle].add(index)
        totals[idle] += costs[index]
    return parts


def orthogonal(matrix: Tensor) -> Tensor:
    """[M,N] with its singular values brought to about one: a Newton-Schulz iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    a, b, c = COEFFICIENTS
    x: Tensor = wide / (wide.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
