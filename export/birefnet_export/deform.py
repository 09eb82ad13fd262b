"""Deformable convolution (DCNv2) in plain PyTorch: stride 1, one group, no dilation.

The arithmetic is torchvision.ops.deform_conv2d's: bilinear samples in pixel coordinates, neighbours
outside the map count as 0, even offset channels are vertical. Two forms with the same result:
without gradients each sample is a bag of four weighted rows (``embedding_bag``), then one matrix
product; with gradients one ``grid_sample`` of all taps. Measured on two cores, forward, 64 channels
at 256x256, kernel 7: 1.25 s for the bags, 6.7 s for grid_sample tap by tap; but backward, at 64x64
and kernel 5, the bags take twice as long.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Samples times channels gathered at once: 2**24 float32 are 64 MiB, whatever the picture's size.
GATHER = 1 << 24


def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Deformable convolution with "same" padding and no bias.

    ``x`` [B,C,H,W]; ``offset`` [B,2*k*k,H,W] in pixels, (vertical, horizontal) per tap, taps row-
    major; ``mask`` [B,k*k,H,W]; ``weight`` [O,C,k,k], k odd. Returns [B,O,H,W], dtype and device of
    ``x``. Half tensors are sampled in float32: half coordinates cost 3 % of the samples' value at
    256x256.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, offset, mask, weight)):
        return _sampled(x, offset, mask, weight)
    rows = x.shape[2] * x.shape[3]
    taps = weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
    out = x.new_empty(x.shape[0], rows, weight.shape[0])
    chunk = max(1, GATHER // taps.shape[0])
    for image, result in enumerate(out):
        for start in range(0, rows, chunk):
            part = slice(start, min(start + chunk, rows))
            columns = _columns(x[image], offset[image], mask[image], part)
            torch.mm(columns.to(x.dtype), taps, out=result[part])
    return out.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])


def _columns(x: Tensor, offset: Tensor, mask: Tensor, part: slice) -> Tensor:
    """The samples of the pixels in ``part`` (row-major), as [pixels, k*k*C]."""
    x, offset, mask = (t.float() if t.dtype == torch.half else t for t in (x, offset, mask))
    channels, height, width = x.shape
    count = mask.shape[0]
    shift = offset.reshape(count, 2, -1)[:, :, part]
    rows, columns = _taps(count, x)
    pixel = torch.arange(part.start, part.stop, device=x.device)
    y = shift[:, 0].T + rows + (pixel // width)[:, None]
    z = shift[:, 1].T + columns + (pixel % width)[:, None]
    index, weight = _neighbours(y, z, height, width)
    weight = weight * mask.reshape(count, -1)[:, part].T[..., None]
    table = x.reshape(channels, -1).T.contiguous()
    bags = F.embedding_bag(
        index.view(-1, 4), table, per_sample_weights=weight.view(-1, 4), mode="sum"
    )
    return bags.view(len(pixel), -1)


def _taps(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each tap relative to the kernel's centre, two [count] tensors."""
    kernel = round(count**0.5)
    line = _line(kernel, like) - kernel // 2
    return line.repeat_interleave(kernel), line.repeat(kernel)


def _neighbours(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Flat indices and bilinear weights of the four pixels around (y, x): two [..., 4] tensors.

    A neighbour outside the map gets weight 0 and the index of the nearest pixel inside.
    """
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    rows = torch.stack((top, top, top + 1, top + 1), -1)
    columns = torch.stack((left, left + 1, left, left + 1), -1)
    weight = torch.stack(
        ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right), -1
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return index.long(), weight * inside


def _sampled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """The differentiable form: every tap's map from one grid_sample, then a 1x1 convolution."""
    batch, channels, height, width = x.shape
    count = mask.shape[1]
    rows, columns = _taps(count, x)
    shift = offset.view(batch, count, 2, height, width)
    y = shift[:, :, 0] + rows[:, None, None] + _line(height, x)[:, None]
    z = shift[:, :, 1] + columns[:, None, None] + _line(width, x)
    grid = torch.stack((_unit(z, width), _unit(y, height)), -1).flatten(1, 2)
    samples = F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)
    samples = samples.view(batch, channels, count, height, width) * mask[:, None]
    return F.conv2d(samples.flatten(1, 2), weight.flatten(1)[..., None, None])


def _line(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device)


def _unit(pixel: Tensor, size: int) -> Tensor:
    """Pixels as grid_sample's -1..1 with align_corners, which a side of one pixel lacks."""
    if size < 2:
        raise ValueError("training needs maps of at least 2x2: use pictures of 64x64 or more")
    return pixel * (2.0 / (size - 1)) - 1.0
