"""Scenes with exact alpha: an object or two, placed over a background, seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .background import background, shaded_by
from .camera import photograph
from .foreground import Foreground, clipped, drawn, over
from .raster import Bytes, Picture, Rng, as_float, mix, to_bytes
from .sources import Sources

# Shares of scenes without an object, with two, and with object and background of one brightness.
EMPTY, DOUBLE, CAMOUFLAGE = 0.03, 0.14, 0.15


@dataclass(frozen=True)
class Scene:
    """uint8 arrays: ``image``, ``foreground``, ``background`` [S,S,3] RGB, ``alpha`` [S,S].

    ``image`` is alpha * foreground + (1 - alpha) * background, rounded; ``shot`` is ``image`` as a
    camera stores it, which is what the network sees.
    """

    image: Bytes
    alpha: Bytes
    foreground: Bytes
    background: Bytes
    shot: Bytes


def scene(seed: int, sources: Sources, size: int) -> Scene:
    """Scene number ``seed``: the same bytes for the same seed, sources and size."""
    rng = np.random.default_rng(seed)
    behind = background(rng, sources, size)
    front = subject(rng, sources, size)
    if rng.random() < EMPTY:
        front = Foreground(front.picture, np.zeros_like(front.alpha))
    if rng.random() < CAMOUFLAGE:
        front = Foreground(matched(front.picture, front, behind), front.alpha)
    if rng.random() < 0.5:
        behind = shaded_by(rng, behind, front.alpha)
    front_bytes, behind_bytes, alpha = (
        to_bytes(front.picture),
        to_bytes(behind),
        to_bytes(front.alpha),
    )
    image = composite(front_bytes, behind_bytes, alpha)
    return Scene(image, alpha, front_bytes, behind_bytes, photograph(rng, image))


def subject(rng: Rng, sources: Sources, size: int) -> Foreground:
    """One object, or two that may overlap; of four tries the first covering 4 to 95 %."""
    for _ in range(4):
        front = single(rng, sources, size)
        if rng.random() < DOUBLE:
            front = over(single(rng, sources, size), front)
        if 0.04 < float(front.alpha.mean()) < 0.95:
            break
    return front


def single(rng: Rng, sources: Sources, size: int) -> Foreground:
    """A procedural figure (60 %) or clip art (40 %)."""
    if not sources.cutouts or rng.random() < 0.6:
        return drawn(rng, sources.photos, size)
    return clipped(rng, sources.cutouts, sources.photos, size)


def matched(picture: Picture, front: Foreground, behind: Picture) -> Picture:
    """``picture`` shifted so that its mean inside is 85 % of the way to the background's."""
    weight = front.alpha / max(float(front.alpha.sum()), 1.0)
    inside = (picture * weight[..., None]).sum(axis=(0, 1))
    return as_float(np.clip(picture + (behind.mean(axis=(0, 1)) - inside) * 0.85, 0, 1))


def composite(front: Bytes, behind: Bytes, alpha: Bytes) -> Bytes:
    """alpha * front + (1 - alpha) * behind on bytes, rounded once."""
    weight = as_float(alpha) / np.float32(255)
    return np.rint(mix(as_float(behind), as_float(front), weight)).astype(np.uint8)
