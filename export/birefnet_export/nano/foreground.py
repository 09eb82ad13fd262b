"""Objects: colour everywhere, and the exact coverage of each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import Part, figure
from .raster import (
    Bytes,
    Picture,
    Plane,
    Points,
    Rng,
    as_float,
    blur,
    luma,
    mix,
    polygon,
    to_float,
    warp,
)  # fmt: skip
from .shade import fringe, lit
from .texture import colour, regrade, surface


@dataclass(frozen=True)
class Foreground:
    """``picture`` float32 [S,S,3] RGB, defined everywhere; ``alpha`` float32 [S,S] in 0..1."""

    picture: Picture
    alpha: Plane


@dataclass(frozen=True)
class Placement:
    """Where an object's unit box lands: scaled, turned, mirrored, its middle at ``centre``."""

    centre: tuple[float, float]
    scale: tuple[float, float]
    turn: float
    mirror: bool

    def __call__(self, points: Points) -> Points:
        """Unit points [N,2] to canvas points [N,2]."""
        local = (points - 0.5) * np.array(self.scale) * [-1 if self.mirror else 1, 1]
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = local @ np.array([[cos, sin], [-sin, cos]])
        return np.asarray(turned + np.array(self.centre))


def place(rng: Rng, largest: float) -> Placement:
    """A placement: 0.6 of the frame to ``largest``, a fifth 0.35 to 0.6; half at the foot."""
    scale = float(rng.uniform(0.6, largest) if rng.random() < 0.8 else rng.uniform(0.35, 0.6))
    centre_x = 0.5 + rng.normal(0, 0.10 if scale > 0.7 else 0.16)
    centre_y = 0.5 + rng.normal(0, 0.08)
    if rng.random() < 0.5:
        centre_y = 1.0 - scale * rng.uniform(0.36, 0.52)
    aspect = float(np.exp(rng.normal(0, 0.12)))
    return Placement(
        (float(centre_x), float(centre_y)),
        (scale * aspect, scale / aspect),
        float(rng.normal(0, 0.15)),
        bool(rng.random() < 0.5),
    )


def drawn(rng: Rng, photos: list[Bytes], size: int, hairy: bool = False) -> Foreground:
    """A procedural figure: ``painted``, placed anywhere. ``hairy`` asks for one that has hair."""
    parts, placement = figure(rng), place(rng, 1.5)
    while hairy and not any(part.hairy for part in parts):
        parts = figure(rng)
    return painted(rng, photos, size, parts, placement, hairy)


def painted(
    rng: Rng,
    photos: list[Bytes],
    size: int,
    parts: list[Part],
    placement: Placement,
    hairy: bool = False,
) -> Foreground:
    """``parts`` with every material its own surface, all shaded, hair on hairy parts."""
    surfaces: dict[int, Picture] = {}
    picture: Picture | None = None
    alpha = np.zeros((size, size), np.float32)
    furry = hairy or rng.random() < 0.6
    for part in parts:
        mask = polygon(placement(part.outline), size)
        if part.hole:
            alpha = alpha * (1 - mask)
            continue
        skin = surfaces.setdefault(part.material, surface(rng, photos, size))
        shaded = lit(rng, skin, mask) if rng.random() < 0.8 else skin
        if part.hairy and furry:
            mask = fringe(rng, mask)
        picture = shaded if picture is None else mix(picture, shaded, mask)
        alpha = np.maximum(alpha, mask)
    assert picture is not None
    return soften(rng, Foreground(unify(rng, picture), alpha))


def unify(rng: Rng, picture: Picture) -> Picture:
    """Half of the objects pull towards one colour, like an animal's coat or a brand."""
    if rng.random() < 0.5:
        return picture
    tint = as_float(np.broadcast_to(colour(rng), picture.shape))
    return mix(picture, tint * (luma(picture)[..., None] + 0.5), float(rng.uniform(0.2, 0.7)))


