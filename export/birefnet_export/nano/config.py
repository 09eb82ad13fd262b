"""The nano configuration: BiRefNet in 2.5 million parameters."""

from __future__ import annotations

from birefnet_export.checkpoint import ORDER_KEY
from birefnet_export.config import NetworkConfig

SIZE = 576  # pixels of the contract, both ways
SCENE = 512  # pixels of the largest scenes: held out ones, and those that training ends with
MIRROR = True  # whether the embedded model answers from the mirror image as well
NANO = NetworkConfig(
    embed=24,
    depths=(1, 2, 4, 2),
    heads=(2, 4, 8, 16),
    window=6,
    mlp_ratio=2,
    widths=(48, 48, 32, 24, 16),
    aspp=32,
    kernels=(1, 3, 3),
    ipt=6,
    patch_order="new",
)
METADATA = {
    "format": "pt",
    ORDER_KEY: NANO.patch_order,
    "name": "nano",
    "licence": "Apache-2.0",
}
