"""Scenes with exact alpha: an object or two, placed over a background, seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .background import background, clutter, mirrored, shaded_by
from .camera import photograph
from .foreground import Foreground, clipped, drawn, glazed, over, painted, pasted
from .placed import PLACED
from .places import table, wall, yard
from .raster import Bytes, Picture, Rng, as_float, mix, to_bytes, to_float
from .sources import Sources

# Kinds that a scene can be asked to be; without one the shares below decide.
KINDS = (
    "hair", "glass", "shadow", "dark", "clutter", "empty", "table", "wall", "mast", "slim", "photo",
)  # fmt: skip
# Shares of scenes without an object, with two, with object and background of one brightness, with
# both very dark or very light, of glass, with a cast shadow, with a mirror image underneath.
EMPTY, DOUBLE, CAMOUFLAGE, EXTREME, GLASS, SHADOW, MIRROR = 0.04, 0.14, 0.12, 0.08, 0.05, 0.5, 0.06
DARK = 0.1  # share of joined scenes with both: by chance they meet in one of a hundred
VOID = 0.12  # share of joined scenes without an object beside those that chance makes
FAINT = 0.5  # share of these that are very dark or very light
# Share of an object's shots on the background that was made with it, by kind where it is more: what
# tells a rocket from masts, and a dish from the end of its table, is hardly seen on others.
STAY, STAYS = 0.3, {"mast": 0.75, "slim": 0.75, "table": 0.55}
SLIM = {"mast": 1, "slim": 3}  # kinds that are tall and slim, and the fewest masts behind them


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


def scene(seed: int, sources: Sources, size: int, kind: str = "") -> Scene:
    """Scene number ``seed``: the same bytes for the same seed, sources, size and kind."""
    rng = np.random.default_rng(seed)
    front, behind = layers(rng, sources, size, kind)
    return compose(rng, front, behind, kind)


def layers(rng: Rng, sources: Sources, size: int, kind: str = "") -> tuple[Foreground, Picture]:
    """(object, what is behind it), each fit to be joined with any other's."""
    behind = ground(rng, sources, size, kind)
    return subject(rng, sources, size, kind), behind


def ground(rng: Rng, sources: Sources, size: int, kind: str) -> Picture:
    """The background that goes with ``kind``, a random one for most."""
    if kind == "table":
        return table(rng, sources.photos, size)
    if kind == "wall":
        return wall(rng, sources, size)
    if kind in SLIM:
        return yard(rng, size, SLIM[kind])
    return (clutter if kind == "clutter" else background)(rng, sources, size)


def stacked(seed: int, sources: Sources, size: int, kind: str = "") -> Bytes:
    """The layers of scene ``seed``, bytes [S,S,8]: object RGB, alpha, background RGB, ``STAYS``.

    With the eighth byte, which is one number everywhere, each layer of a pixel is one 32-bit word,
    and is copied as one.
    """
    front, behind = layers(np.random.default_rng(seed), sources, size, kind)
    stays = np.full_like(behind[..., 0], STAYS.get(kind, STAY))
    return to_bytes(np.dstack([front.picture, front.alpha, behind, stays]))


def joined(rng: Rng, front: Bytes, behind: Bytes) -> Bytes:
    """An object [S,S,4] (straight RGBA) on a background [S,S,3] as a new shot: RGBA [S,S,4]."""
    chance = rng.random()
    kind = "dark" if chance < DARK else "empty" if chance < DARK + VOID else ""
    cut = Foreground(to_float(front[..., :3]), to_float(front[..., 3]))
    back = to_float(behind)
    if kind == "empty" and rng.random() < FAINT:
        back = faint(rng, back)
    made = compose(rng, cut, back, kind)
    return np.dstack([made.shot, made.alpha])


def compose(rng: Rng, front: Foreground, behind: Picture, kind: str = "") -> Scene:
    """Light, shadow and camera for an object on a background."""

    def happens(share: float, name: str = "never") -> bool:
        return bool(rng.random() < share) or kind == name

    if happens(EMPTY * (kind == ""), "empty"):
        front = Foreground(front.picture, np.zeros_like(front.alpha))
    if happens(CAMOUFLAGE, "dark"):
        front = Foreground(matched(front.picture, front, behind), front.alpha)
    if happens(MIRROR):
        behind = mirrored(rng, behind, front)
    if happens(SHADOW, "shadow"):
        behind = shaded_by(rng, behind, front.alpha)
    if happens(EXTREME, "dark"):
        front, behind = extreme(rng, front, behind)
    front_bytes, behind_bytes, alpha = map(to_bytes, (front.picture, behind, front.alpha))
    image = composite(front_bytes, behind_bytes, alpha)
    return Scene(image, alpha, front_bytes, behind_bytes, photograph(rng, image))


def subject(rng: Rng, sources: Sources, size: int, kind: str = "") -> Foreground:
    """One object, or two that may overlap; of four tries the first covering 4 to 95 %.

    What is tall and slim may cover 1 %.
    """
    least = 0.01 if kind in SLIM else 0.04
    for _ in range(4):
        front = single(rng, sources, size, kind)
        if rng.random() < DOUBLE:
            front = over(single(rng, sources, size, kind), front)
        if least < float(front.alpha.mean()) < 0.95:
            break
    if kind == "glass" or rng.random() < GLASS:
        front = glazed(rng, front)
    return front


def single(rng: Rng, sources: Sources, size: int, kind: str) -> Foreground:
    """A procedural figure (60 %, and everything with hair) or clip art (40 %).

    A kind with a place of its own has its own figures, all but a quarter of the time; "photo" has
    photographed objects.
    """
    if kind == "photo":
        return pasted(rng, sources.stamps, size)
    if kind in PLACED and rng.random() < 0.75:
        make, spot = PLACED[kind]
        return painted(rng, sources.photos, size, make(rng), spot(rng))
    if kind == "hair" or not sources.cutouts or rng.random() < 0.6:
        return drawn(rng, sources.photos, size, hairy=kind == "hair")
    return clipped(rng, sources.cutouts, sources.photos, size)


def matched(picture: Picture, front: Foreground, behind: Picture) -> Picture:
    """``picture`` shifted so that its mean inside is 85 % of the way to the background's."""
    weight = front.alpha / max(float(front.alpha.sum()), 1.0)
    inside = (picture * weight[..., None]).sum(axis=(0, 1))
    return as_float(np.clip(picture + (behind.mean(axis=(0, 1)) - inside) * 0.85, 0, 1))


def extreme(rng: Rng, front: Foreground, behind: Picture) -> tuple[Foreground, Picture]:
    """Both squeezed into the darkest, or a quarter of the time the lightest, tenth to half."""
    low, high = rng.uniform(0.1, 0.5, 2)
    light = rng.random() < 0.25
    return Foreground(squeezed(front.picture, low, light), front.alpha), squeezed(
        behind, high, light
    )


def faint(rng: Rng, behind: Picture) -> Picture:
    """Squeezed into the darkest or the lightest twentieth to half."""
    return squeezed(behind, rng.uniform(0.05, 0.5), rng.random() < 0.5)


def squeezed(picture: Picture, share: float, light: bool) -> Picture:
    """``picture`` in the darkest ``share`` of the range, or its negative in the lightest."""
    dark = picture * np.float32(share)
    return as_float(1 - dark if light else dark)


def composite(front: Bytes, behind: Bytes, alpha: Bytes) -> Bytes:
    """alpha * front + (1 - alpha) * behind on bytes, rounded once."""
    weight = as_float(alpha) / np.float32(255)
    return np.rint(mix(as_float(behind), as_float(front), weight)).astype(np.uint8)
