"""The network at one size, rewritten for export: batch norms gone, head applied before upsampling,
windows cut by one constant gather, deformable convolutions as one operator each.

The answer is ``BiRefNet``'s up to rounding. Nothing here is trained; weights are taken over from a
``BiRefNet`` in eval mode, and image patches always enter in the new order (legacy weights are
permuted).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import swin
from .config import GRIDS
from .decoder import AsppBranch, BasicDecBlk, Decoder, image_patches, up
from .deform import deform_conv2d
from .mirror import smaller, with_mirror_image
from .network import BiRefNet, check_size, reorder_weight
from .rewrites import Affine, after, columns, fold_norm, merge, split_qkv, taps_first


@torch.library.custom_op("birefnet::deform_conv", mutates_args=())
def deform_conv(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``deform_conv2d`` with a bias as one opaque operator, so that a trace keeps it whole."""
    return deform_conv2d(x, offset, mask, weight) + bias[:, None, None]


@deform_conv.register_fake
def _(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])


class FixedBlock(nn.Module):
    """One Swin block on tokens [B, H*W, C]."""

    bias: Tensor

    def __init__(self, block: swin.SwinBlock) -> None:
        super().__init__()
        self.heads, self.window, self.shift = block.attn.heads, block.window, block.shift
        self.norm1, self.norm2 = block.norm1, block.norm2
        q, k, v = split_qkv(Affine.of(block.attn.qkv), self.heads)
        self.q, self.k, self.v = q.dense(), k.dense(), v.dense()
        self.proj = Affine.of(block.attn.proj).dense()
        self.fc1, self.fc2 = (Affine.of(layer).dense() for layer in (block.mlp.fc1, block.mlp.fc2))
        self.register_buffer("bias", block.attn.bias().detach().contiguous())

    def forward(self, x: Tensor, grid: Grid, mask: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x), grid, mask)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out

    def attend(self, x: Tensor, grid: Grid, mask: Tensor) -> Tensor:
        batch, _, channels = x.shape
        tokens = self.window**2
        windows = grid.cut(x, self.shift > 0).view(-1, tokens, channels)
        q = self._heads(self.q(windows)).transpose(1, 2)
        k = self._heads(self.k(windows)).permute(0, 2, 3, 1)
        v = self._heads(self.v(windows)).transpose(1, 2)
        scores = q @ k + self.bias
        if self.shift:
            scores = add_by_window(scores, mask, batch)
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, -1, channels)
        return grid.join(self.proj(out), self.shift > 0)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1)


def add_by_window(scores: Tensor, mask: Tensor, batch: int) -> Tensor:
    """Scores [B*nW,heads,N,N] plus a mask [nW,1,N,N]; without a reshape for one picture."""
    if batch == 1:
        return scores + mask
    return (scores.view(batch, -1, *scores.shape[1:]) + mask).view(scores.shape)


