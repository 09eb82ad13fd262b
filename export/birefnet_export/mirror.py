"""A picture and its mirror image, one answer: the mean of a network's logits of both.

Test-time augmentation by reflection, as in Krizhevsky et al. 2012, "ImageNet Classification with
Deep Convolutional Neural Networks", section 4.1. It is twice the work. Both are inside of the
exported graph: whoever runs it gives one picture and gets one alpha.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Mirrored(nn.Module):
    """``network`` on pictures and their mirror images: [B,3,H,W] to logits [B,1,H,W]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return with_mirror_image(self.network, image)


def with_mirror_image(network: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Mean of the logits [B,1,H,W] of ``image`` [B,3,H,W] and its mirror image, turned back.

    Both run as one batch of 2 * B.
    """
    plain, turned = network(torch.cat((image, image.flip(3)))).tensor_split(2)
    return (plain + turned.flip(3)) * 0.5


def answering(network: nn.Module, mirror: bool) -> nn.Module:
    """``network`` itself, or ``Mirrored``: what a contract's ``mirror`` asks for."""
    return Mirrored(network) if mirror else network
