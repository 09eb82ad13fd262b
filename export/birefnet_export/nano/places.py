"""Backgrounds that are sharp and still are background: boards, walls with things on, masts."""

from __future__ import annotations

import cv2
import numpy as np

from .background import studio, surface_of
from .foreground import Placement, stamped
from .raster import (
    Bytes,
    Picture,
    Plane,
    Points,
    Rng,
    as_float,
    blur,
    mix,
    polygon,
    strokes,
)  # fmt: skip
from .shade import lit
from .sources import Sources
from .texture import colour, noise, ramp, relative, waves


def table(rng: Rng, photos: list[Bytes], size: int) -> Picture:
    """Boards, cloth or stone in perspective, lamp light and sheen; one in three shows an edge."""
    flat = boards(rng, size) if rng.random() < 0.7 else surface_of(rng, photos, size)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * size
    angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = (corners - size / 2) @ np.array([[cos, sin], [-sin, cos]]) * rng.uniform(1, 1.6)
    turned = turned / (1 - lean * turned[:, 1:] / size) + size / 2
    matrix = cv2.getPerspectiveTransform(corners, as_float(turned))
    seen = cv2.warpPerspective(flat, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    glow = noise(rng, size, 2, 1)[..., None]
    lamp = rng.uniform(0.3, 1.0)
    seen = as_float(seen) * (lamp + (1.3 - lamp) * glow) + rng.uniform(0, 0.25) * glow**4
    if rng.random() < 0.35:
        seen = ended(rng, as_float(seen))
    return as_float(np.clip(blur(as_float(seen), float(rng.choice([0, 0, 0.6, 1.5]))), 0, 1))


def ended(rng: Rng, seen: Picture) -> Picture:
    """``seen`` up to an edge or a corner of the table; beyond it a floor, mostly darker."""
    size = seen.shape[0]
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.5)
    second = angle + rng.choice([0.0, 1.0]) * rng.uniform(0.9, 2.2)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size) - np.float32(0.5)
    over = [x * np.cos(a) + y * np.sin(a) - away for a in (angle, second)]
    beyond = np.clip(np.maximum(*over) * size / rng.uniform(1, 6) + 0.5, 0, 1)
    floor = studio(rng, size) * np.float32(rng.uniform(0.1, 0.9))
    return mix(seen, blur(as_float(floor), 1.0), as_float(beyond))


def boards(rng: Rng, size: int) -> Picture:
    """Wood: grain along x in two to four near colours; boards of their own tone, dark joints."""
    base = relative(rng, np.array([0.5, 0.3, 0.17], np.float32), rng.uniform(0.1, 0.8))
    if rng.random() < 0.25:
        base = colour(rng)
    fine = noise(rng, size, int(rng.integers(10, 60)), 3, rng.uniform(8, 25))
    wide = noise(rng, size, int(rng.integers(3, 10)), 2, rng.uniform(2, 6))
    wood = ramp(fine * np.float32(0.6) + wide * np.float32(0.4),
                [relative(rng, base, 0.6), base, relative(rng, base, 0.4)])  # fmt: skip
    count = int(rng.integers(1, 9))
    tone = rng.uniform(0.7, 1.2, count).astype(np.float32)
    place = np.arange(size) * count / size
    rows = tone[place.astype(int)] if rng.random() < 0.7 else np.ones(size, np.float32)
    joint = np.abs(place % 1 - 0.5) > 0.5 - count / size * rng.uniform(0.4, 2.5)
    rows = rows * np.where(joint, np.float32(rng.uniform(0.2, 1.0)), np.float32(1))
    return as_float(np.clip(wood * rows[:, None, None], 0, 1))


def wall(rng: Rng, sources: Sources, size: int) -> Picture:
    """A wall with posters, flags, shelves, furniture and bystanders, in focus or nearly so."""
    plain = rng.random() < 0.6
    picture = studio(rng, size) if plain else surface_of(rng, sources.photos, size)
    for _ in range(int(rng.integers(1, 6))):
        kind = rng.choice(4, p=[0.3, 0.3, 0.15, 0.25])
        if kind == 3 and sources.cutouts:
            picture = bystander(rng, picture, sources.cutouts)
        else:
            picture = (poster, flag, shelf)[kind % 3](rng, picture, sources.photos)
    return blur(picture, float(rng.choice([0, 0.7, 1.5, 4], p=[0.4, 0.3, 0.2, 0.1])) * size / 384)