class Grid(nn.Module):
    """The windows of one stage at one size: constant indices and masks, shared by its blocks."""

    plain: Tensor
    plain_back: Tensor
    rolled: Tensor
    rolled_back: Tensor
    seams: Tensor
    kinds: Tensor

    def __init__(self, height: int, width: int, window: int) -> None:
        super().__init__()
        self.size = (height, width)
        self.padded = (-(-height // window) * window, -(-width // window) * window)
        self.window, self.tokens = window, window**2
        for name, shift in (("plain", 0), ("rolled", window // 2)):
            take, back = _window_indices(self.size, self.padded, window, shift)
            self.register_buffer(name, take)
            self.register_buffer(f"{name}_back", back)
        self.register_buffer("seams", _seams(window))
        row, column = (_last(side // window) for side in self.padded)
        self.register_buffer("kinds", (row[:, None] + 2 * column).flatten())

    def cut(self, x: Tensor, shifted: bool) -> Tensor:
        """Tokens [B,H*W,C] to window order [B,nW*N,C]; padding tokens are zeros."""
        if self.padded != self.size:
            x = F.pad(x, (0, 0, 0, 1))
        return x.index_select(1, self.rolled if shifted else self.plain)

    def join(self, x: Tensor, shifted: bool) -> Tensor:
        """The inverse of ``cut``; padding tokens are dropped."""
        return x.index_select(1, self.rolled_back if shifted else self.plain_back)

    def mask(self) -> Tensor:
        """The region mask of shifted windows, [nW,1,N,N]: only the last row and column have one.

        Picked from four windows by constant indices, which ONNX Runtime folds when it loads the
        model: in the file the mask takes four windows' bytes instead of all (1,369 at 1024 and
        window 7).
        """
        return self.seams.index_select(0, self.kinds)


class FixedSwin(nn.Module):
    """The backbone; ``grids`` differ between the two passes, weights do not."""

    def __init__(self, net: swin.Swin) -> None:
        super().__init__()
        self.embed = Affine.of(net.patch_embed.proj).conv(stride=4)
        self.embed_norm = net.patch_embed.norm
        self.stages = nn.ModuleList(
            nn.ModuleList(FixedBlock(cast(swin.SwinBlock, block)) for block in stage.blocks)
            for stage in net.stages()
        )
        merges = [stage.downsample for stage in net.stages() if stage.downsample is not None]
        self.merge_norms = nn.ModuleList(merge.norm for merge in merges)
        self.reductions = nn.ModuleList(Affine.of(merge.reduction).dense() for merge in merges)
        self.norms = nn.ModuleList(net.get_submodule(f"norm{stage}") for stage in range(4))

    def forward(self, x: Tensor, grids: nn.ModuleList) -> list[Tensor]:
        x = self.embed_norm(self.embed(x).flatten(2).transpose(1, 2))
        maps = []
        for stage, blocks in enumerate(self.stages):
            grid = cast(Grid, grids[stage])
            mask = grid.mask()
            for block in cast(nn.ModuleList, blocks):
                x = block(x, grid, mask)
            normed = self.norms[stage](x).transpose(1, 2)
            maps.append(normed.reshape(*normed.shape[:2], *grid.size))
            if stage < 3:
                quads = merge_neighbours(x.view(len(x), *grid.size, -1))
                x = self.reductions[stage](self.merge_norms[stage](quads))
        return maps


class FixedBranch(nn.Module):
    """Deformable branch: offsets and modulation from one convolution, batch norm folded."""

    def __init__(self, branch: AsppBranch) -> None:
        super().__init__()
        conv = branch.atrous_conv
        self.taps = conv.modulator_conv.out_channels
        self.steer = merge(Affine.of(conv.offset_conv), Affine.of(conv.modulator_conv)).conv()
        # The modulation is 2 * sigmoid: the factor 2 goes into the weight, exactly.
        folded = fold_norm(Affine.of(conv.regular_conv), branch.bn)
        self.weight = nn.Parameter(2 * folded.weight, requires_grad=False)
        self.bias = nn.Parameter(folded.bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        offset, modulation = self.steer(x).split((2 * self.taps, self.taps), 1)
        return F.relu(deform_conv(x, offset, modulation.sigmoid(), self.weight, self.bias))


class FixedDecBlk(nn.Module):
    """A decoder block whose pyramid's 1x1 is split by branch, so that nothing is concatenated.

    ``last`` [P,O,1,1], where given, is a bias-free 1x1 that follows and is folded into
    ``conv_out``.
    """

    def __init__(self, block: BasicDecBlk, last: Tensor | None = None) -> None:
        super().__init__()
        pyramid = block.dec_att
        self.conv_in = fold_norm(Affine.of(block.conv_in), block.bn_in).conv()
        self.branches = nn.ModuleList(
            FixedBranch(branch) for branch in (pyramid.aspp1, *pyramid.aspp_deforms)
        )
        pool = pyramid.global_avg_pool
        self.pool = fold_norm(Affine.of(pool[1]), pool[2]).conv()  # type: ignore[arg-type]
        mix = fold_norm(Affine.of(pyramid.conv1), pyramid.bn1)
        step = self.pool.out_channels
        parts = [columns(mix, i * step, (i + 1) * step) for i in range(len(self.branches) + 1)]
        none = torch.zeros_like(mix.bias)
        biases = [*[none] * len(self.branches), mix.bias]
        self.mixes = nn.ModuleList(Affine(w, b).conv() for w, b in zip(parts, biases, strict=True))
        out = fold_norm(Affine.of(block.conv_out), block.bn_out)
        self.conv_out = (out if last is None else after(out, last)).conv()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv_in(x))
        mean = x.mean((2, 3), keepdim=True)
        total = self.mixes[-1](F.relu(self.pool(mean)))
        for branch, mix in zip(self.branches, self.mixes, strict=False):
            total = total + mix(branch(x))
        out: Tensor = self.conv_out(F.relu(total))
        return out


class FixedLateral(nn.Module):
    """The skip connection of both passes: the half pass joins ``p`` before the one upsampling.

    Upsampling is linear, so the 1x1 of the half pass's channels runs at half the size.
    """

    def __init__(self, lateral: nn.Module) -> None:
        super().__init__()
        whole = Affine.of(lateral.get_submodule("conv"))
        half = whole.weight.shape[1] // 2
        none = torch.zeros_like(whole.bias)
        self.full_conv = Affine(columns(whole, 0, half), whole.bias).conv()
        self.half_conv = Affine(columns(whole, half, 2 * half), none).conv()

    def forward(self, p: Tensor, full: Tensor, half: Tensor) -> Tensor:
        out: Tensor = resize(p + self.half_conv(half), full) + self.full_conv(full)
        return out


class FixedPatches(nn.Module):
    """The image-patch block of levels 5 to 2, tiles in the new order whatever the weights' is."""

    def __init__(self, decoder: Decoder, level: int) -> None:
        super().__init__()
        self.grid = GRIDS[level]
        first = Affine.of(decoder.get_submodule(f"ipt_blk{level}.conv1"))
        weight = reorder_weight(first.weight, self.grid, decoder.patch_order, "new")
        self.conv1 = Affine(weight, first.bias).conv()
        self.conv2 = Affine.of(decoder.get_submodule(f"ipt_blk{level}.conv_out")).conv()

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(image_patches(image, self.grid, "new")))
        return out


class FixedLevel(nn.Module):
    """Decoder level 4, 3 or 2: image patches, block, gradient attention, lateral."""

    def __init__(self, decoder: Decoder, level: int) -> None:
        super().__init__()
        self.patches = FixedPatches(decoder, level + 1)
        self.block = FixedDecBlk(decoder.get_submodule(f"decoder_block{level}"))  # type: ignore[arg-type]
        conv, norm = (decoder.get_submodule(f"gdt_convs_{level}.{i}") for i in (0, 1))
        self.gradient = fold_norm(Affine.of(conv), norm).conv()  # type: ignore[arg-type]
        self.attention = Affine.of(decoder.get_submodule(f"gdt_convs_attn_{level}.0")).conv()
        self.lateral = FixedLateral(decoder.get_submodule(f"lateral_block{level}"))

    def forward(self, p: Tensor, image: Tensor, full: Tensor, half: Tensor) -> Tensor:
        p = self.block(torch.cat((p, self.patches(image)), 1))
        p = p * torch.sigmoid(self.attention(F.relu(self.gradient(p))))
        out: Tensor = self.lateral(p, full, half)
        return out


class FixedHead(nn.Module):
    """Level 1 and the head: one channel is upsampled instead of the whole map."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.patches = FixedPatches(decoder, 2)
        head = Affine.of(decoder.conv_out1[0])
        deep = decoder.decoder_block1.conv_out.out_channels
        self.block = FixedDecBlk(decoder.decoder_block1, columns(head, 0, deep))
        image = decoder.get_submodule("ipt_blk1")
        second = after(
            Affine.of(image.get_submodule("conv_out")), columns(head, deep, head.weight.shape[1])
        )
        first, gather = taps_first(Affine.of(image.get_submodule("conv1")), second)
        self.image1 = first.conv()
        self.image2 = Affine(gather, second.bias + head.bias).conv()

    def forward(self, p: Tensor, image: Tensor) -> Tensor:
        p = self.block(torch.cat((p, self.patches(image)), 1))
        out: Tensor = resize(p, image) + self.image2(self.image1(image))
        return out


class Grids(nn.Module):
    """The windows of both passes of a picture of one size."""

    def __init__(self, height: int, width: int, window: int) -> None:
        super().__init__()
        self.at_full = _grids(height, width, window)
        self.at_half = _grids(height // 2, width // 2, window)
        self.half_size = (height // 2, width // 2)


class FixedBiRefNet(nn.Module):
    """``BiRefNet`` at one ``size`` (height, width), or ``Mirrored`` of it.

    Takes [B,3,height,width] float32, gives logits [B,1,height,width]. Shares the LayerNorm weights
    with ``net``; everything else is a copy.
    """

    def __init__(self, net: BiRefNet, height: int, width: int, mirror: bool = False) -> None:
        super().__init__()
        check_size(height, width)
        window = net.config.window
        self.size, self.mirror = (height, width), mirror
        self.bb = FixedSwin(net.bb)
        self.grids = Grids(height, width, window)
        self.mirror_grids = Grids(*smaller(height, width), window) if mirror else self.grids
        self.squeeze = FixedDecBlk(net.squeeze_module[0])  # type: ignore[arg-type]
        self.levels = nn.ModuleList(FixedLevel(net.decoder, level) for level in (4, 3, 2))
        self.head = FixedHead(net.decoder)

    def forward(self, image: Tensor) -> Tensor:
        return with_mirror_image(self.logits, image) if self.mirror else self.logits(image)

    def logits(self, image: Tensor) -> Tensor:
        """The network's answer to ``image`` alone, which may be ``smaller`` where it mirrors."""
        grids = self.grids if image.shape[2:] == self.size else self.mirror_grids
        full = self.bb(image, grids.at_full)
        small = F.interpolate(image, size=grids.half_size, mode="bilinear", align_corners=True)
        half = self.bb(small, grids.at_half)
        maps = [torch.cat((f, resize(h, f)), 1) for f, h in zip(full, half, strict=True)]
        p = self.squeeze(torch.cat([*(resize(m, maps[3]) for m in maps[:3]), maps[3]], 1))
        for level, f, h in zip(self.levels, full[2::-1], half[2::-1], strict=True):
            p = level(p, image, f, h)
        logits: Tensor = self.head(p, image)
        return logits


def resize(x: Tensor, like: Tensor) -> Tensor:
    """``up``, but no operator at all where the sizes agree already."""
    return x if x.shape[2:] == like.shape[2:] else up(x, like)


def merge_neighbours(x: Tensor) -> Tensor:
    """``swin.merge_neighbours`` of [B,H,W,C] as one transpose; tokens out, [B,H/2*W/2,4C]."""
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    pairs = x.view(batch, -(-height // 2), 2, -(-width // 2), 2, channels)
    return pairs.permute(0, 1, 3, 4, 2, 5).reshape(batch, -1, 4 * channels)


def _grids(height: int, width: int, window: int) -> nn.ModuleList:
    grids = []
    for stage in range(4):
        height, width = (-(-side // (4 if stage == 0 else 2)) for side in (height, width))
        grids.append(Grid(height, width, window))
    return nn.ModuleList(grids)


def _window_indices(
    size: tuple[int, int], padded: tuple[int, int], window: int, shift: int
) -> tuple[Tensor, Tensor]:
    """Where each window token comes from (H*W is the zero token), and each map token's place."""
    height, width = size
    pixel = torch.full(padded, height * width)
    pixel[:height, :width] = torch.arange(height * width).view(height, width)
    rolled = pixel.roll((-shift, -shift), (0, 1))
    take = swin.to_windows(rolled[None, :, :, None], window).flatten()
    back = torch.empty(height * width + 1, dtype=torch.int64)
    back[take] = torch.arange(take.numel())
    return take, back[:-1].clone()


def _last(count: int) -> Tensor:
    """Zeros and, for the last of ``count`` windows, a one."""
    return (torch.arange(count) == count - 1).long()


def _seams(window: int) -> Tensor:
    """Masks [4,1,N,N] of a window without seam, with one across its rows, its columns, both.

    A seam runs where the roll put the map's far side next to its near side: half a window from the
    window's end. 0 within a part, -inf across.
    """
    part = (torch.arange(window) >= window - window // 2).long()
    row, column = part.repeat_interleave(window), part.repeat(window)
    apart = [side[:, None] != side[None] for side in (row, column)]
    kinds = torch.stack((torch.zeros_like(apart[0]), apart[0], apart[1], apart[0] | apart[1]))
    return torch.zeros(kinds.shape).masked_fill(kinds, float("-inf"))[:, None]
