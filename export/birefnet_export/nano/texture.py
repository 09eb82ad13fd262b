"""Surfaces: fractal noise, stripes, grain, speckle, and crops of photographs."""

from __future__ import annotations

import colorsys

import numpy as np

from .raster import Bytes, Picture, Plane, Rng, as_float, blur, luma, mix, resize, to_float


def noise(rng: Rng, size: int, coarse: int, octaves: int = 4, stretch: float = 1.0) -> Plane:
    """Fractal noise in 0..1: ``coarse`` cells across at first, then twice as many, half as strong.

    ``stretch`` > 1 makes features that much longer along x.
    """
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = min(size, coarse << octave)
        grid = rng.random((max(2, cells), max(2, round(cells / stretch))), np.float32)
        total += resize(grid, size, size) * np.float32(0.5**octave)
    low, high = float(total.min()), float(total.max())
    return (total - np.float32(low)) / np.float32(max(high - low, 1e-6))


def colour(rng: Rng) -> Picture:
    """One RGB colour [3] in 0..1; more greys and browns than in clip art, as in photographs."""
    saturation = rng.beta(1.2, 2.0)
    hue = rng.normal(0.08, 0.06) % 1.0 if rng.random() < 0.4 else rng.random()
    return np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.08, 1.0)), np.float32)


def relative(rng: Rng, base: Picture, spread: float) -> Picture:
    """A colour near ``base``: brightness scaled, then a small shift per channel."""
    shifted = base * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, spread / 4, 3)
    return as_float(np.clip(shifted, 0, 1))


def ramp(plane: Plane, colours: list[Picture]) -> Picture:
    """Colours laid along a plane's 0..1 by linear interpolation, in 1,024 steps."""
    stops = np.linspace(0, 1, len(colours))
    table = [np.interp(np.linspace(0, 1, 1024), stops, [c[k] for c in colours]) for k in range(3)]
    return as_float(np.stack(table, axis=-1))[(np.clip(plane, 0, 1) * 1023).astype(np.int32)]


def waves(rng: Rng, size: int) -> Plane:
    """Stripes at a random angle, bent by noise; soft or hard edged."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    angle = rng.uniform(0, np.pi)
    phase = x * np.cos(angle) + y * np.sin(angle)
    phase = phase + noise(rng, size, 3, 2) * np.float32(rng.uniform(0, 0.15))
    wave = np.sin(phase * 2 * np.pi * rng.uniform(3, 25))
    return as_float(np.clip(wave * rng.choice([0.5, 4.0]) + 0.5, 0, 1))


def grain(rng: Rng, size: int) -> Plane:
    """Wood-like or brushed: noise stretched 8 to 20 times, turned half of the time."""
    plane = noise(rng, size, int(rng.integers(8, 40)), 3, rng.uniform(8, 20))
    return plane if rng.random() < 0.5 else np.ascontiguousarray(plane.T)


def speckle(rng: Rng, size: int) -> Plane:
    """Dots of one size: thresholded band-passed noise."""
    field = rng.random((size, size), np.float32)
    sigma = rng.uniform(0.8, 4.0)
    band = blur(field, sigma) - blur(field, sigma * 2)
    return as_float(np.clip(band / (band.std() + 1e-6) * 1.5, 0, 1))


def tiles(rng: Rng, size: int) -> Plane:
    """A grid of cells with a random grey each: bricks, checks, books on a shelf."""
    rows, columns = int(rng.integers(2, 14)), int(rng.integers(2, 24))
    cells = rng.random((rows, columns), np.float32)
    row = np.arange(size) * rows // size
    column = np.arange(size) * columns // size
    return np.ascontiguousarray(cells[row][:, column])


def procedural(rng: Rng, size: int) -> Picture:
    """A random surface in two to four colours, from nearly flat to loud."""
    base = colour(rng)
    spread = rng.uniform(0.05, 0.7)
    colours = [base, *(relative(rng, base, spread) for _ in range(int(rng.integers(1, 3))))]
    if rng.random() < 0.3:
        colours.append(colour(rng))
    kind = rng.choice(5, p=[0.4, 0.15, 0.2, 0.15, 0.1])
    if kind == 0:
        plane = noise(rng, size, int(rng.integers(2, 24)), int(rng.integers(2, 5)))
    else:
        plane = (waves, grain, speckle, tiles)[kind - 1](rng, size)
    return ramp(plane, colours)


def photographic(rng: Rng, photos: list[Bytes], size: int, zoom: tuple[float, float]) -> Picture:
    """A random crop of a random photograph, ``zoom`` of its short side across, turned, mirrored.

    Colours are regraded, so that a few dozen sources do not become a palette.
    """
    photo = photos[int(rng.integers(len(photos)))]
    height, width = photo.shape[:2]
    side = max(32, int(min(height, width) * rng.uniform(*zoom)))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = np.rot90(photo[top : top + side, left : left + side], int(rng.integers(4)))
    picture = np.clip(resize(to_float(crop[:, :: int(rng.choice([-1, 1]))]), size, size), 0, 1)
    return regrade(rng, as_float(picture))


def regrade(rng: Rng, picture: Picture) -> Picture:
    """Random exponent, saturation, hue order and gains: the same content in another light."""
    picture = np.power(picture, np.float32(rng.uniform(0.6, 1.6)))
    if rng.random() < 0.15:
        picture = np.ascontiguousarray(picture[..., rng.permutation(3)])
    grey = luma(picture)[..., None]
    picture = grey + (picture - grey) * np.float32(rng.uniform(0.2, 1.2))
    return as_float(np.clip(picture * as_float(rng.uniform(0.75, 1.25, 3)), 0, 1))


def surface(rng: Rng, photos: list[Bytes], size: int) -> Picture:
    """What an object's part is made of: photographic grain around a colour, or procedural."""
    if rng.random() < 0.45:
        return procedural(rng, size)
    photo = photographic(rng, photos, size, (0.08, 0.6))
    if rng.random() < 0.5:
        return photo
    tint = as_float(np.broadcast_to(colour(rng), photo.shape))
    grey = luma(photo)[..., None]
    detail = (grey - grey.mean()) * np.float32(rng.uniform(0.3, 1.0))
    return as_float(np.clip(mix(tint, photo, 0.25) + detail, 0, 1))