def rectangle(rng: Rng, centre: Points, half: Points) -> Points:
    """Four corners, slightly turned."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    turn = rng.normal(0, 0.04)
    return np.asarray(corners @ np.array([[1, turn], [-turn, 1]]) + centre)


def poster(rng: Rng, picture: Picture, photos: list[Bytes]) -> Picture:
    """A framed picture, window, box or cupboard: an upright rectangle with another inside."""
    size = picture.shape[0]
    centre, half = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.25, 2)
    frame = np.broadcast_to(colour(rng), picture.shape)
    picture = mix(picture, as_float(frame), polygon(rectangle(rng, centre, half), size))
    inside = polygon(rectangle(rng, centre, half * rng.uniform(0.75, 0.98)), size)
    return mix(picture, surface_of(rng, photos, size), inside)


def flag(rng: Rng, picture: Picture, photos: list[Bytes]) -> Picture:
    """Striped cloth or a curtain hanging in folds at one side, cut by the frame."""
    size = picture.shape[0]
    edge = rng.uniform(0.08, 0.4)
    rows = np.linspace(rng.uniform(-0.2, 0.2), rng.uniform(0.5, 1.3), 12)
    side = edge + rng.normal(0, 0.03, 12) + np.linspace(0, rng.normal(0, 0.15), 12)
    outline = np.concatenate([np.stack([side, rows], 1), [[-0.1, rows[-1]], [-0.1, rows[0]]]])
    if rng.random() < 0.5:
        outline[:, 0] = 1 - outline[:, 0]
    cloth = ramp(waves(rng, size), [colour(rng), colour(rng)])
    if rng.random() < 0.3:
        cloth = surface_of(rng, photos, size)
    folds = noise(rng, size, int(rng.integers(4, 10)), 2, 0.15)[..., None] * np.float32(0.9)
    hanging = as_float(np.clip(cloth * (folds + np.float32(0.4)), 0, 1))
    return mix(picture, hanging, polygon(outline, size))


def shelf(rng: Rng, picture: Picture, photos: list[Bytes]) -> Picture:
    """Boards with a row of books or boxes on each."""
    size = picture.shape[0]
    left, right = np.sort(rng.uniform(-0.3, 1.3, 2))
    for level in np.arange(rng.uniform(0.1, 0.4), 1.1, rng.uniform(0.2, 0.5)):
        x = left
        while x < right:
            wide, tall = rng.uniform(0.015, 0.09), rng.uniform(0.05, 0.18)
            fill = np.broadcast_to(colour(rng), picture.shape)
            place = np.array([x + wide / 2, level - tall / 2])
            box = polygon(rectangle(rng, place, np.array([wide, tall]) / 2), size)
            picture = mix(picture, as_float(fill), box * np.float32(rng.random() < 0.85))
            x += wide
        board = rectangle(rng, np.array([(left + right) / 2, level + 0.01]),
                          np.array([(right - left) / 2, 0.012]))  # fmt: skip
        wood = np.broadcast_to(colour(rng), picture.shape)
        picture = mix(picture, as_float(wood), polygon(board, size))
    return picture


def bystander(rng: Rng, picture: Picture, cutouts: list[Bytes]) -> Picture:
    """A cut-out at the left or right, smaller than a subject and mostly cut by the frame."""
    size = picture.shape[0]
    x = rng.normal(0.08, 0.08)
    spot = Placement(
        (1 - x if rng.random() < 0.5 else x, rng.uniform(0.1, 0.9)),
        (rng.uniform(0.2, 0.6),) * 2,
        rng.normal(0, 0.1),
        bool(rng.random() < 0.5),
    )
    colours, alpha = stamped(cutouts[int(rng.integers(len(cutouts)))], spot, size)
    return mix(picture, lit(rng, colours, alpha) if rng.random() < 0.5 else colours, alpha)


def yard(rng: Rng, size: int, least: int = 1) -> Picture:
    """A sky over a dark horizon with lattice masts, poles, cables and lamps.

    Of masts and bundles of cables there are ``least`` to 7.
    """
    y = np.mgrid[0:size, 0:size][0].astype(np.float32) / np.float32(size)
    sky = colour(rng) if rng.random() < 0.5 else np.array([0.2, 0.35, 0.7], np.float32)
    sky = relative(rng, sky * np.float32(rng.uniform(0.3, 1.3)), 0.5)
    picture = ramp(y, [relative(rng, sky, 0.3), sky, relative(rng, sky, 0.8)])
    line = rng.uniform(0.75, 1.05)
    ground = ramp(noise(rng, size, 12, 3), [colour(rng) * np.float32(0.3), sky * np.float32(0.5)])
    rough = noise(rng, size, 10, 3)[:1] * np.float32(0.06)
    picture = mix(picture, ground, as_float(np.clip((y - line - rough) * 60, 0, 1)))
    ink = relative(rng, colour(rng) * np.float32(0.5), 0.5)
    for _ in range(int(rng.integers(least, 8))):
        drawn = (mast if rng.random() < 0.75 else cables)(rng, size, line)
        picture = mix(picture, as_float(np.broadcast_to(ink, picture.shape)), drawn)
    for _ in range(int(rng.integers(0, 4))):
        picture = shed(rng, picture, line)
    for _ in range(int(rng.integers(0, 10))):
        picture = lamp(rng, picture, (rng.random(), line + rng.normal(0, 0.06)))
    return blur(picture, float(rng.choice([0, 0.5, 1.2, 3])) * size / 384)


def shed(rng: Rng, picture: Picture, foot: float) -> Picture:
    """A low block on the horizon, lit or dark."""
    half = np.array([rng.uniform(0.02, 0.2), rng.uniform(0.01, 0.06)])
    outline = rectangle(rng, np.array([rng.random(), foot + rng.uniform(-0.04, 0.08)]), half)
    fill = np.broadcast_to(colour(rng), picture.shape)
    return mix(picture, as_float(fill), polygon(outline, picture.shape[0]))


def mast(rng: Rng, size: int, foot: float) -> Plane:
    """A lattice tower, scaffold or pole on the ground, with crossed braces; often cut on top.

    A third stand at the left or right end of the frame; a third bear a rod.
    """
    x, top = rng.uniform(-0.05, 1.05), rng.uniform(-0.3, 0.6)
    if rng.random() < 0.33:
        x = rng.choice([0.0, 1.0]) + rng.normal(0, 0.05)
    low, high = np.array([1.0, rng.uniform(0.1, 1.0)]) * rng.uniform(0.004, 0.09)
    count = max(2, int((foot - top) / rng.uniform(0.04, 0.12)))
    y = np.linspace(foot + 0.02, top, count)
    reach = np.linspace(low, high, count)
    left, right = np.stack([x - reach, y], 1), np.stack([x + reach, y], 1)
    zigzag = np.where(np.arange(count)[:, None] % 2, left, right)
    lines = [left, right, zigzag, np.where(np.arange(count)[:, None] % 2, right, left)]
    rungs = [np.stack([a, b]) for a, b in zip(left, right, strict=True)]
    thick = max(1, round(size / 384 * rng.uniform(0.6, 3)))
    lattice = lines + rungs[:: int(rng.integers(1, 4))]
    drawn = strokes(lattice, size, thick, int(rng.integers(140, 256)))
    if rng.random() < 0.33:
        rod = np.array([[x, top + 0.03], [x, top - rng.uniform(0.05, 0.3)]])
        drawn = np.maximum(drawn, strokes([rod], size, round(size * rng.uniform(0.004, 0.012)) + 1))
    return drawn


def cables(rng: Rng, size: int, foot: float) -> Plane:
    """One to four wires that sag from one side of the frame to the other."""
    x = np.linspace(-0.1, 1.1, 24)
    start, end, sag = rng.uniform(0, foot), rng.uniform(0, foot), rng.uniform(0, 0.3)
    line = start + (end - start) * x + sag * (0.36 - (x - 0.5) ** 2)
    lines = [
        np.stack([x, line + k * rng.uniform(0.01, 0.06)], 1) for k in range(rng.integers(1, 5))
    ]
    return strokes(lines, size, 1, int(rng.integers(100, 256)))


def lamp(rng: Rng, picture: Picture, place: tuple[float, float]) -> Picture:
    """A light that shines into the lens: a glow and the rays of its iris, often on a post."""
    size, centre = picture.shape[0], np.array(place)
    if rng.random() < 0.5:
        foot = np.array([place[0] + rng.normal(0, 0.01), place[1] + 1.0])
        picture = mix(picture, picture * 0.3, strokes([np.stack([centre, foot])], size))
    reach = float(np.exp(rng.uniform(np.log(0.012), np.log(0.1))))
    count = int(rng.integers(2, 9))
    angles = rng.uniform(0, np.pi) + np.arange(count) * np.pi / count
    rays = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.5, 1, (count, 1)) * reach
    star = np.zeros((size, size), np.float32)
    for part in (1.0, 0.7, 0.4):
        lines = [np.stack([centre - ray * part, centre + ray * part]) for ray in rays]
        star += strokes(lines, size, max(1, size // 250)) * np.float32(0.4)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    away = np.hypot(x - np.float32(place[0]), y - np.float32(place[1])) / np.float32(reach)
    glow = np.exp(-((away / rng.uniform(0.15, 0.6)) ** 2)) + rng.uniform(0, 0.3) * np.exp(-away)
    warm = np.array([1.0, rng.uniform(0.6, 1), rng.uniform(0.2, 1)], np.float32)
    shine = as_float(blur(star, 0.6) + glow)[..., None]
    white = np.clip(shine - 1, 0, 1) * np.float32(0.5)
    return as_float(np.clip(picture + shine * warm + white, 0, 1))
