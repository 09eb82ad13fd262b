"""Lengths, regions, margins, scales and positions, as remove.bg's API writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Box

_LENGTH = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(px|%)?", re.ASCII)
# What remove.bg's documentation allows on each side: half of the subject, or so many pixels.
MOST_PERCENT, MOST_PIXELS = 50, 500
# Percent of the canvas that a subject may be scaled to.
_SCALES = (10, 100)

# (height, width) in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class Length:
    """Pixels, or a share of something in percent; not negative."""

    value: float
    percent: bool = False

    def of(self, whole: int) -> int:
        """Pixels, rounded, where 100 % are ``whole`` pixels."""
        return round(self.value * whole / 100 if self.percent else self.value)


_ZERO = Length(0)


@dataclass(frozen=True)
class Region:
    """A rectangle of a picture, from (left, top) to (right, bottom)."""

    left: Length
    top: Length
    right: Length
    bottom: Length

    def box(self, size: Size) -> Box:
        """The part of it inside a picture of ``size`` (H, W); OptionError where there is none."""
        height, width = size
        top, bottom = (min(side.of(height), height) for side in (self.top, self.bottom))
        left, right = (min(side.of(width), width) for side in (self.left, self.right))
        if bottom <= top or right <= left:
            raise OptionError(
                f"roi holds no pixel of this picture, {width} wide and {height} high: give "
                "x1 y1 x2 y2 with x1 < x2 and y1 < y2, in px or %"
            )
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Margins:
    """Empty space round a subject: pixels, or shares of its height above and below, and of its
    width left and right."""

    top: Length = _ZERO
    right: Length = _ZERO
    bottom: Length = _ZERO
    left: Length = _ZERO

    def around(self, size: Size) -> tuple[Box, Size]:
        """Where a subject of ``size`` (h, w) lies on its canvas, and the canvas's (H, W)."""
        height, width = size
        above, left = self.top.of(height), self.left.of(width)
        canvas = (
            above + height + self.bottom.of(height),
            left + width + self.right.of(width),
        )
        return Box(above, left, height, width), canvas


def parse_region(text: str) -> Region:
    """``x1 y1 x2 y2``, each in px (or without unit) or %; OptionError."""
    parts = _lengths(text)
    if parts is None or len(parts) != 4 or any(part.percent and part.value > 100 for part in parts):
        raise OptionError(
            f"roi is {text!r:.60}: give x1 y1 x2 y2 in px or %, such as 10% 10% 90% 100%"
        )
    return Region(*parts)


def parse_margins(text: str) -> Margins:
    """One length for all sides, two for top and bottom, left and right, or four from the top
    clockwise; OptionError."""
    parts = _lengths(text)
    if parts is None or len(parts) not in (1, 2, 4):
        raise OptionError(
            f"crop_margin is {text!r:.60}: give 1, 2 or 4 values in px or %, such as 10%"
        )
    if any(part.value > (MOST_PERCENT if part.percent else MOST_PIXELS) for part in parts):
        raise OptionError(
            f"crop_margin is {text!r:.60}: give up to {MOST_PERCENT}% or {MOST_PIXELS}px on a side"
        )
    return Margins(*(parts * (4 // len(parts))))


def parse_scale(text: str) -> float | None:
    """0.1 to 1 of ``10%`` to ``100%``; None of ``original``; OptionError."""
    if text == "original":
        return None
    parts = _lengths(text)
    low, high = _SCALES
    if (
        parts is None
        or len(parts) != 1
        or not parts[0].percent
        or not low <= parts[0].value <= high
    ):
        raise OptionError(f"scale is {text!r:.60}: give original or {low}% to {high}%")
    return parts[0].value / 100


def parse_position(text: str) -> tuple[float, float] | None:
    """(x, y) in 0..1 of ``center``, one or two values of 0% to 100%; None of ``original``;
    OptionError."""
    if text == "original":
        return None
    parts = _lengths("50%" if text == "center" else text)
    if parts is None or len(parts) > 2 or not all(_is_share(part) for part in parts):
        raise OptionError(
            f"position is {text!r:.60}: give original, center, or one or two values from 0% to 100%"
        )
    return (parts[0].value / 100, parts[-1].value / 100)


def _is_share(part: Length) -> bool:
    return part.percent and part.value <= 100


def _lengths(text: str) -> list[Length] | None:
    """The lengths of ``text``, at least one, between spaces or commas; None where it is none."""
    found = [_LENGTH.fullmatch(word) for word in text.replace(",", " ").split()]
    if not found or None in found:
        return None
    return [Length(float(match[1]), match[2] == "%") for match in found if match]
