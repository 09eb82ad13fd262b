"""Batches from pools of layers: every sample a new scene; number n is the same in every run."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD

from .raster import Bytes, Plane, Rng, as_float, blur, to_bytes, to_float
from .scenes import composite, joined

SMALLEST_CROP = 0.65  # of an object's frame, and of a background
HALVED = 0.2  # share of other backgrounds that are two, with an edge between them
CORNER = 0.35  # share of these edges that end in a corner
SOFT = 0.15  # share of layers, and of shots, out of focus


def batch(
    pools: Sequence[Bytes], seed: Sequence[int], count: int, size: int
) -> tuple[Tensor, Tensor]:
    """(images [B,3,S,S] normalised RGB, alpha [B,1,S,S] in 0..1), float32; equal for equal seeds.

    ``seed`` are the run, the step and the member of the team.
    """
    rng = np.random.default_rng(seed)
    pool = nearest(pools, size)
    return tensors(np.stack([varied(rng, pool, size) for _ in range(count)]))


def nearest(pools: Sequence[Bytes], size: int) -> Bytes:
    """The pool of the smallest pictures that need not be enlarged to ``size``, or the largest."""
    ordered = sorted(pools, key=lambda pool: pool.shape[1])
    return next((pool for pool in ordered if pool.shape[1] >= size), ordered[-1])


def varied(rng: Rng, pool: Bytes, size: int) -> Bytes:
    """One shot RGBA [S,S,4]: any object of the pool, cropped, on any background, cropped, turned.

    A pool of N scenes has N * N pairs; some shots keep to a scene's own, more or less often by its
    kind: see ``stacked``. Colours, light, shadow, focus and camera are drawn anew as well.
    """
    front, behind, beside = rng.integers(len(pool), size=3)
    objects = tinted(rng, cropped(rng, layer(pool, front, 0), size))
    if rng.random() < pool[front, 0, 0, 7] / 255:
        grounds = ground(rng, pool, front, size)
    else:
        grounds = ground(rng, pool, behind, size)
        if rng.random() < 0.2:
            grounds = np.rot90(grounds, int(rng.integers(4)))
        if rng.random() < HALVED:
            grounds = composite(ground(rng, pool, beside, size), grounds, to_bytes(half(rng, size)))
    return softened(rng, joined(rng, softened(rng, objects), softened(rng, grounds)))


def ground(rng: Rng, pool: Bytes, index: int, size: int) -> Bytes:
    """The background [S,S,3] of picture ``index``, cropped and tinted."""
    return tinted(rng, cropped(rng, layer(pool, index, 1), size))[..., :3]


def half(rng: Rng, size: int) -> Plane:
    """[S,S], one on one side of a straight edge and zero on the other: floor and wall, sea and sky.

    Three in five are nearly level. The lower of two surfaces was often taken for the object, and so
    was a table whose corner is seen: ``CORNER`` of the edges have another that cuts them short.
    """
    angle = rng.normal(0, 0.1) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    plane = side(rng, size, (0.5, rng.uniform(0.3, 0.9)), angle)
    if rng.random() >= CORNER:
        return plane
    spot = (rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85))
    return plane * side(rng, size, spot, rng.uniform(-np.pi, np.pi))


def side(rng: Rng, size: int, spot: tuple[float, float], angle: float) -> Plane:
    """[S,S], one below the line through ``spot`` (x, y in 0..1), which is level at ``angle`` 0."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    across = (y - spot[1]) * np.cos(angle) + (x - spot[0]) * np.sin(angle)
    return as_float(np.clip(across * size / rng.uniform(1, 4) + 0.5, 0, 1))


def softened(rng: Rng, picture: Bytes) -> Bytes:
    """[S,S,3 or 4] with, now and then, blurred colours: detail must not tell object from ground."""
    if rng.random() >= SOFT:
        return picture
    blurred = blur(to_float(picture[..., :3]), float(rng.uniform(0.5, 2)))
    return np.dstack([to_bytes(blurred), picture[..., 3:]])


def layer(pool: Bytes, index: int, half: int) -> Bytes:
    """Channels 0 to 3 or 4 to 7 of picture ``index``, [S,S,4], moved as words: see ``stacked``."""
    words = np.ascontiguousarray(pool[index].view(np.uint32)[..., half])
    return words.view(np.uint8).reshape(*words.shape, 4)


def cropped(rng: Rng, picture: Bytes, size: int) -> Bytes:
    """[S,S,C] after a random crop (60 % of the time) and mirror.

    A crop is stretched to a square, as photographs are on their way to the network.
    """
    side = picture.shape[0]
    if rng.random() < 0.6:
        height, width = (side * rng.uniform(SMALLEST_CROP, 1, 2)).astype(int)
        top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
        picture = picture[top : top + height, left : left + width]
    how = cv2.INTER_AREA if size <= picture.shape[0] else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)
    return small if rng.random() < 0.5 else np.asarray(cv2.flip(small, 1), np.uint8)


def tinted(rng: Rng, picture: Bytes) -> Bytes:
    """[S,S,4] with, half of the time, a new exponent and gain for each of the first three."""
    if rng.random() < 0.5:
        return picture
    levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    powers = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.15, 3))
    gains = np.exp(rng.normal(0, 0.15, 3))
    table = np.concatenate([levels**powers * gains, levels], axis=1)
    return np.asarray(cv2.LUT(picture, to_bytes(as_float(table))[None]), np.uint8)


def tensors(samples: Bytes) -> tuple[Tensor, Tensor]:
    """RGBA uint8 [B,S,S,4] as (normalised images [B,3,S,S], alpha [B,1,S,S])."""
    planes = torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 255
    return normalised(planes[:, :3]), planes[:, 3:].contiguous()


def normalised(images: Tensor) -> Tensor:
    """RGB in 0..1 [B,3,H,W] minus mean, over standard deviation (ImageNet)."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((images - mean[:, None, None]) / std[:, None, None]).contiguous()
