"""Swin Transformer V1, the backbone: Liu et al. 2021, as ZhengPeng7/BiRefNet runs it.

It differs from the paper in two points that decide the answer: blocks with an odd index are always
shifted, even where one window covers the map, and padding tokens are not masked.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import NetworkConfig


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias by relative position."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self) -> Tensor:
        """Relative position bias [heads, N, N], N = window**2."""
        size = self.window**2
        table = self.relative_position_bias_table[self.relative_position_index.flatten()]
        return table.view(size, size, self.heads).permute(2, 0, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` [B*nW, N, C], ``mask`` [nW, N, N] of 0 and -inf or None; returns the shape of
        ``x``.
        """
        windows, size, channels = x.shape
        q, k, v = self.qkv(x).view(windows, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias()[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(windows // mask.shape[0], 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(windows, size, channels))
        return projected


class SwinBlock(nn.Module):
    """Attention in (shifted) windows and an MLP, each after a LayerNorm and with a residual."""

    def __init__(self, channels: int, heads: int, window: int, shift: int, ratio: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, ratio * channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [B,H,W,C]; ``mask`` is used by shifted blocks only."""
        x = x + self.attend(self.norm1(x), mask)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention of the normalised map ``x`` [B,H,W,C]; zero padding after the norm, to the
        right.
        """
        height, width = x.shape[1:3]
        x = pad_to_windows(x, self.window)
        padded = (x.shape[1], x.shape[2])
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = self.attn(to_windows(x, self.window), mask if self.shift else None)
        x = from_windows(x, self.window, padded)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Halve the map: 2x2 neighbours as channels, LayerNorm, linear to twice the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B,H,W,C] to [B,ceil(H/2),ceil(W/2),2C]; an odd side is padded by zeros."""
        out: Tensor = self.reduction(self.norm(merge_neighbours(x)))
        return out


class Stage(nn.Module):
    """Blocks of one resolution, shifted by half a window in turn; the last stage has no merging."""

    def __init__(self, config: NetworkConfig, stage: int) -> None:
        super().__init__()
        channels, window = config.channels[stage], config.window
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(
                channels, config.heads[stage], window, index % 2 * (window // 2), config.mlp_ratio
            )
            for index in range(config.depths[stage])
        )
        self.downsample = PatchMerging(channels) if stage < 3 else None

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-side // self.window) * self.window for side in x.shape[1:3])
        mask = shift_mask(height, width, self.window).to(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbed(nn.Module):
    """4x4 patches to ``embed`` channels and a LayerNorm over them."""

    def __init__(self, embed: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed, 4, 4)
        self.norm = nn.LayerNorm(embed)

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,H,W] to [B,ceil(H/4),ceil(W/4),embed]."""
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        out: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class Swin(nn.Module):
    """The backbone; submodule names are those of the official checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.embed)
        self.layers = nn.ModuleList(Stage(config, stage) for stage in range(4))
        for stage, channels in enumerate(config.channels):
            self.add_module(f"norm{stage}", nn.LayerNorm(channels))

    def stages(self) -> list[Stage]:
        """``layers``, typed."""
        return [cast(Stage, stage) for stage in self.layers]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B,3,H,W] to four maps [B,Ci,Hi,Wi] at strides 4, 8, 16, 32, each normalised."""
        x = self.patch_embed(x)
        maps = []
        for index, stage in enumerate(self.stages()):
            x = stage(x)
            maps.append(self.get_submodule(f"norm{index}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return maps


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each (query, key) pair, int64 [window**2, window**2]."""
    line = torch.arange(window)
    y, x = line.repeat_interleave(window), line.repeat(window)
    rows = y[:, None] - y[None] + window - 1
    columns = x[:, None] - x[None] + window - 1
    return rows * (2 * window - 1) + columns


def bands(size: int, window: int) -> Tensor:
    """Band number 0, 1 or 2 of each of ``size`` rolled positions: tokens of two bands are
    strangers.
    """
    position = torch.arange(size)
    return (position >= size - window).long() + (position >= size - window // 2).long()


def shift_mask(height: int, width: int, window: int) -> Tensor:
    """What shifted blocks add to the scores: float32 [nW, N, N], -inf across regions, else 0."""
    region = bands(height, window)[:, None] * 3 + bands(width, window)[None]
    flat = to_windows(region[None, :, :, None], window)[..., 0]
    return torch.zeros(1).masked_fill(flat[:, :, None] != flat[:, None], float("-inf"))


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """[B,H,W,C] padded with zeros below and to the right to whole windows."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % window, 0, -x.shape[1] % window))


def to_windows(x: Tensor, window: int) -> Tensor:
    """[B,H,W,C] to [B*nW, window**2, C], windows and tokens row-major."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def from_windows(x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of ``to_windows`` for a map of ``size`` (H, W)."""
    height, width = size
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


def merge_neighbours(x: Tensor) -> Tensor:
    """[B,H,W,C] to [B,ceil(H/2),ceil(W/2),4C]: even, odd row, odd column, both odd."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    parts = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
    return torch.cat(parts, -1)
