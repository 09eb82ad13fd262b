"""A subject with hair of which alpha, foreground and background are known exactly.

Everything is drawn from a seed. The outline and the strands are drawn four times as large, with
OpenCV's anti-aliased lines, and averaged over each pixel's area: alpha is the share of a pixel that
the subject covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.frame import Bytes, Floats

Doubles = NDArray[np.float64]

OVER = 4
# Points of a strand; and its thickness as a share of the outline's radius: 0.6 to 2.4 pixels for a
# radius of 600.
POINTS = 14
THICKNESS = (0.001, 0.004)
# Number of strands and their length in radii: none, dense and short, or few and long with gaps.
COATS = {"smooth": (0, (0.0, 0.0)), "fur": (2800, (0.25, 0.5)), "wisps": (1000, (0.3, 0.75))}
# Fur before a wall: a subject that a small model finds.
SUBJECT, BEHIND = (150, 92, 48), (168, 182, 186)
# Rows that are drawn at a time, in pixels of the result.
_STRIP = 256


@dataclass(frozen=True, eq=False)
class Scene:
    """``rgb`` uint8 [H,W,3], alpha over a background; ``alpha`` float32 [H,W] in 0..1."""

    name: str
    rgb: Bytes
    alpha: Floats


def scene(coat: str, size: tuple[int, int], share: float, seed: int) -> Scene:
    """A scene of ``size`` (H, W) whose subject, hair included, fills about ``share`` of its shorter
    side; ``coat`` is a key of COATS."""
    rng = np.random.default_rng(seed)
    # The longest strand leaves the outline at 1.0 of the radius and ends at about 1.5.
    radius = share * min(size) / 2 / 1.4
    room = np.array(size) - 2 * 1.4 * radius
    centre = 1.4 * radius + np.maximum(room, 0) * rng.uniform(0.3, 0.7, 2)
    alpha = _coverage(size, _outline(centre, radius, rng), _strands(coat, centre, radius, rng))
    front = _colours(size, rng, SUBJECT, 16)
    behind = _colours(size, rng, BEHIND, 10)
    return Scene(f"{coat}, {share:.0%}", _compose(alpha, front, behind), alpha)


def placed(name: str, rgb: Bytes, alpha: Floats, size: tuple[int, int], seed: int) -> Scene:
    """A scene of ``size`` (H, W): the subject of a smaller one, ``rgb`` uint8 [h,w,3] its own
    colours, in the middle of a drawn background."""
    behind = _colours(size, np.random.default_rng(seed), BEHIND, 10)
    front, whole = behind.copy(), np.zeros(size, np.float32)
    top, left = ((outer - inner) // 2 for outer, inner in zip(size, alpha.shape, strict=True))
    part = (slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1]))
    front[part], whole[part] = rgb, alpha
    return Scene(name, _compose(whole, front, behind), whole)


def _outline(centre: Doubles, radius: float, rng: np.random.Generator) -> Doubles:
    """float64 [n,2], (y, x): a closed curve, a circle with a few slow waves."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    return centre + radius * _waves(angles, rng)[:, None] * _ray(angles)


def _waves(angles: Doubles, rng: np.random.Generator) -> Doubles:
    waves = np.full_like(angles, 0.92)
    for count in (2, 3, 5):
        waves += rng.uniform(0.01, 0.05) * np.sin(count * angles + rng.uniform(0, 2 * np.pi))
    return waves


def _ray(angles: Doubles) -> Doubles:
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1)


def _strands(
    coat: str, centre: Doubles, radius: float, rng: np.random.Generator
) -> list[tuple[Doubles, float]]:
    """Each strand's points float64 [POINTS,2], from the root inside the outline, and thickness."""
    strands = []
    steps = np.linspace(0, 1, POINTS)
    count, lengths = COATS[coat]
    for _ in range(count):
        root, length = rng.uniform(0, 2 * np.pi), rng.uniform(*lengths) * radius
        bend, curl = rng.normal(0, 0.7), rng.uniform(0, 0.12)
        turn = root + bend * steps + curl * np.sin(9 * steps + rng.uniform(0, 6))
        path = np.cumsum(_ray(turn) * length / POINTS, axis=0)
        start = centre + radius * 0.7 * _ray(np.array(root))
        strands.append((start + path, rng.uniform(*THICKNESS) * radius))
    return strands


def _coverage(
    size: tuple[int, int], outline: Doubles, strands: list[tuple[Doubles, float]]
) -> Floats:
    alpha = np.empty(size, np.float32)
    for top in range(0, size[0], _STRIP):
        height = min(_STRIP, size[0] - top)
        canvas = np.zeros((height * OVER, size[1] * OVER), np.uint8)
        cv2.fillPoly(canvas, [_place(outline, top)], 255, cv2.LINE_AA, _SHIFT)
        for points, thickness in strands:
            low, high = points[:, 0].min() - thickness, points[:, 0].max() + thickness
            if low < top + height and high > top:
                _draw(canvas, _place(points, top), thickness * OVER)
        average = cv2.resize(canvas, (size[1], height), interpolation=cv2.INTER_AREA)
        alpha[top : top + height] = average * np.float32(1 / 255)
    return alpha


# Bits of a coordinate's fraction that OpenCV takes.
_SHIFT = 4


def _place(points: Doubles, top: int) -> NDArray[np.int32]:
    """(x, y) on the enlarged canvas of a strip from row ``top`` on, in fixed point."""
    enlarged = (points - (top, 0)) * OVER * (1 << _SHIFT)
    return np.rint(enlarged[:, ::-1]).astype(np.int32)


def _draw(canvas: Bytes, points: NDArray[np.int32], thickness: float) -> None:
    """A strand that is thinner from piece to piece, a third as thick at its tip."""
    for index in range(len(points) - 1):
        share = 1 - index / (len(points) - 1) * 2 / 3
        piece = points[index : index + 2]
        width = max(1, round(thickness * share))
        cv2.polylines(canvas, [piece], False, 255, width, cv2.LINE_AA, _SHIFT)


def _colours(
    size: tuple[int, int], rng: np.random.Generator, base: tuple[int, int, int], spread: float
) -> Bytes:
    """uint8 [H,W,3]: soft clouds round the colour ``base``, with grain."""
    tones = rng.normal(0, spread, (6, 8, 1)) + rng.normal(0, spread / 3, (6, 8, 3))
    clouds = (np.array(base) + tones).astype(np.float32)
    large = cv2.resize(clouds, size[::-1], interpolation=cv2.INTER_CUBIC)
    picture: Floats = np.asarray(large, np.float32)
    grain = rng.standard_normal((size[0], size[1], 1), dtype=np.float32)
    picture += grain * np.float32(5)
    colours: Bytes = np.clip(picture, 0, 255).astype(np.uint8)
    return colours


def _compose(alpha: Floats, front: Bytes, behind: Bytes) -> Bytes:
    rgb = np.empty_like(front)
    for top in range(0, len(rgb), _STRIP):
        rows = slice(top, top + _STRIP)
        share = alpha[rows, :, None]
        rgb[rows] = np.rint(front[rows] * share + behind[rows] * (1 - share))
    return rgb
