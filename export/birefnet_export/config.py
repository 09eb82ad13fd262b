"""What shape a BiRefNet has, and how to read it off the shapes of its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

# Pixels between two legal sizes: four halvings after the patch embedding's stride 4, both passes.
STRIDE = 32
# Tiles per side of the image patches that decoder levels 5..1 see (ZhengPeng7/BiRefNet, decoder).
GRIDS = {5: 32, 4: 16, 3: 8, 2: 4, 1: 1}
# The decoder blocks, deepest first, as their keys begin.
BLOCKS = ("squeeze_module.0", *(f"decoder.decoder_block{level}" for level in (4, 3, 2, 1)))


@dataclass(frozen=True)
class NetworkConfig:
    """Widths and depths of one BiRefNet.

    ``embed`` is the channel count of Swin's first stage, doubled by each later one; ``heads`` must
    divide each stage's channels. ``widths`` are the inner widths of the decoder blocks: the one
    that squeezes, then levels 4 to 1. They are equal in every release; the official code lets them
    follow the input (``dec_channels_inter = 'adap'``). ``aspp`` is the width of the branches of the
    deformable pyramid with ``kernels`` (after its first, 1x1, branch), ``ipt`` that of the
    image-patch blocks, ``gradient`` that of the gradient attention. The defaults are those of every
    released checkpoint. ``patch_order`` says in which channel order the image patches enter:
    ``new`` (official code since 2024-11-05) or ``legacy`` (before it, and
    RMBG-2.0); the weights have the same keys and shapes in both, and give different answers.
    """

    embed: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    mlp_ratio: int = 4
    widths: tuple[int, ...] = (64, 64, 64, 64, 64)
    aspp: int = 256
    kernels: tuple[int, ...] = (1, 3, 7)
    ipt: int = 64
    gradient: int = 16
    patch_order: str = "new"

    def __post_init__(self) -> None:
        if len(self.depths) != 4 or len(self.heads) != 4:
            raise ValueError("a BiRefNet backbone has four stages: give four depths and four heads")
        if len(self.widths) != len(BLOCKS):
            raise ValueError(f"a BiRefNet has {len(BLOCKS)} decoder blocks: give as many widths")
        if any(channels % heads for channels, heads in zip(self.channels, self.heads, strict=True)):
            raise ValueError(
                f"heads {self.heads} do not divide the stages' channels {self.channels}"
            )
        if self.embed % 4:
            raise ValueError(
                f"embed {self.embed} is not a multiple of 4, as the image-patch blocks need"
            )
        if self.patch_order not in ("new", "legacy"):
            raise ValueError(f"patch_order is 'new' or 'legacy', not {self.patch_order!r}")

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the backbone's four stages (strides 4, 8, 16, 32)."""
        return (self.embed, self.embed * 2, self.embed * 4, self.embed * 8)


# Swin Transformer V1 as in ZhengPeng7/BiRefNet models/backbones/swin_v1.py.
BACKBONES = {
    "swin_v1_t": NetworkConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "swin_v1_s": NetworkConfig(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "swin_v1_b": NetworkConfig(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "swin_v1_l": NetworkConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


def infer(shapes: Shapes, patch_order: str) -> NetworkConfig:
    """The configuration whose network has weights of these ``shapes``.

    Raises CheckpointError when they are no Swin BiRefNet's: the text names the first missing key.
    """
    try:
        return _infer(shapes, patch_order)
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            "this is not the checkpoint of a BiRefNet with a Swin backbone (other networks, PVT "
            "backbones and BiRefNet files from before May 2024 are not supported): "
            f"missing {error.args[0]}; found {', '.join(list(shapes)[:5]) or 'no tensor'}"
            f"{', ...' if len(shapes) > 5 else ''} ({len(shapes)} tensors)"
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"the tensors fit no BiRefNet with a Swin backbone: {error}"
        ) from error


def _infer(shapes: Shapes, patch_order: str) -> NetworkConfig:
    embed = shapes["bb.patch_embed.proj.weight"][0]
    block = "bb.layers.{}.blocks.0.attn.relative_position_bias_table"
    tables = [shapes[block.format(stage)] for stage in range(4)]
    aspp = "decoder.decoder_block1.dec_att."
    branches = _count(shapes, rf"{re.escape(aspp)}aspp_deforms\.(\d+)\.bn\.weight")
    kernel = aspp + "aspp_deforms.{}.atrous_conv.regular_conv.weight"
    return NetworkConfig(
        embed=embed,
        depths=tuple(
            _count(shapes, rf"bb\.layers\.{s}\.blocks\.(\d+)\.norm1\.weight") for s in range(4)
        ),
        heads=tuple(table[1] for table in tables),
        window=(math.isqrt(tables[0][0]) + 1) // 2,
        mlp_ratio=shapes["bb.layers.0.blocks.0.mlp.fc1.weight"][0] // embed,
        widths=tuple(shapes[f"{block}.conv_in.weight"][0] for block in BLOCKS),
        aspp=shapes[aspp + "aspp1.bn.weight"][0],
        kernels=tuple(shapes[kernel.format(branch)][2] for branch in range(branches)),
        ipt=shapes["decoder.ipt_blk5.conv1.weight"][0],
        gradient=shapes["decoder.gdt_convs_4.0.weight"][0],
        patch_order=patch_order,
    )


def _count(shapes: Shapes, pattern: str) -> int:
    found = {int(match[1]) for key in shapes if (match := re.fullmatch(pattern, key))}
    return max(found) + 1 if found else 0


def name_of(config: NetworkConfig) -> str:
    """``swin_v1_t`` and so on when the backbone is one of the four, else ``swin_custom``."""
    backbone = (config.embed, config.depths, config.heads, config.window)
    for name, known in BACKBONES.items():
        if backbone == (known.embed, known.depths, known.heads, known.window):
            return name
    return "swin_custom"
