"""Procedural silhouettes with parts: portraits, animals, vessels, flowers, boxes, blobs.

Each maker returns a list of ``Part`` in painting order, drawn in a unit box that the caller places:
x and y in 0..1, y down, the figure filling most of the box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .raster import Points, Rng


@dataclass(frozen=True)
class Part:
    """One outline [N,2] of a figure. Equal ``material`` is one surface; ``hole`` cuts instead."""

    outline: Points
    material: int
    hole: bool = False
    hairy: bool = False


def ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Points:
    """48 points on an ellipse, turned by ``turn`` radians."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    cos, sin = np.cos(turn), np.sin(turn)
    return np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], axis=1)


def blob(rng: Rng, centre: tuple[float, float], radius: float, rough: float) -> Points:
    """A closed smooth curve: a circle with six random harmonics of size ``rough``."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(1, 7)[:, None]
    weights = rng.normal(0, rough, (6, 1)) / order
    phase = rng.uniform(0, 2 * np.pi, (6, 1))
    reach = radius * np.clip(1 + (weights * np.cos(order * angle + phase)).sum(axis=0), 0.25, 1.9)
    return np.stack([centre[0] + reach * np.cos(angle), centre[1] + reach * np.sin(angle)], axis=1)


def limb(start: tuple[float, float], end: tuple[float, float], near: float, far: float) -> Points:
    """A tapered capsule from ``start`` (half width ``near``) to ``end`` (half width ``far``)."""
    a, b = np.array(start), np.array(end)
    along = (b - a) / (np.linalg.norm(b - a) + 1e-6)
    turn = np.arctan2(along[1], along[0])
    angle = np.linspace(np.pi / 2, 3 * np.pi / 2, 12) + turn
    cap = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate([a + cap * near, b - cap * far])


def profile(widths: Points, centre: float, top: float, bottom: float) -> Points:
    """A body of revolution seen from the side: half ``widths`` from top to bottom, smoothed."""
    y = np.linspace(0, 1, 40)
    x = np.interp(y, np.linspace(0, 1, len(widths)), widths)
    x = np.convolve(np.pad(x, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    rows = top + y * (bottom - top)
    return np.concatenate([np.stack([centre - x, rows], 1), np.stack([centre + x, rows], 1)[::-1]])


def portrait(rng: Rng) -> list[Part]:
    """Head, hair, neck and shoulders, cut by the lower edge; sometimes a tie, a collar, a badge."""
    x, y = 0.5 + rng.normal(0, 0.03), rng.uniform(0.24, 0.36)
    wide, tall = rng.uniform(0.10, 0.16), rng.uniform(0.13, 0.2)
    neck, span = y + tall * rng.uniform(0.85, 1.1), rng.uniform(0.26, 0.46)
    drop = rng.uniform(0.06, 0.2)
    shoulders = np.array([
        [x - wide * 0.5, neck], [x - span * 0.7, neck + drop * 0.6], [x - span, neck + drop * 1.6],
        [x - span * rng.uniform(0.95, 1.15), 1.05], [x + span * rng.uniform(0.95, 1.15), 1.05],
        [x + span, neck + drop * 1.6], [x + span * 0.7, neck + drop * 0.6], [x + wide * 0.5, neck],
    ])  # fmt: skip
    hair = blob(rng, (x, y - tall * rng.uniform(0.1, 0.4)), tall * rng.uniform(0.8, 1.25), 0.12)
    hair[:, 1] = y + (hair[:, 1] - y) * rng.uniform(0.8, 1.6)
    parts = [
        Part(hair, 0, hairy=True),
        Part(limb((x, y + tall * 0.4), (x, neck + drop), wide * 0.55, wide * 0.6), 1),
        Part(shoulders, 2),
        Part(ellipse((x, y), (wide, tall)), 1),
        Part(blob(rng, (x, y - tall * 0.85), wide * 0.95, 0.1), 0, hairy=True),
    ]
    return parts + garments(rng, x, neck, span)


def garments(rng: Rng, x: float, neck: float, span: float) -> list[Part]:
    """Up to three differently coloured pieces on a torso: lapels, a tie, a badge, an arm across."""
    pieces = [
        limb((x, neck + 0.02), (x + rng.normal(0, 0.02), 1.0), 0.03, rng.uniform(0.02, 0.12)),
        ellipse((x, neck + 0.04), (rng.uniform(0.1, 0.2), rng.uniform(0.03, 0.08))),
        ellipse((x + span * rng.uniform(-0.6, 0.6), neck + 0.25), (0.05, 0.05)),
        limb((x - span, 0.85), (x + span * 0.5, 0.95), 0.07, 0.05),
    ]
    keep = rng.random(len(pieces)) < 0.4
    return [Part(piece, 3 + k) for k, piece in enumerate(pieces) if keep[k]]


def animal_head(rng: Rng) -> list[Part]:
    """A face with two ears, eyes, nose and chest: cats, dogs, lemurs seen from the front, close."""
    x, y, radius = 0.5, rng.uniform(0.35, 0.5), rng.uniform(0.2, 0.3)
    ear, apart = rng.uniform(0.08, 0.22), rng.uniform(0.5, 0.9) * radius
    tops = [(x - apart * 1.3, y - radius - ear), (x + apart * 1.3, y - radius - ear)]
    parts = [
        Part(
            blob(rng, (x + rng.normal(0, 0.1), y + radius * 1.6), radius * 1.6, 0.15), 0, hairy=True
        )
    ]
    for side, top in zip((-1, 1), tops, strict=True):
        base = (x + side * apart, y - radius * 0.6)
        parts.append(Part(limb(base, top, ear * 0.7, ear * rng.uniform(0.1, 0.8)), 0, hairy=True))
        parts.append(Part(limb(base, top, ear * 0.4, ear * 0.1), 1))
    face = blob(rng, (x, y), radius, 0.06)
    parts.append(Part(face, int(rng.choice([0, 2])), hairy=True))
    parts.append(Part(ellipse((x, y + radius * 0.45), (radius * 0.5, radius * 0.4)), 3))
    for side in (-1, 1):
        eye = (x + side * radius * 0.45, y - radius * 0.1)
        parts.append(Part(ellipse(eye, (radius * 0.17, radius * 0.14)), 4))
        parts.append(Part(ellipse(eye, (radius * 0.08, radius * 0.1)), 5))
    parts.append(Part(ellipse((x, y + radius * 0.35), (radius * 0.12, radius * 0.08)), 5))
    return parts


def quadruped(rng: Rng) -> list[Part]:
    """Body, four legs, neck, head, ears and tail from the side."""
    y, height, legs = rng.uniform(0.42, 0.55), rng.uniform(0.1, 0.2), rng.uniform(0.015, 0.05)
    head = (rng.uniform(0.75, 0.88), y - rng.uniform(0.05, 0.3))
    size = rng.uniform(0.07, 0.13)
    tail = (0.05 + rng.normal(0, 0.05), y + rng.uniform(-0.35, 0.3))
    parts = [
        Part(limb((0.22, y), tail, 0.03, 0.02), 0, hairy=True),
    ]
    for foot in (0.25, 0.34, 0.64, 0.72):
        end = (foot + rng.normal(0, 0.04), rng.uniform(0.88, 0.96))
        parts.append(Part(limb((foot, y), end, legs * 1.8, legs), int(rng.choice([0, 0, 1]))))
    parts.append(Part(ellipse((0.48, y), (0.29, height), rng.normal(0, 0.1)), 0, hairy=True))
    parts.append(Part(limb((0.7, y), head, height * 0.7, size * 0.7), 0, hairy=True))
    parts.append(Part(ellipse(head, (size * 1.1, size)), int(rng.choice([0, 1])), hairy=True))
    snout = (head[0] + size, head[1] + size * 0.3)
    parts.append(Part(ellipse(snout, (size * 0.6, size * 0.45)), 1))
    tip = (head[0] - size * 0.4, head[1] - size * rng.uniform(1.2, 2.4))
    parts.append(Part(limb((head[0] - size * 0.3, head[1]), tip, size * 0.4, size * 0.15), 0))
    if rng.random() < 0.4:
        parts += [Part(blob(rng, (rng.uniform(0.3, 0.65), y), height * 0.5, 0.3), 2)]
    return parts


def person(rng: Rng) -> list[Part]:
    """A standing figure: legs, arms with a hand, torso, head, hair."""
    x, waist, width = 0.5, rng.uniform(0.48, 0.58), rng.uniform(0.07, 0.13)
    stride = rng.uniform(0.02, 0.14)
    parts = [
        Part(limb((x + s * 0.04, waist), (x + s * stride, 0.96), width * 0.6, width * 0.3), 1)
        for s in (-1, 1)
    ]
    for side in (-1, 1):
        elbow = (x + side * rng.uniform(0.1, 0.28), rng.uniform(0.25, 0.52))
        hand = (x + side * rng.uniform(0.05, 0.35), rng.uniform(0.15, 0.62))
        parts.append(Part(limb((x + side * width, 0.25), elbow, width * 0.4, width * 0.3), 0))
        parts.append(Part(limb(elbow, hand, width * 0.3, width * 0.22), int(rng.choice([0, 2]))))
    parts.append(Part(limb((x, 0.26), (x, waist), width * 1.1, width * rng.uniform(0.7, 1.2)), 0))
    parts.append(Part(blob(rng, (x, 0.1), 0.075, 0.15), 3, hairy=True))
    parts.append(Part(ellipse((x, 0.12), (0.05, 0.065)), 2))
    return parts


def vessel(rng: Rng) -> list[Part]:
    """A bottle, cup, vase or rocket: a body of revolution with bands, rim, handle, saucer."""
    widths = np.clip(
        np.cumsum(rng.normal(0, 0.05, int(rng.integers(3, 8)))) + rng.uniform(0.08, 0.3), 0.03, 0.42
    )
    top, bottom = rng.uniform(0.05, 0.35), rng.uniform(0.85, 0.95)
    parts: list[Part] = []
    if rng.random() < 0.35:
        parts.append(Part(ellipse((0.5, bottom), (min(0.48, widths[-1] + 0.15), 0.06)), 4))
    if rng.random() < 0.4:
        middle, reach = (top + bottom) / 2, float(widths.mean())
        handle = (0.5 + reach, middle)
        radius = rng.uniform(0.08, 0.16)
        parts.append(Part(ellipse(handle, (radius, radius * 1.3)), 3))
        parts.append(Part(ellipse(handle, (radius * 0.6, radius * 0.9)), 3, hole=True))
    parts.append(Part(profile(widths, 0.5, top, bottom), 0))
    for k in range(int(rng.integers(0, 3))):
        low = rng.uniform(0.1, 0.7)
        band = np.interp(np.linspace(low, low + 0.25, 6), np.linspace(0, 1, len(widths)), widths)
        span = bottom - top
        parts.append(
            Part(profile(band * 0.97, 0.5, top + low * span, top + (low + 0.25) * span), 1 + k)
        )
    flat = float(widths[0]) * rng.uniform(0.15, 0.45)
    parts.append(Part(ellipse((0.5, top), (float(widths[0]), flat)), int(rng.choice([0, 3]))))
    if rng.random() < 0.5:
        parts.append(Part(ellipse((0.5, top), (float(widths[0]) * 0.88, flat * 0.82)), 5))
    return parts


def flower(rng: Rng) -> list[Part]:
    """Petals around a centre, with a stem and a leaf half of the time."""
    count, x, y = int(rng.integers(4, 16)), 0.5, rng.uniform(0.35, 0.5)
    length, width = rng.uniform(0.14, 0.2), rng.uniform(0.04, 0.13)
    parts: list[Part] = []
    if rng.random() < 0.5:
        parts.append(Part(limb((x, y), (x + rng.normal(0, 0.08), 1.02), 0.015, 0.025), 2))
        parts.append(Part(ellipse((x + 0.12, 0.8), (0.13, 0.045), rng.normal(-0.5, 0.3)), 2))
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.normal(0, 0.1, count):
        centre = (x + np.cos(angle) * length, y + np.sin(angle) * length)
        parts.append(
            Part(ellipse(centre, (length, width), float(angle)), int(rng.choice([0, 0, 3])))
        )
    parts.append(Part(ellipse((x, y), (length * rng.uniform(0.3, 0.8),) * 2), 1))
    return parts


def box(rng: Rng) -> list[Part]:
    """A carton in oblique view: three faces, each with its own light, and a label."""
    left, right = rng.uniform(0.05, 0.3), rng.uniform(0.6, 0.8)
    top, bottom = rng.uniform(0.15, 0.5), rng.uniform(0.8, 0.95)
    dx, dy = rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.14)
    front = [[left, top], [right, top], [right, bottom], [left, bottom]]
    side = [[right, top], [right + dx, top - dy], [right + dx, bottom - dy], [right, bottom]]
    lid = [[left, top], [left + dx, top - dy], [right + dx, top - dy], [right, top]]
    parts = [Part(np.array(side), 0), Part(np.array(lid), 1), Part(np.array(front), 0)]
    if rng.random() < 0.6:
        inner = np.array(front) * 0.5 + np.array([(left + right) / 4, (top + bottom) / 4])
        parts.append(Part(inner, 2))
    return parts


def cluster(rng: Rng) -> list[Part]:
    """One to six blobs, ellipses or polygons that touch, some with a hole."""
    parts: list[Part] = []
    for k in range(int(rng.integers(1, 7))):
        centre = (rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7))
        radius = rng.uniform(0.1, 0.28)
        kind = rng.integers(3)
        if kind == 0:
            outline = blob(rng, centre, radius, rng.uniform(0.05, 0.5))
        elif kind == 1:
            outline = ellipse(centre, (radius, radius * rng.uniform(0.3, 1)), rng.uniform(0, 3))
        else:
            outline = blob(rng, centre, radius * 1.2, 0.3)[:: int(rng.integers(8, 32))]
        parts.append(Part(outline, k, hairy=bool(rng.random() < 0.3)))
        if rng.random() < 0.12:
            parts.append(Part(ellipse(centre, (radius * 0.4,) * 2), k, hole=True))
    return parts


MAKERS: tuple[tuple[Callable[[Rng], list[Part]], float], ...] = (
    (portrait, 0.26), (animal_head, 0.16), (quadruped, 0.1), (person, 0.08), (vessel, 0.16),
    (flower, 0.08), (box, 0.06), (cluster, 0.10),
)  # fmt: skip


def figure(rng: Rng) -> list[Part]:
    """A random figure of a random kind."""
    kind = int(rng.choice(len(MAKERS), p=[share for _, share in MAKERS]))
    return MAKERS[kind][0](rng)
