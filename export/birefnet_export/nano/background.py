"""What is behind an object: a place out of focus, a studio, a table against a wall, a surface."""

from __future__ import annotations

import numpy as np

from .foreground import Foreground, Placement, stamped
from .raster import Bytes, Picture, Plane, Rng, as_float, blur, mix, strokes, warp
from .shade import lit, shadow
from .sources import Sources
from .texture import colour, noise, photographic, procedural, ramp, relative


def place_photo(rng: Rng, photos: list[Bytes], size: int) -> Picture:
    """A photograph, out of focus by 0 to 12 pixels; two thirds clearly so."""
    picture = photographic(rng, photos, size, (0.3, 1.0))
    sigma = rng.uniform(1.5, 12) if rng.random() < 0.65 else rng.uniform(0, 1)
    return blur(picture, float(sigma) * size / 384)


def studio(rng: Rng, size: int) -> Picture:
    """A backdrop: linear or radial gradient between near colours, often white, grey or black."""
    base = colour(rng)
    if rng.random() < 0.5:
        base = np.full(3, rng.choice([rng.uniform(0.85, 1.0), rng.uniform(0, 1)]), np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    angle, centre = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
    linear = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5
    radial = np.hypot(x - centre[0], y - centre[1])
    plane = as_float(np.clip(linear if rng.random() < 0.5 else radial, 0, 1))
    return ramp(plane, [base, relative(rng, base, rng.uniform(0.02, 0.6))])


def bokeh(rng: Rng, size: int) -> Picture:
    """Soft discs and blotches of a few colours: foliage and lamps far behind."""
    base = colour(rng)
    colours = [relative(rng, base, 0.8) for _ in range(4)]
    picture = ramp(noise(rng, size, int(rng.integers(3, 12)), 3), colours)
    return blur(picture, float(rng.uniform(1, 10)))


def room(rng: Rng, photos: list[Bytes], size: int) -> Picture:
    """A wall and a table or floor that meet in a straight, slightly turned line."""
    wall = studio(rng, size) if rng.random() < 0.5 else surface_of(rng, photos, size)
    table = studio(rng, size) if rng.random() < 0.3 else surface_of(rng, photos, size)
    line, tilt = rng.uniform(0.3, 0.9), rng.normal(0, 0.05)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    soft = rng.choice([150.0, 40.0, 8.0])
    below = np.clip((y - line - tilt * (x - 0.5)) * soft + 0.5, 0, 1)
    return mix(blur(wall, float(rng.uniform(0, 6))), table, as_float(below))


def surface_of(rng: Rng, photos: list[Bytes], size: int) -> Picture:
    """Wallpaper, wood, cloth: procedural or a close crop of a photograph."""
    if rng.random() < 0.5:
        return procedural(rng, size)
    return photographic(rng, photos, size, (0.1, 0.5))


def clutter(rng: Rng, sources: Sources, size: int) -> Picture:
    """Bars and cut-outs over a place, all out of focus: things behind that are not the subject."""
    picture = place_photo(rng, sources.photos, size)
    for _ in range(int(rng.integers(0, 4)) if sources.cutouts else 0):
        art = sources.cutouts[int(rng.integers(len(sources.cutouts)))]
        spot = Placement(
            tuple(rng.random(2)), (rng.uniform(0.3, 0.9),) * 2, rng.normal(0, 0.5), False
        )
        colours, alpha = stamped(art, spot, size)
        sigma = float(rng.uniform(2, 9))
        picture = mix(picture, blur(colours, sigma), blur(alpha, sigma))
    for _ in range(int(rng.integers(0, 5))):
        start, step = rng.uniform(-0.1, 1.1, 2), rng.normal(0, 0.6, 2)
        bar = strokes([np.stack([start, start + step])], size, int(rng.integers(2, size // 6)))
        shape = blur(bar, float(rng.uniform(1.5, 8)))
        fill = as_float(np.broadcast_to(colour(rng), picture.shape))
        body = lit(rng, fill, bar) if rng.random() < 0.5 else fill
        picture = mix(picture, blur(body, 2.0), shape)
    return picture


def background(rng: Rng, sources: Sources, size: int) -> Picture:
    """One random background, float32 [S,S,3]."""
    photos = sources.photos
    kind = rng.choice(6, p=[0.32, 0.16, 0.12, 0.18, 0.1, 0.12])
    if kind == 0:
        return place_photo(rng, photos, size)
    if kind == 1:
        return studio(rng, size)
    if kind == 2:
        return bokeh(rng, size)
    if kind == 3:
        return room(rng, photos, size)
    if kind == 4:
        return surface_of(rng, photos, size)
    return clutter(rng, sources, size)


def shaded_by(rng: Rng, picture: Picture, alpha: Plane) -> Picture:
    """``picture`` with the object's shadow cast on it; the shadow belongs to the background."""
    return picture * (1 - shadow(rng, alpha))[..., None]


def mirrored(rng: Rng, picture: Picture, front: Foreground) -> Picture:
    """``picture`` with the object's image upside down under it, as on a polished table."""
    rows = np.flatnonzero(front.alpha.max(axis=1) > 0.5)
    bottom = float(rows[-1]) if len(rows) else 0.0
    matrix = np.array([[1, 0, 0], [0, -1, 2 * bottom]])
    size = picture.shape[0]
    coverage = warp(front.alpha, matrix, size) * np.float32(rng.uniform(0.1, 0.4))
    coverage[: int(bottom)] = 0
    sigma = float(rng.uniform(0.3, 2.0))
    image = blur(warp(front.picture, matrix, size), sigma)
    return mix(picture, image, blur(as_float(coverage), sigma))
