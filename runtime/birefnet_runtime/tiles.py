"""Tiles at a picture's own resolution, along the edges that a first pass left soft."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from birefnet_runtime.frame import Box, Floats, View
from birefnet_runtime.matte import Patch, ramp, sample, trust

# Pixels of all tiles of a picture: 32 passes at 1024x1024. It bounds the time, and the memory of
# their answers to 128 MiB.
MOST_PIXELS = 32 << 20
# Of a tile's side, by which it reaches at least into the next: there they fade into each other.
OVERLAP = 1 / 4
# Alpha between these is in question.
LOW, HIGH = 0.02, 0.98
# A tile in whose band more than this share is not believed is left out: it saw too little.
REJECT = 0.25
# Weights change over several pixels of the first pass's mask: a quarter of a tile's resolution
# holds them.
_WEIGHT_STEP = 4


def band(coarse: Floats, reach: int = 1) -> Floats:
    """float32 like ``coarse``: 1 where it, or a pixel up to ``reach`` beside it, is in question;
    soft at its border."""
    around = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    # Also where full and empty meet: the edge lies somewhere between their centres.
    unsure = (cv2.dilate(coarse, around) > LOW) & (cv2.erode(coarse, around) < HIGH)
    soft: Floats = np.asarray(cv2.blur(unsure.astype(np.float32), (3, 3)), np.float32)
    return soft


def views(
    coarse: Floats, size: tuple[int, int], model: tuple[int, int]
) -> tuple[tuple[View, ...], int]:
    """What each tile sees, those with most in question first, and how many tiles would touch it.

    ``coarse``: float32 [h,w] over a picture of ``size`` (H, W); ``model``: the input's (h, w). Each
    tile is as large as the input, or the picture where that is smaller, and not scaled.
    """
    height, width = min(size[0], model[0]), min(size[1], model[1])
    inner = Box((model[0] - height) // 2, (model[1] - width) // 2, height, width)
    unsure = cv2.integral((band(coarse) > 0).astype(np.uint8))
    scale = np.array(coarse.shape) / size
    found = []
    for top in starts(size[0], height):
        for left in starts(size[1], width):
            corners = np.array([(top, left), (top + height, left + width)]) * scale
            (y, x), (bottom, right) = np.floor(corners[0]), np.ceil(corners[1])
            y, x, bottom, right = int(y), int(x), int(bottom), int(right)
            area = unsure[bottom, right] - unsure[y, right] - unsure[bottom, x] + unsure[y, x]
            if area > 0:
                found.append((int(area), View(Box(top, left, height, width), inner)))
    most = max(1, MOST_PIXELS // (model[0] * model[1]))
    found.sort(key=lambda pair: -pair[0])
    return tuple(view for _, view in found[:most]), len(found)


def starts(whole: int, side: int) -> list[int]:
    """First pixels of tiles of ``side`` that cover ``whole`` evenly and overlap by OVERLAP."""
    if whole <= side:
        return [0]
    stride = max(1, int(side * (1 - OVERLAP)))
    count = -(-(whole - side) // stride) + 1
    return [round(index * (whole - side) / (count - 1)) for index in range(count)]


def patches(
    coarse: Floats,
    size: tuple[int, int],
    views: Sequence[View],
    planes: Sequence[Floats],
) -> list[Patch | None]:
    """A patch for each tile, that counts only in the band; None for a tile that is not believed."""
    unsure = band(coarse)
    return [
        _patch(coarse, unsure, size, view.box, plane)
        for view, plane in zip(views, planes, strict=True)
    ]


def _patch(
    coarse: Floats, unsure: Floats, size: tuple[int, int], box: Box, plane: Floats
) -> Patch | None:
    shape = (-(-plane.shape[0] // _WEIGHT_STEP), -(-plane.shape[1] // _WEIGHT_STEP))
    small = np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
    believed = trust(coarse, size, box, small)
    within = sample(unsure, Box(0, 0, *size), box, shape)
    doubted = within[believed < 0.5].sum()
    if doubted > REJECT * within.sum():
        return None
    reach = tuple(max(1, int(side * OVERLAP)) for side in shape)
    weight = within * believed * ramp(box, size, shape, (reach[0], reach[1]))
    return Patch(plane, box, weight)
