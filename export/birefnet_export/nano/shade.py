"""Form and light: a silhouette becomes a rounded body, a stroke of fur or a shadow."""

from __future__ import annotations

import cv2
import numpy as np

from .raster import Picture, Plane, Points, Rng, as_float, blur, resize, strokes
from .texture import noise


def height_map(mask: Plane, roundness: float) -> Plane:
    """Height in pixels of a body whose rim is a quarter circle of ``roundness`` pixels."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.clip(as_float(inside) / np.float32(roundness), 0, 1)
    return as_float(np.sqrt(1 - (1 - rim) ** 2) * roundness)


def light(rng: Rng, mask: Plane) -> tuple[Plane, Plane]:
    """(diffuse, specular) planes of a body under a random light: gain 0.3..1.4, highlight 0..0.6.

    Lambert's cosine on the normals of ``height_map`` plus noise; its power as highlight.
    Computed at half size: a quarter of the cost, and shading is smooth.
    """
    size = mask.shape[0]
    half = resize(mask, size // 2, size // 2)
    extent = max(4.0, float(np.sqrt(half.sum())))
    height = height_map(half, extent * rng.uniform(0.15, 0.6))
    bumps = noise(rng, size // 2, int(rng.integers(4, 32)), 3) * np.float32(rng.uniform(0, 6))
    height = blur(height, rng.uniform(1, 4)) + bumps
    slope_y, slope_x = np.gradient(height)
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.2)
    direction = (np.cos(angle) * np.sin(tilt), np.sin(angle) * np.sin(tilt), np.cos(tilt))
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    cosine = (-slope_x * direction[0] - slope_y * direction[1] + direction[2]) / length
    ambient = rng.uniform(0.3, 0.7)
    diffuse = ambient + (1.4 - ambient) * np.clip(cosine, 0, 1)
    gloss = rng.uniform(0.1, 0.6) if rng.random() < 0.5 else 0.0
    shine = gloss * np.clip(cosine, 0, 1) ** rng.uniform(15, 60)
    return resize(as_float(diffuse), size, size), resize(as_float(shine), size, size)


def lit(rng: Rng, picture: Picture, mask: Plane) -> Picture:
    """``picture`` shaded as the surface of ``mask``."""
    diffuse, shine = light(rng, mask)
    return as_float(np.clip(picture * diffuse[..., None] + shine[..., None], 0, 1))


def border(mask: Plane, count: int, rng: Rng) -> tuple[Points, Points]:
    """(points, outward unit normals), both [N,2], at random places of the outline."""
    contours, _ = cv2.findContours(
        (mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    if not contours:
        return np.zeros((0, 2)), np.zeros((0, 2))
    points = np.concatenate([contour[:, 0] for contour in contours])
    points = points[rng.integers(len(points), size=count)]
    slope_y, slope_x = np.gradient(blur(mask, 4.0))
    normals = -np.stack([slope_x, slope_y], axis=-1)[points[:, 1], points[:, 0]].astype(float)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-6
    return points / mask.shape[0], normals


def fringe(rng: Rng, mask: Plane) -> Plane:
    """``mask`` with hair or fur along its outline: curved strands of one pixel, combed one way.

    Strand strengths are 40..100 %, the half-transparent range that matting is about.
    """
    size = mask.shape[0]
    points, normals = border(mask, int(rng.integers(300, 2500)), rng)
    reach, comb = 0.008 * np.exp(rng.uniform(0, 1.9)), rng.normal(0, 0.5, 2)
    total = mask
    for value in (100, 170, 255):
        part = rng.random(len(points)) < 1 / 3
        lines = strands(rng, points[part], normals[part] + comb, reach)
        if lines:
            total = np.maximum(total, strokes(lines, size, 1, value))
    return total


def strands(rng: Rng, roots: Points, along: Points, reach: float) -> list[Points]:
    """One three-point polyline per root, of random length up to ``reach``, bent a little."""
    length = reach * rng.uniform(0.2, 1.0, (len(roots), 1))
    bend = rng.normal(0, 0.35, roots.shape)
    middle = roots + along * length * 0.5 + bend * length * 0.2
    tip = roots + (along + bend) * length
    return list(np.stack([roots - along * length * 0.2, middle, tip], axis=1))


def shadow(rng: Rng, mask: Plane) -> Plane:
    """Where ``mask`` takes the light from what is behind it, 0..1: flattened, sheared, blurred."""
    size = mask.shape[0]
    rows = np.flatnonzero(mask.max(axis=1) > 0.5)
    bottom = float(rows[-1]) if len(rows) else size / 2
    squash, shear = rng.uniform(0.1, 1.0), rng.normal(0, 0.4)
    matrix = np.array([[1, shear, -shear * bottom], [0, squash, bottom * (1 - squash)]])
    matrix[:, 2] += rng.normal(0, 0.02 * size, 2)
    cast = cv2.warpAffine(mask, as_float(matrix), (size, size))
    return blur(as_float(cast), size * rng.uniform(0.008, 0.05)) * np.float32(
        rng.uniform(0.2, 0.75)
    )
