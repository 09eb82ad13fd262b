"""The official network's logits for deterministic weights; ``tests/golden`` holds the data."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birefnet_export.checkpoint import assemble
from birefnet_export.config import BACKBONES, NetworkConfig
from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD
from birefnet_export.network import BiRefNet
from birefnet_export.pictures import normalise
from golden import fill, scene

FOLDER = Path(fill.__file__).parent
LOGITS = {"new": "logits", "legacy": "logits_legacy_patch_order"}
# How logits are kept, by the bytes of one: whole numbers of this step. Those of the official
# network in float32 lose 3e-5, half a step; those in float64 6e-11.
STEPS = {4: ("<i4", 2.0**-14), 8: ("<i8", 2.0**-33)}

# A network small enough for any test, with every part: odd grids, padding, three kernel sizes.
SMALL = NetworkConfig(
    16,
    (2, 2, 2, 2),
    (2, 4, 4, 8),
    7,
    widths=(8,) * 5,
    aspp=12,
    kernels=(1, 3, 5),
    ipt=4,
    gradient=4,
)


@cache
def state(backbone: str) -> dict[str, Tensor]:
    """Every float tensor of the deterministic checkpoint."""
    # Kept for the whole run: made in inference mode, they would be of no use outside of it.
    with torch.inference_mode(False):
        return {key: torch.from_numpy(value) for key, value in fill.weights(backbone).items()}


def network(backbone: str, order: str) -> BiRefNet:
    """A network with the deterministic weights."""
    return assemble(replace(BACKBONES[backbone], patch_order=order), state(backbone), backbone)


def case(backbone: str, name: str) -> dict[str, NDArray[Any]]:
    """``image`` uint8 [N,H,W,3] of the name and the official logits, float64 [N,1,H,W], by LOGITS.

    ``logits`` of swin_v1_t at 1x256x256 were computed in float64, the others in float32.
    """
    with np.load(FOLDER / "pictures.npz") as pictures:
        # Each value is kept as the difference to its left neighbour, modulo 256.
        image = np.cumsum(pictures[name], axis=2, dtype=np.uint8)
    with np.load(FOLDER / f"{backbone}_{name}.npz") as data:
        return {"image": image, **{key: _logits(data[key]) for key in LOGITS.values()}}


def _logits(planes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logits from the bytes of their whole numbers, [4 or 8, ...], lowest first."""
    kind, step = STEPS[len(planes)]
    numbers = np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view(kind)[..., 0]
    logits: NDArray[np.float64] = numbers * step
    return logits


def from_official(backbone: str, order: str, logits: NDArray[np.floating[Any]]) -> float:
    """How far ``logits`` [1,1,1024,1024] of ``scene.scene()`` are from the official network's at
    the points that are kept: the largest difference.
    """
    with np.load(FOLDER / f"{backbone}_1x1024x1024_points.npz") as data:
        kept = data[LOGITS[order]]
    rows, columns = scene.points().T
    return float(np.abs(logits[0, 0, rows, columns] - kept).max())


def to_input(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [N,H,W,3] to the network's input, float32."""
    return torch.from_numpy(normalise(images, IMAGENET_MEAN, IMAGENET_STD))


def to_input64(images: NDArray[np.uint8]) -> Tensor:
    """The same in float64, with the float32 values of mean and std as the golden file has."""
    mean, std = (
        np.asarray(v, np.float32).astype(np.float64) for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return torch.from_numpy(((images / 255.0 - mean) / std).transpose(0, 3, 1, 2).copy())


def small(order: str = "new", seed: int = 0) -> BiRefNet:
    """A small network in eval mode with lively random weights and batch-norm statistics."""
    torch.manual_seed(seed)
    net = BiRefNet(replace(SMALL, patch_order=order)).eval()
    for value in net.parameters():
        scale = 0.3 if value.dim() < 2 else value[0].numel() ** -0.5
        value.data = torch.randn_like(value) * scale
        value.requires_grad_(False)
    for key, buffer in net.named_buffers():
        if key.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net
