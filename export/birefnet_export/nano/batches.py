"""Batches from a pool: cropped, mirrored, tinted, normalised; number n is the same in every run."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD

from .raster import Bytes, Rng

SMALLEST_CROP = 0.7


def batch(pool: Bytes, seed: int, step: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """(images [B,3,S,S] normalised RGB, alpha [B,1,S,S] in 0..1), float32, for one step."""
    rng = np.random.default_rng((seed, step))
    chosen = [varied(rng, pool[int(k)], size) for k in rng.integers(len(pool), size=count)]
    return tensors(np.stack(chosen))


def varied(rng: Rng, sample: Bytes, size: int) -> Bytes:
    """One RGBA sample [S,S,4] after a random crop (half of the time), mirror and channel gains."""
    side = sample.shape[0]
    if rng.random() < 0.5:
        kept = int(side * rng.uniform(SMALLEST_CROP, 1))
        top, left = rng.integers(side - kept + 1, size=2)
        sample = sample[top : top + kept, left : left + kept]
    sample = np.ascontiguousarray(sample[:, :: int(rng.choice([-1, 1]))])
    how = cv2.INTER_AREA if size <= sample.shape[0] else cv2.INTER_LINEAR
    sample = np.asarray(cv2.resize(sample, (size, size), interpolation=how), np.uint8)
    gains = np.append(rng.uniform(0.85, 1.15, 3) * rng.uniform(0.8, 1.2), 1.0)
    return np.clip(sample * gains.astype(np.float32), 0, 255).astype(np.uint8)


def tensors(samples: Bytes) -> tuple[Tensor, Tensor]:
    """RGBA uint8 [B,S,S,4] as (normalised images [B,3,S,S], alpha [B,1,S,S])."""
    planes = torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 255
    return normalised(planes[:, :3]), planes[:, 3:].contiguous()


def normalised(images: Tensor) -> Tensor:
    """RGB in 0..1 [B,3,H,W] minus mean, over standard deviation (ImageNet)."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((images - mean[:, None, None]) / std[:, None, None]).contiguous()
