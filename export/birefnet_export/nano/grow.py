"""Weights of a smaller nano in one with wider decoder blocks, which answers alike at first.

Chen et al. 2016, "Net2Net: Accelerating Learning via Knowledge Transfer": a larger network goes on
from a smaller one's answers instead of from nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from birefnet_export.config import NetworkConfig
from birefnet_export.errors import CheckpointError
from birefnet_export.network import BiRefNet


def grown(network: BiRefNet, config: NetworkConfig) -> BiRefNet:
    """``network`` as one of ``config``, in eval mode; the logits are the same but for rounding.

    New channels start at random, the same in every call, and are read with weights of zero. Raises
    CheckpointError where ``config`` differs in more than wider ``widths``.
    """
    small = network.config
    wider = all(a <= b for a, b in zip(small.widths, config.widths, strict=True))
    if not wider or replace(small, widths=config.widths) != config:
        raise CheckpointError(
            f"weights of {small} cannot go on as {config}: only widths may differ, and be more"
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        larger = BiRefNet(config)
    old = network.state_dict()
    larger.load_state_dict({k: widened(v, old[k]) for k, v in larger.state_dict().items()})
    return larger.eval()


def widened(fresh: Tensor, old: Tensor) -> Tensor:
    """``old`` within ``fresh``, which gives the new outputs; new inputs count for nothing."""
    if fresh.shape == old.shape:
        return old
    result = fresh.clone()
    if fresh.ndim > 1:
        result[:, old.shape[1] :] = 0
    result[tuple(slice(side) for side in old.shape)] = old
    return result
