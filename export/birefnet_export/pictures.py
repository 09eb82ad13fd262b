"""Fixed pictures, drawn from numbers: what every export is checked on, at any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
FloatMap = NDArray[np.float64]


def fixed_pictures(count: int, height: int, width: int) -> Picture:
    """``count`` pictures [count,H,W,3] uint8 RGB, the same for the same numbers on every machine.

    Each is a smooth background with a few soft-edged, striped ellipses: edges, texture and flat
    parts.
    """
    return np.stack([_picture(np.random.default_rng(seed), height, width) for seed in range(count)])


def _picture(rng: np.random.Generator, height: int, width: int) -> Picture:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    top, bottom = rng.uniform(30, 220, (2, 3))
    picture = top + (bottom - top) * ((y + rng.uniform(-0.5, 0.5) * x) % 1.0)[..., None]
    for _ in range(4):
        alpha = _ellipse(rng, y, x)[..., None]
        colour = rng.uniform(20, 235, 3) + 40 * _stripes(rng, y, x)[..., None]
        picture = picture * (1 - alpha) + colour * alpha
    rounded: Picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return rounded


def _ellipse(rng: np.random.Generator, y: FloatMap, x: FloatMap) -> FloatMap:
    """Soft disc, 0..1: the edge takes about a hundredth of the picture."""
    centre, radius = rng.uniform(0.25, 0.75, 2), rng.uniform(0.08, 0.3, 2)
    distance = np.hypot((y - centre[0]) / radius[0], (x - centre[1]) / radius[1])
    return np.asarray(1 / (1 + np.exp((distance - 1) * 60)), np.float64)


def _stripes(rng: np.random.Generator, y: FloatMap, x: FloatMap) -> FloatMap:
    angle, waves = rng.uniform(0, np.pi), rng.uniform(10, 60)
    phase = np.cos(angle) * y + np.sin(angle) * x
    return np.asarray(np.sin(2 * np.pi * waves * phase), np.float64)


def normalise(
    pictures: Picture, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """[N,H,W,3] uint8 RGB to the network's input [N,3,H,W] float32."""
    unit = pictures.astype(np.float32) / np.float32(255)
    scaled = (unit - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
