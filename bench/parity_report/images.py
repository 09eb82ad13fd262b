"""Pictures inside the report: data URIs, heat maps of the difference, enlargements of its worst."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from PIL import Image

from birefnet_runtime.frame import Bytes, Floats

from .figures import Distances, distances

# Longest side of a picture in the report, and of the enlarged part, in pixels of the model's size.
SIDE, PART = 320, 48
# The heat map's scale in 1/255, logarithmic: what 8 bits could never show is black.
LOW, HIGH = 1e-3, 100.0
TICKS = (0.001, 0.01, 0.1, 1, 10, 100)


def uri(image: Bytes, lossless: bool = True) -> str:
    """A WebP data URI of uint8 [h,w] or [h,w,3]."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).convert("RGB").save(
        stream, "WEBP", lossless=lossless, quality=82
    )
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def shrink(image: Bytes) -> Bytes:
    """At most SIDE pixels on a side, averaged."""
    factor = SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def grey(alpha: Floats) -> Bytes:
    """uint8 [h,w]; what is not finite is black."""
    levels: Bytes = np.rint(np.nan_to_num(alpha).clip(0, 1) * 255).astype(np.uint8)
    return levels


def heat(gap: Distances) -> Bytes:
    """uint8 [h,w,3], the colours of |difference| in 0..1."""
    scaled = np.log(np.maximum(gap * 255, LOW) / LOW) / np.log(HIGH / LOW)
    levels = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def largest_of_blocks(gap: Distances) -> Distances:
    """At most SIDE a side: each pixel the largest of its block, so that no spot is averaged out."""
    factor = -(-max(gap.shape) // SIDE)
    if factor == 1:
        return gap
    pad = [(0, -side % factor) for side in gap.shape]
    whole = np.pad(gap, pad)
    rows, columns = (side // factor for side in whole.shape)
    blocks: Distances = whole.reshape(rows, factor, columns, factor).max((1, 3))
    return blocks


def worst_part(gap: Distances) -> tuple[slice, slice]:
    """PART x PART about the largest difference, inside the picture."""
    place = np.unravel_index(int(np.argmax(gap)), gap.shape)
    starts = [
        min(max(0, int(at) - PART // 2), max(0, side - PART))
        for at, side in zip(place, gap.shape, strict=True)
    ]
    return slice(starts[0], starts[0] + PART), slice(starts[1], starts[1] + PART)


def panels(picture: Bytes, reference: Floats, alpha: Floats) -> list[tuple[str, str, str]]:
    """(what, whole, enlarged part) of picture, both alphas and their difference, as data URIs."""
    gap = distances(reference, alpha)[0]
    part = worst_part(gap)
    whole = {
        "picture": shrink(picture),
        "reference": shrink(grey(reference)),
        "alpha": shrink(grey(alpha)),
        "difference": heat(largest_of_blocks(gap)),
    }
    near = {
        "picture": picture[part],
        "reference": grey(reference)[part],
        "alpha": grey(alpha)[part],
        "difference": heat(gap[part]),
    }
    return [(key, uri(whole[key], key != "picture"), uri(near[key])) for key in whole]


def legend_stops(count: int = 12) -> str:
    """CSS colour stops of the heat map's scale, from low to high."""
    levels = np.linspace(0, 255, count).astype(np.uint8)[None]
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[0, :, ::-1]
    return ",".join(f"rgb({r},{g},{b})" for r, g, b in colours.tolist())
