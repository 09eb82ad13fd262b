"""Which of the pictures drawn to train on: mostly those that the network still gets wrong.

A trained network is right about most scenes, and a step on them teaches little: Jiang et al. 2019,
"Accelerating Deep Learning by Focusing on the Biggest Losers".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import losses

EASY = 1 / 3  # share that is taken as it comes, so that easy ones are not forgotten


@torch.no_grad()
def hardest(network: nn.Module, images: Tensor, alpha: Tensor, count: int) -> Tensor:
    """Indices [count] into images [B,3,S,S] and alpha [B,1,S,S]: ``network`` in eval mode judges.

    It sees them at half size, a quarter of the work. What it misses of the object and its mean
    error are added.
    """
    small, truth = (F.interpolate(x, scale_factor=0.5, mode="area") for x in (images, alpha))
    guess = torch.sigmoid(network(small))
    wrong = losses.missed(guess, truth) + (guess - truth).abs().mean(dim=(1, 2, 3))
    easy = round(count * EASY)
    others = wrong[easy:].argsort(descending=True)[: count - easy] + easy
    return torch.cat([torch.arange(easy), others])
