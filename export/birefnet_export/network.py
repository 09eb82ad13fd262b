"""BiRefNet: one Swin backbone run on the picture and on its half, a squeeze, a decoder.

Zheng et al., Bilateral Reference for High-Resolution Dichotomous Image Segmentation (2024);
arithmetic and state_dict keys of ZhengPeng7/BiRefNet (MIT), eval mode. ``nn.BatchNorm2d`` and
``nn.LayerNorm`` keep PyTorch's eps of 1e-5, which is the official one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import GRIDS, STRIDE, NetworkConfig
from .decoder import BasicDecBlk, Decoder, up
from .errors import SizeError
from .swin import Swin


class BiRefNet(nn.Module):
    """The network; ``bb``, ``squeeze_module`` and ``decoder`` are the official key prefixes."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        deep = 2 * config.channels[3]
        self.bb = Swin(config)
        squeeze = BasicDecBlk(config, config.widths[0], 2 * sum(config.channels), deep)
        self.squeeze_module = nn.Sequential(squeeze)
        self.decoder = Decoder(config)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B,1,H,W] of ``x`` [B,3,H,W]: RGB normalised by the ImageNet mean and deviation.

        Raises SizeError unless H and W are multiples of 32. Alpha is the sigmoid of the result.
        """
        return self.forward_sides(x)[0]

    def forward_sides(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``forward`` and the side logits at strides 32, 16 and 8, for deep supervision."""
        check_size(x.shape[2], x.shape[3])
        logits, sides = self.decoder(x, self.fuse(x))
        return logits, sides

    def fuse(self, x: Tensor) -> list[Tensor]:
        """The four maps that the decoder takes: both passes side by side, the last one squeezed."""
        full = self.bb(x)
        half = self.bb(up(x, x[:, :, ::2, ::2]))
        maps = [torch.cat((f, up(h, f)), 1) for f, h in zip(full, half, strict=True)]
        context = torch.cat([*(up(m, maps[3]) for m in maps[:3]), maps[3]], 1)
        return [*maps[:3], self.squeeze_module(context)]


def check_size(height: int, width: int) -> None:
    """Raise SizeError unless both are positive multiples of 32; the text names the nearest."""
    bad = [side for side in (height, width) if side < STRIDE or side % STRIDE]
    if bad:
        near = " x ".join(
            str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in (height, width)
        )
        raise SizeError(
            f"BiRefNet cannot take {height} x {width} (height x width): both must be multiples of "
            f"{STRIDE}; the nearest legal size is {near}"
        )


def reorder_patches(state: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """A new dict: ``state`` with the image-patch weights moved from one patch order to the other.

    The network with the result and ``patch_order=target`` answers as the original did under
    ``source``.
    """
    result = dict(state)
    for level, grid in GRIDS.items():
        key = f"decoder.ipt_blk{level}.conv1.weight"
        result[key] = reorder_weight(state[key], grid, source, target)
    return result


def reorder_weight(weight: Tensor, grid: int, source: str, target: str) -> Tensor:
    """One image-patch convolution [O, 3*grid**2, k, k] moved from one patch order to the other."""
    if source == target:
        return weight
    axes = (3, grid, grid) if source == "new" else (grid, grid, 3)
    # Both orders are each other's mirror: (colour, row, column) against (column, row, colour).
    tiles = weight.view(weight.shape[0], *axes, *weight.shape[2:])
    return tiles.permute(0, 3, 2, 1, 4, 5).reshape(weight.shape).contiguous()
