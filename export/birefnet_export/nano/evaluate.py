"""How good a network is on scenes it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .batches import tensors
from .raster import Bytes

STEP = 4


@dataclass(frozen=True)
class Score:
    """``iou`` of alpha > 0.5, mean over scenes with an object; ``mae`` of alpha over all."""

    iou: float
    mae: float
    scenes: int


@torch.no_grad()
def score(network: nn.Module, pool: Bytes) -> Score:
    """Scores ``network`` (eval mode, float32) on RGBA scenes uint8 [N,S,S,4] at their own size."""
    overlaps: list[float] = []
    errors: list[float] = []
    for start in range(0, len(pool), STEP):
        images, alpha = tensors(pool[start : start + STEP].copy())
        guess = torch.sigmoid(network(images))
        errors += (guess - alpha).abs().mean(dim=(1, 2, 3)).tolist()
        hard, truth = guess > 0.5, alpha > 0.5
        both = (hard & truth).sum(dim=(1, 2, 3))
        either = (hard | truth).sum(dim=(1, 2, 3))
        present = truth.sum(dim=(1, 2, 3)) > 0
        overlaps += (both[present] / either[present]).tolist()
    mean_iou = sum(overlaps) / max(len(overlaps), 1)
    return Score(mean_iou, sum(errors) / max(len(errors), 1), len(pool))
