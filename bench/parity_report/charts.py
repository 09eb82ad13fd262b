"""Drawings of the report as inline SVG: they take their colours from the page."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .figures import EDGES, Figures

WIDTH, HEIGHT = 640, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 26, 34
# Lowest share of the pixels that is drawn: one in ten million.
_FLOOR = -7
_TICKS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100)


def histogram(counts: NDArray[np.int64], total: Figures, limits: dict[str, float]) -> str:
    """Pixels by |difference|, both axes logarithmic; mean, 99.9 % and limits as lines."""
    shares = counts / max(1, int(counts.sum()))
    parts = [
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="pixels by difference">',
        *_grid(),
        *_bars(shares),
        *_mark("mean", total.mean),
        *_mark("99.9 %", total.p999),
        *_limits(limits),
        "</svg>",
    ]
    return "".join(parts)


def _x(level: float) -> float:
    """Place of a difference in 1/255; the first bin's width is kept free for what is below."""
    low, high = math.log10(EDGES[0] * 255), math.log10(EDGES[-1] * 255)
    share = (math.log10(max(level, EDGES[0] * 255)) - low) / (high - low)
    return LEFT + _step() + share * (WIDTH - LEFT - RIGHT - _step())


def _step() -> float:
    return (WIDTH - LEFT - RIGHT) / len(EDGES)


def _y(share: float) -> float:
    place = (math.log10(share) - _FLOOR) / -_FLOOR if share > 0 else 0.0
    return HEIGHT - BOTTOM - max(0.0, place) * (HEIGHT - TOP - BOTTOM)


def _grid() -> list[str]:
    parts = []
    for power in range(_FLOOR, 1, 1):
        y = _y(10.0**power)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if power % 2 == 0:
            text = {0: "100 %", -2: "1 %"}.get(power, f"{10.0 ** (power + 2):g} %")
            parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in _TICKS:
        x, bottom = _x(tick), HEIGHT - BOTTOM
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        label = f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
        parts.append(label)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">|difference| in 1/255</text>'
    )
    return parts


def _bars(shares: NDArray[np.float64]) -> list[str]:
    parts, bottom = [], HEIGHT - BOTTOM
    for place, share in enumerate(shares):
        if share <= 0:
            continue
        left, top = LEFT + place * _step(), min(_y(float(share)), bottom - 1.0)
        lower, upper = EDGES[max(0, place - 1)] * 255, EDGES[place] * 255
        # The edges are powers of the root of 2: 1 and 2 up to float64's rounding.
        kind = "far" if lower > 1.99 else "near" if lower > 0.99 else "below"
        span = f"below {upper:.2g}" if place == 0 else f"{lower:.2g} to {upper:.2g}"
        parts.append(
            f'<rect class="{kind}" x="{left + 0.6:.1f}" y="{top:.1f}" width="{_step() - 1.2:.1f}" '
            f'height="{bottom - top:.1f}"><title>{span} (1/255): {share:.3%}</title></rect>'
        )
    return parts


def _mark(name: str, value: float) -> list[str]:
    """A whole line at a figure; none where it is 0, which has no place here."""
    return _upright(name, _x(value * 255), "mark", TOP - 12, HEIGHT - BOTTOM) if value else []


def _limits(limits: dict[str, float]) -> list[str]:
    """Short lines, each lower than the one before, so that their names do not meet."""
    parts = []
    for place, (key, limit) in enumerate(limits.items()):
        top = TOP + 2 + 14 * place
        name = "99.9 %" if key == "p999" else key
        parts += _upright(f"limit of {name}", _x(limit * 255), "limit", top, top + 30)
    return parts


def _upright(name: str, x: float, kind: str, top: float, bottom: float) -> list[str]:
    # The mean lies left of the 99.9th percentile: its name stands on its other side.
    left = name == "mean" or x > WIDTH * 0.82
    anchor, shift = ("end", -3) if left else ("start", 3)
    line = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
    place = f'x="{x + shift:.1f}" y="{top + 9}" text-anchor="{anchor}"'
    return [line, f'<text class="{kind}" {place}>{name}</text>']
