"""How sure a cut-out is, and whether there is a subject at all."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from birefnet_runtime.frame import Bytes

# A subject has at least one pixel in this many that is more foreground than background. Where there
# is none, a mask is not exactly 0, but faint: of nano on twelve pictures of nothing (grass, gravel,
# bricks, clouds, one colour, noise) the largest alpha was 53 of 255.
SMALLEST_SHARE = 1e-4
# Alpha from which a pixel is more foreground than background.
HALF = 128


@dataclass(frozen=True)
class Score:
    """``share``: mean alpha, the part of the picture that is foreground, 0..1. ``uncertainty``:
    mean of 4 alpha (1 - alpha) over the soft band, 0 < alpha < 1; 0 for none, 1 where all of it is
    half and half. ``soft``: the soft band's part of the picture. ``found``: whether there is a
    subject.
    """

    share: float
    uncertainty: float
    soft: float
    found: bool

    def __str__(self) -> str:
        if not self.found:
            return "nothing found"
        return f"foreground {self.share:.1%}, uncertainty {self.uncertainty:.2f}"


def score(alpha: Bytes) -> Score:
    """Of a mask, uint8 [H,W], from how often each of its 256 values occurs."""
    counts = np.asarray(cv2.calcHist([alpha], [0], None, [256], [0, 256]), np.float64).ravel()
    levels = np.arange(256) / 255
    total, band = counts.sum(), counts[1:255].sum()
    doubt = (counts * 4 * levels * (1 - levels)).sum()
    return Score(
        share=float((counts * levels).sum() / total),
        uncertainty=float(doubt / band) if band else 0.0,
        soft=float(band / total),
        found=bool(counts[HALF:].sum() >= max(1.0, SMALLEST_SHARE * total)),
    )
