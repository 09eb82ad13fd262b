"""A picture's alpha as small planes, each for a part of it, and the way to its own resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import refine
from birefnet_runtime.frame import Box, Bytes, Floats

Alpha = NDArray[np.uint8] | NDArray[np.uint16]

# Pixels rendered at a time: 1 MiB of float32, which a core's cache holds.
_STRIP = 1 << 18
# Two passes are compared after a Gaussian of this sigma, in pixels of the first one's mask: wider
# than what the second may add, hair and an edge in its place, narrower than a limb.
CALM = 4.0
# Their difference up to which the second one holds, and from which the first does: half of what
# surrounds a pixel is in dispute.
TRUST, DOUBT = 0.4, 0.6
# The worst difference counts for all pixels this many sigmas round it.
AROUND = 2


@dataclass(frozen=True, eq=False)
class Patch:
    """A finer answer for the part ``box`` of a picture.

    ``plane``: float32 [h,w] in 0..1, over the whole box. ``weight``: float32 of any size, in 0..1,
    over the whole box too: how much the answer counts there.
    """

    plane: Floats
    box: Box
    weight: Floats


@dataclass(frozen=True, eq=False)
class Matte:
    """``base``: float32 [h,w] in 0..1 over the whole picture of ``size`` (H, W); ``patches`` lie
    over it.

    Where patches overlap they share by their weights, and where these sum to less than 1 the base
    has the rest.
    """

    size: tuple[int, int]
    base: Floats
    patches: tuple[Patch, ...] = ()

    def render(self, own: Bytes | None = None, depth: int = 8) -> Alpha:
        """uint8 [H,W], or uint16 for a ``depth`` of 16; ``own`` (uint8 [H,W]) is multiplied in.

        Planes are enlarged and rounded as in ``refine.to_alpha``, to which this is equal bit for
        bit without patches. Beside the result it takes memory for some rows and, of planes that
        cover up to ``refine.WHOLE`` pixels, for them at full size.
        """
        height, width = self.size
        alpha = np.empty(self.size, np.uint8 if depth == 8 else np.uint16)
        base, layers = refine.Enlarged(self.base, self.size), [_Layer(one) for one in self.patches]
        step = max(1, _STRIP // width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            values = base.rows(rows.start, rows.stop)
            values = _blend(values, [layer for layer in layers if layer.meets(rows)], rows)
            refine.multiply(values, None if own is None else own[rows])
            alpha[rows] = refine.round_to(values, depth)
            layers = [layer for layer in layers if layer.bottom > rows.stop]
        return alpha


class _Layer:
    """A patch while it is rendered: its enlarged planes from its first row to its last."""

    def __init__(self, patch: Patch) -> None:
        self._patch, self.box = patch, patch.box
        self.bottom = patch.box.top + patch.box.height
        self._planes: tuple[refine.Enlarged, refine.Enlarged] | None = None

    def meets(self, rows: slice) -> bool:
        """Whether any of the picture's ``rows`` are in the patch."""
        return bool(self.box.top < rows.stop and self.bottom > rows.start)

    def at(self, top: int, bottom: int) -> tuple[Floats, Floats]:
        """Alpha and weight of the picture's rows ``top`` to ``bottom - 1``, all in the patch."""
        if self._planes is None:
            size = self.box.size
            alpha = refine.Enlarged(self._patch.plane, size)
            self._planes = (alpha, refine.Enlarged(self._patch.weight, size))
        alpha, weight = self._planes
        first, last = top - self.box.top, bottom - self.box.top
        return alpha.rows(first, last), weight.rows(first, last)


def _blend(base: Floats, layers: list[_Layer], rows: slice) -> Floats:
    """``base``, some rows of a picture, with ``layers`` over it; overwritten."""
    if not layers:
        return base
    total, weights = np.zeros_like(base), np.zeros_like(base)
    for layer in layers:
        top, bottom = max(rows.start, layer.box.top), min(rows.stop, layer.bottom)
        part = (slice(top - rows.start, bottom - rows.start), layer.box.slices[1])
        alpha, weight = layer.at(top, bottom)
        total[part] += alpha * weight
        weights[part] += weight
    share = np.maximum(weights, np.float32(1))
    total /= share
    # 1 - weights, where the patches leave anything.
    np.subtract(1, weights / share, out=weights)
    base *= weights
    base += total
    return base


def sample(plane: Floats, whole: Box, part: Box, size: tuple[int, int]) -> Floats:
    """float32 [h,w], ``size``: what ``plane``, which covers ``whole``, is over ``part``.

    Bilinear, at the centres of the result's pixels; beyond ``whole`` its border repeated. For a
    result that is not much coarser than the plane.
    """
    scales, shifts = [], []
    spans = (
        (part.left, part.width, whole.left, whole.width),
        (part.top, part.height, whole.top, whole.height),
    )
    for (start, span, origin, extent), pixels, points in zip(
        spans, plane.shape[::-1], size[::-1], strict=True
    ):
        density = pixels / extent
        scales.append(span / points * density)
        shifts.append((start - origin + 0.5 * span / points) * density - 0.5)
    matrix = np.array([[scales[0], 0, shifts[0]], [0, scales[1], shifts[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    result = cv2.warpAffine(plane, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    sampled: Floats = np.asarray(result, np.float32)
    return sampled


def ramp(box: Box, size: tuple[int, int], shape: tuple[int, ...], reach: tuple[int, int]) -> Floats:
    """float32 of ``shape`` over ``box``: 1, falling to 0 over ``reach`` rows and columns at its
    sides, but for those that are the picture's own."""
    ends = ((box.top, box.height, size[0]), (box.left, box.width, size[1]))
    axes = []
    for (start, span, whole), points, steps in zip(ends, shape, reach, strict=True):
        rising = np.minimum((np.arange(points) + 0.5) / steps, 1)
        ones = np.ones(points)
        low = ones if start == 0 else rising
        high = ones if start + span == whole else rising[::-1]
        axes.append(np.minimum(low, high))
    weight: Floats = np.minimum(axes[0][:, None], axes[1]).astype(np.float32)
    return weight


def trust(coarse: Floats, size: tuple[int, int], box: Box, plane: Floats) -> Floats:
    """float32 like ``plane``, in 0..1: how far its answer for ``box`` agrees with ``coarse`` seen
    from afar."""
    whole = Box(0, 0, *size)
    shape = (plane.shape[0], plane.shape[1])
    other = sample(coarse, whole, box, shape)
    sigmas = [
        CALM * extent / pixels * points / span
        for extent, pixels, points, span in zip(size, coarse.shape, shape, box.size, strict=True)
    ]
    gap = cv2.GaussianBlur(
        plane - other, (0, 0), sigmaX=sigmas[1], sigmaY=sigmas[0], borderType=cv2.BORDER_REPLICATE
    )
    # An edge that is turned inside out differs on both its sides and not in its middle.
    reach = [2 * math.ceil(AROUND * sigma) + 1 for sigma in sigmas]
    worst = cv2.dilate(np.abs(gap), np.ones(reach, np.uint8))
    believed: Floats = np.clip((DOUBT - worst) / (DOUBT - TRUST), 0, 1).astype(np.float32)
    return believed
