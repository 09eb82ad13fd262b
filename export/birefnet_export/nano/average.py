"""Averages of a network's weights, which generalise better than the last step's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Average:
    """Exponential average of every float entry of a state dict; others are copied.

    The decay starts near 0 and grows to ``decay``: min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.state = {key: value.clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the network's present weights."""
        self.count += 1
        rate = 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        current = network.state_dict()
        floats = [key for key, value in current.items() if value.is_floating_point()]
        # One call for all: a tensor at a time took 5.5 ms a step.
        torch._foreach_lerp_([self.state[k] for k in floats], [current[k] for k in floats], rate)
        for key in current.keys() - set(floats):
            self.state[key].copy_(current[key])

    def load(self, state: dict[str, Tensor], count: int) -> None:
        """Takes up an average that was saved."""
        self.state, self.count = state, count


@torch.no_grad()
def remeasured(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The state of ``network`` with batch norm statistics of ``batches`` [B,3,H,W]: their mean.

    Those of the averaged networks are not those of their average (Izmailov et al. 2018, "Averaging
    Weights Leads to Wider Optima and Better Generalization", section 3.2). The network is in eval
    mode afterwards.
    """
    norms = [m for m in network.eval().modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # of all batches alike
        norm.train()
    for images in batches:
        network(images)
    network.eval()
    return network.state_dict()