def clipped(rng: Rng, cutouts: list[Bytes], photos: list[Bytes], size: int) -> Foreground:
    """A piece of clip art, placed, filled with a surface, shaded; flat art does not stay flat."""
    art = cutouts[int(rng.integers(len(cutouts)))]
    colours, alpha = stamped(art, place(rng, 1.15), size)
    skin = surface(rng, photos, size)
    relief = skin * np.float32(0.6) + luma(colours)[..., None] * np.float32(0.6)
    choice = rng.choice(4, p=[0.3, 0.25, 0.25, 0.2])
    if choice == 0:
        picture = mix(colours, skin, float(rng.uniform(0.3, 0.7)))
    elif choice == 1:
        picture = colours * (luma(skin)[..., None] * np.float32(0.8) + np.float32(0.45))
    elif choice == 2:
        picture = relief
    else:
        picture = colours
    picture = lit(rng, np.clip(picture, 0, 1), alpha)
    if rng.random() < 0.15:
        alpha = fringe(rng, alpha)
    return soften(rng, Foreground(picture, alpha))


def pasted(rng: Rng, stamps: list[Bytes], size: int) -> Foreground:
    """A photographed object, placed, its colours regraded; three quarters keep their own light."""
    stamp = stamps[int(rng.integers(len(stamps)))]
    colours, alpha = stamped(stamp, place(rng, 1.15), size)
    picture = regrade(rng, colours)
    if rng.random() < 0.25:
        picture = lit(rng, picture, alpha)
    return soften(rng, Foreground(picture, alpha))


def stamped(art: Bytes, placement: Placement, size: int) -> tuple[Picture, Plane]:
    """RGBA bytes on the canvas: (straight colour, alpha). Averaged premultiplied: no dark rim."""
    height, width = art.shape[:2]
    longest = max(height, width)
    corners = np.array([[0, 0], [width, 0], [0, height]], float)
    unit = (corners - [width / 2, height / 2]) / longest + 0.5
    target = placement(unit) * size
    matrix = np.linalg.solve(np.column_stack([corners, np.ones(3)]), target).T
    layer = to_float(art)
    layer[..., :3] *= layer[..., 3:]
    moved = np.clip(warp(layer, matrix, size), 0, 1)
    alpha = as_float(moved[..., 3])
    spread = blur(moved, 3.0) * np.float32(0.02) + moved
    return as_float(np.clip(spread[..., :3] / (spread[..., 3:] + 1e-4), 0, 1)), alpha


def soften(rng: Rng, foreground: Foreground) -> Foreground:
    """The lens's edge: alpha and colour blurred by 0.3 to 2 pixels, mostly little."""
    sigma = float(rng.choice([0.0, 0.5, 0.8, 1.5], p=[0.3, 0.35, 0.25, 0.1]))
    return Foreground(foreground.picture, blur(foreground.alpha, sigma))


def over(top: Foreground, base: Foreground) -> Foreground:
    """Two objects as one: colour by the upper's coverage, alpha by the union."""
    union = top.alpha + base.alpha * (1 - top.alpha)
    weight = as_float(top.alpha / np.maximum(union, np.float32(1e-4)))
    return Foreground(mix(base.picture, top.picture, weight), as_float(union))


def glazed(rng: Rng, foreground: Foreground) -> Foreground:
    """The object as glass: 50 to 85 % opaque inside, solid towards its rim, with highlights."""
    alpha = foreground.alpha
    inside = blur(alpha, float(rng.uniform(0.01, 0.03)) * alpha.shape[0])
    rim = np.clip(2 - 2 * inside, 0, 1)
    clear = rng.uniform(0.5, 0.85)
    picture = mix(foreground.picture, as_float(np.broadcast_to(colour(rng), (1, 1, 3))), 0.4)
    return Foreground(lit(rng, picture, alpha), as_float(alpha * (clear + (1 - clear) * rim)))
