"""Figures with a place of their own: on a table, before a wall, tall and slim in the open.

Makers return ``Part`` lists as those of ``figure`` do; with each goes a placement that suits it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .figure import Part, blob, ellipse, limb, portrait, profile
from .foreground import Placement
from .raster import Rng

Point = tuple[float, float]


def dish(rng: Rng) -> list[Part]:
    """A plate or saucer seen from above at an angle, with a cup, a bowl or food, and cutlery."""
    flat, radius, middle = rng.uniform(0.4, 0.95), rng.uniform(0.32, 0.48), (0.5, 0.6)
    parts = [Part(ellipse(middle, (radius, radius * flat)), 0)]
    rim = radius * rng.uniform(0.55, 0.9)
    parts.append(Part(ellipse(middle, (rim, rim * flat)), int(rng.choice([0, 0, 1]))))
    if rng.random() < 0.3:
        parts.append(Part(ellipse(middle, (rim * 0.9, rim * flat * 0.9)), 0))
    late = cutlery(rng, middle, radius) if rng.random() < 0.5 else []
    if rng.random() < 0.65:
        spot = (0.5 + rng.normal(0, 0.15) * radius, 0.6 + rng.normal(0, 0.1) * radius)
        return parts + cup(rng, spot, radius * rng.uniform(0.4, 0.75), flat) + late
    for k in range(int(rng.integers(0, 6))):
        spot = (0.5 + rng.normal(0, 0.3) * rim, 0.6 + rng.normal(0, 0.3) * rim * flat)
        parts.append(Part(blob(rng, spot, rim * rng.uniform(0.2, 0.6), 0.2), 5 + k % 3))
    return parts + late


def cup(rng: Rng, base: Point, mouth: float, flat: float) -> list[Part]:
    """A cup or bowl on ``base``, its opening ``mouth`` wide, with what is in it and a handle."""
    x, low = base
    top = low - mouth * rng.uniform(0.6, 1.7) * (1.15 - flat)
    foot = mouth * rng.uniform(0.5, 0.9)
    widths = np.array([mouth, mouth * rng.uniform(0.9, 1.05), (mouth + foot) / 2 * 1.05, foot])
    parts: list[Part] = []
    if rng.random() < 0.7:
        angle = rng.uniform(0, 2 * np.pi)
        grip = (x + np.cos(angle) * mouth * 1.1, (top + low) / 2 + np.sin(angle) * mouth * flat)
        size = mouth * rng.uniform(0.25, 0.4)
        parts.append(Part(ellipse(grip, (size, size * rng.uniform(0.7, 1.3))), 2))
        parts.append(Part(ellipse(grip, (size * 0.5, size * 0.5)), 0))
    parts.append(Part(ellipse((x, low), (foot, foot * flat)), 2))
    parts.append(Part(profile(widths, x, top, low), 2))
    parts.append(Part(ellipse((x, top), (mouth, mouth * flat)), int(rng.choice([2, 3]))))
    inner = mouth * rng.uniform(0.82, 0.93)
    parts.append(Part(ellipse((x, top), (inner, inner * flat)), 3))
    if rng.random() < 0.8:
        fill = inner * rng.uniform(0.7, 0.98)
        sunk = top + (inner - fill) * 0.8
        parts.append(Part(ellipse((x, sunk), (fill, fill * flat)), 4))
    return parts


def cutlery(rng: Rng, middle: Point, radius: float) -> list[Part]:
    """A spoon, or a knife, lying across the rim of a plate."""
    angle = rng.uniform(0, 2 * np.pi)
    across = np.array([rng.uniform(0.5, 0.8), rng.uniform(1, 1.5)])
    ray = np.stack([np.cos(angle) * across, np.sin(angle) * across * 0.8], axis=1) * radius
    near, far = (middle[0] + ray[0, 0], middle[1] + ray[0, 1]), ray[1] + middle
    thick = radius * rng.uniform(0.02, 0.05)
    handle = limb(near, (float(far[0]), float(far[1])), thick, thick * rng.uniform(0.6, 1.6))
    head = ellipse(near, (radius * rng.uniform(0.08, 0.2), radius * rng.uniform(0.05, 0.14)), angle)
    return [Part(handle, 8), Part(head, 8)]


def bust(rng: Rng) -> list[Part]:
    """A portrait with patches and bands on the clothes; half hold something at the lower edge."""
    parts = portrait(rng)
    for k in range(int(rng.integers(0, 5))):
        spot = (0.5 + rng.normal(0, 0.16), rng.uniform(0.62, 1.0))
        if rng.random() < 0.5:
            parts.append(Part(ellipse(spot, (rng.uniform(0.02, 0.06),) * 2), 7 + k))
        else:
            end = (spot[0] + rng.normal(0, 0.06), spot[1] + rng.uniform(0.05, 0.3))
            parts.append(Part(limb(spot, end, *rng.uniform(0.01, 0.03, 2)), 7 + k))
    if rng.random() < 0.5:
        spot = (0.5 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.35), rng.uniform(0.85, 1.0))
        held = blob(rng, spot, rng.uniform(0.12, 0.22), rng.choice([0.0, 0.1]))
        parts += [Part(held, 12), Part(ellipse(spot, (0.07, 0.06), rng.uniform(0, 3)), 13)]
    return parts


def rocket(rng: Rng) -> list[Part]:
    """A ``column`` whose shaft is a 25th to an 11th as wide as its frame is high."""
    return column(rng, 0.045)


def column(rng: Rng, widest: float = 0.11) -> list[Part]:
    """A rocket, lighthouse or bottle: tall, slim and closed, with a nose, bands and fins.

    ``widest`` is the largest half of its width, the height of its frame being one.
    """
    half = float(np.exp(rng.uniform(np.log(0.02), np.log(widest))))
    top, bottom = rng.uniform(0.0, 0.1), rng.uniform(0.95, 1.1)
    nose = top + half * rng.uniform(1.0, 4.0)
    widths = half * np.array([0.15, 0.7, 0.95, 1.0])
    parts: list[Part] = []
    if rng.random() < 0.4:
        spread = half * rng.uniform(1.6, 3.0)
        fins = [[0.5 - spread, bottom], [0.5, bottom - 0.2], [0.5 + spread, bottom]]
        parts.append(Part(np.array(fins), 1))
    body = np.array([1.0, 1.0, rng.uniform(0.9, 1.3)]) * half
    parts += [Part(profile(body, 0.5, nose - 0.01, bottom), 0)]
    parts += [Part(profile(widths, 0.5, top, nose), int(rng.choice([0, 2])))]
    for k in range(int(rng.integers(0, 4))):
        y = rng.uniform(nose, bottom - 0.1)
        band = np.array([half, half])
        parts.append(Part(profile(band, 0.5, y, y + rng.uniform(0.01, 0.2)), 3 + k))
    return parts


def lying(rng: Rng) -> Placement:
    """On a table: 0.7 to 1.25 of the frame, anywhere near its middle, turned freely."""
    scale = rng.uniform(0.7, 1.25)
    centre = (0.5 + rng.normal(0, 0.06), 0.45 + rng.normal(0, 0.06))
    return Placement(centre, (scale, scale), rng.normal(0, 0.25), bool(rng.random() < 0.5))


def sitting(rng: Rng) -> Placement:
    """Cut by the lower edge: the shoulders always end below it."""
    scale = rng.uniform(0.75, 1.3)
    centre = (0.5 + rng.normal(0, 0.08), 1.0 - scale * rng.uniform(0.25, 0.47))
    return Placement(centre, (scale, scale), rng.normal(0, 0.05), bool(rng.random() < 0.5))


def standing(rng: Rng) -> Placement:
    """Upright near the middle, its foot at the lower edge or a little above."""
    scale = rng.uniform(0.55, 1.0)
    centre = (0.5 + rng.normal(0, 0.09), rng.uniform(0.85, 1.05) - scale * 0.45)
    return Placement(centre, (scale * rng.uniform(0.8, 1.6), scale), rng.normal(0, 0.03), False)


# By the kind of scene that they belong to.
PLACED: dict[str, tuple[Callable[[Rng], list[Part]], Callable[[Rng], Placement]]] = {
    "table": (dish, lying),
    "wall": (bust, sitting),
    "mast": (column, standing),
    "slim": (rocket, standing),
}
