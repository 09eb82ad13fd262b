"""BiRefNet's decoder: deformable pyramids, image patches at every level, gradient attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import GRIDS, NetworkConfig
from .deform import deform_conv2d


class DeformableConv(nn.Module):
    """Deformable convolution whose offsets and modulation come from two plain ones.

    ``regular_conv`` is never called: it only holds the weight, under its official key.
    """

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        padding = kernel // 2
        self.offset_conv = nn.Conv2d(channels, 2 * kernel**2, kernel, padding=padding)
        self.modulator_conv = nn.Conv2d(channels, kernel**2, kernel, padding=padding)
        self.regular_conv = nn.Conv2d(channels, out, kernel, padding=padding, bias=False)
        # DCNv2 (Zhu et al. 2019, section 3.2) starts as a plain convolution.
        for conv in (self.offset_conv, self.modulator_conv):
            for parameter in conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        mask = 2 * torch.sigmoid(self.modulator_conv(x))
        return deform_conv2d(x, self.offset_conv(x), mask, self.regular_conv.weight)


class AsppBranch(nn.Module):
    """Deformable convolution, batch norm, ReLU."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.atrous_conv = DeformableConv(channels, out, kernel)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.atrous_conv(x)))


class AsppDeformable(nn.Module):
    """Deformable branches and a global mean side by side, then a 1x1 back to the width."""

    def __init__(self, config: NetworkConfig, width: int) -> None:
        super().__init__()
        aspp = config.aspp
        self.aspp1 = AsppBranch(width, aspp, 1)
        self.aspp_deforms = nn.ModuleList(AsppBranch(width, aspp, k) for k in config.kernels)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, aspp, 1, bias=False),
            nn.BatchNorm2d(aspp),
            nn.ReLU(),
        )
        self.conv1 = nn.Conv2d(aspp * (2 + len(config.kernels)), width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.aspp1(x), *(branch(x) for branch in self.aspp_deforms)]
        branches.append(self.global_avg_pool(x).expand(-1, -1, *x.shape[2:]))
        return F.relu(self.bn1(self.conv1(torch.cat(branches, 1))))


class BasicDecBlk(nn.Module):
    """3x3 to the inner width, deformable pyramid, 3x3 to the outer width, no last activation."""

    def __init__(self, config: NetworkConfig, width: int, channels: int, out: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.bn_in = nn.BatchNorm2d(width)
        self.dec_att = AsppDeformable(config, width)
        self.conv_out = nn.Conv2d(width, out, 3, padding=1)
        self.bn_out = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn_out(self.conv_out(self.dec_att(F.relu(self.bn_in(self.conv_in(x))))))
        return out


class ImagePatchBlock(nn.Module):
    """Two 3x3 convolutions of the image patches, nothing between or after."""

    def __init__(self, channels: int, width: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_out(self.conv1(x))
        return out


class Lateral(nn.Module):
    """1x1 convolution of a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


@dataclass(frozen=True)
class Widths:
    """Channels of the decoder: ``d`` of the levels' skips, ``q`` of the image patches, by level."""

    d: dict[int, int]
    q: dict[int, int]

    @classmethod
    def of(cls, config: NetworkConfig) -> Widths:
        d = {level + 1: 2 * channels for level, channels in enumerate(config.channels)}
        return cls(d, {level: d[min(level, 4)] // 8 for level in GRIDS})


class Decoder(nn.Module):
    """Levels 4 to 1; submodule names are those of the official checkpoints.

    ``conv_ms_spvn_*`` and ``gdt_convs_pred_*`` serve training only; every checkpoint has them.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.patch_order = config.patch_order
        w = Widths.of(config)
        for level, grid in GRIDS.items():
            block = ImagePatchBlock(3 * grid**2, config.ipt, w.q[level])
            self.add_module(f"ipt_blk{level}", block)
        for level in (4, 3, 2):
            out = w.d[level - 1]
            self._add_level(config, level, w.d[level] + w.q[level + 1], out)
        self.decoder_block1 = BasicDecBlk(config, config.widths[-1], w.d[1] + w.q[2], w.d[1] // 2)
        self.conv_out1 = nn.Sequential(nn.Conv2d(w.d[1] // 2 + w.q[1], 1, 1))

    def _add_level(self, config: NetworkConfig, level: int, channels: int, out: int) -> None:
        inner = config.gradient
        gradient = (nn.Conv2d(out, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU())
        block = BasicDecBlk(config, config.widths[-level], channels, out)
        self.add_module(f"decoder_block{level}", block)
        self.add_module(f"lateral_block{level}", Lateral(out))
        self.add_module(f"conv_ms_spvn_{level}", nn.Conv2d(out, 1, 1))
        self.add_module(f"gdt_convs_{level}", nn.Sequential(*gradient))
        self.add_module(f"gdt_convs_pred_{level}", nn.Sequential(nn.Conv2d(inner, 1, 1)))
        self.add_module(f"gdt_convs_attn_{level}", nn.Sequential(nn.Conv2d(inner, 1, 1)))

    def part(self, name: str, level: int) -> nn.Module:
        """The submodule ``name`` + ``level``."""
        return self.get_submodule(f"{name}{level}")

    def forward(self, image: Tensor, x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits [B,1,H,W] and the side logits of levels 4, 3, 2 (strides 32, 16, 8).

        ``image`` [B,3,H,W] is the normalised input, ``x`` the four fused maps, the last one
        squeezed.
        """
        p, sides = self.levels(image, x)
        p = torch.cat((up(p, image), self.part("ipt_blk", 1)(image)), 1)
        return self.conv_out1(p), sides

    def levels(self, image: Tensor, x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The map before the last upsampling, at stride 4, and the side logits of ``forward``."""
        p, sides = x[3], []
        for level in (4, 3, 2):
            p = self.part("decoder_block", level)(
                torch.cat((p, self.patches(image, p, level + 1)), 1)
            )
            sides.append(self.part("conv_ms_spvn_", level)(p))
            gradient = self.part("gdt_convs_", level)(p)
            p = p * torch.sigmoid(self.part("gdt_convs_attn_", level)(gradient))
            skip = x[level - 2]
            p = up(p, skip) + self.part("lateral_block", level)(skip)
        return self.decoder_block1(torch.cat((p, self.patches(image, p, 2)), 1)), sides

    def patches(self, image: Tensor, like: Tensor, level: int) -> Tensor:
        """The image-patch block of ``level`` on the tiles of ``image``, at the size of ``like``."""
        tiles = image_patches(image, GRIDS[level], self.patch_order)
        assert tiles.shape[2:] == like.shape[2:]
        out: Tensor = self.part("ipt_blk", level)(tiles)
        return out


def up(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of ``x`` to the size of ``like``, corners aligned, no antialias."""
    size = (like.shape[2], like.shape[3])
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def image_patches(image: Tensor, grid: int, order: str) -> Tensor:
    """``grid`` x ``grid`` contiguous tiles of [B,3,H,W] as channels: [B,3*grid**2,H/grid,W/grid].

    Channel of tile (i, j) and colour c: ``new`` c*grid**2 + i*grid + j; ``legacy`` (j*grid + i)*3 +
    c.
    """
    batch, colours, height, width = image.shape
    tiles = image.view(batch, colours, grid, height // grid, grid, width // grid)
    axes = (0, 1, 2, 4, 3, 5) if order == "new" else (0, 4, 2, 1, 3, 5)
    return tiles.permute(axes).reshape(batch, colours * grid**2, height // grid, width // grid)
