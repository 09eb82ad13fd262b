"""Batches from pools of layers: every sample a new scene; number n is the same in every run."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD

from .raster import Bytes, Rng
from .scenes import joined

SMALLEST_CROP = 0.65  # of an object's frame, and of a background


def batch(
    pools: Sequence[Bytes], seed: int, step: int, count: int, size: int
) -> tuple[Tensor, Tensor]:
    """(images [B,3,S,S] normalised RGB, alpha [B,1,S,S] in 0..1), float32, for one step."""
    rng = np.random.default_rng((seed, step))
    pool = nearest(pools, size)
    return tensors(np.stack([varied(rng, pool, size) for _ in range(count)]))


def nearest(pools: Sequence[Bytes], size: int) -> Bytes:
    """The pool of the smallest pictures that need not be enlarged to ``size``, or the largest."""
    ordered = sorted(pools, key=lambda pool: pool.shape[1])
    return next((pool for pool in ordered if pool.shape[1] >= size), ordered[-1])


def varied(rng: Rng, pool: Bytes, size: int) -> Bytes:
    """One shot RGBA [S,S,4]: any object of the pool, cropped, on any background, cropped, turned.

    A pool of N scenes has N * N pairs; light, shadow and camera are drawn anew as well.
    """
    front, behind = rng.integers(len(pool), size=2)
    objects = cropped(rng, pool[front, ..., :4], size)
    grounds = cropped(rng, pool[behind, ..., 4:], size)
    if rng.random() < 0.2:
        grounds = np.rot90(grounds, int(rng.integers(4)))
    return joined(rng, objects, grounds)


def cropped(rng: Rng, picture: Bytes, size: int) -> Bytes:
    """[S,S,C] after a random crop (60 % of the time) and mirror."""
    side = picture.shape[0]
    if rng.random() < 0.6:
        kept = int(side * rng.uniform(SMALLEST_CROP, 1))
        top, left = rng.integers(side - kept + 1, size=2)
        picture = picture[top : top + kept, left : left + kept]
    how = cv2.INTER_AREA if size <= picture.shape[0] else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(picture), (size, size), interpolation=how)
    return np.ascontiguousarray(small[:, :: int(rng.choice([-1, 1]))], np.uint8)


def tensors(samples: Bytes) -> tuple[Tensor, Tensor]:
    """RGBA uint8 [B,S,S,4] as (normalised images [B,3,S,S], alpha [B,1,S,S])."""
    planes = torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 255
    return normalised(planes[:, :3]), planes[:, 3:].contiguous()


def normalised(images: Tensor) -> Tensor:
    """RGB in 0..1 [B,3,H,W] minus mean, over standard deviation (ImageNet)."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((images - mean[:, None, None]) / std[:, None, None]).contiguous()
