"""How far an alpha is from the exact one in the unknown band."""

from __future__ import annotations

import cv2
import numpy as np

from birefnet_runtime.frame import Box, Bytes, Floats
from parity_report import truth as matting

# Figures in the order of the tables, lower is better in all; ``all`` is SAD of the whole picture.
KEYS = ("sad", "mse", "grad", "conn", "all")
LABELS = {"sad": "SAD", "mse": "MSE", "grad": "Grad", "conn": "Conn", "all": "SAD, all"}
UNITS = {"sad": "10^3", "mse": "10^-3", "grad": "10^3", "conn": "10^3", "all": "10^3"}
# Pixels by which the band is wider than what is neither 0 nor 1: a trimap's usual slack.
REACH = 10


class Judge:
    """Compares alphas with one truth, float32 [H,W].

    The band is where the truth is neither 0 nor 1, and REACH pixels round that. SAD, MSE, Grad and
    Conn are taken there: outside of it an alpha counts as right, as with a trimap.
    """

    def __init__(self, truth: Floats) -> None:
        soft = ((truth > 0) & (truth < 1)).astype(np.uint8)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * REACH + 1, 2 * REACH + 1))
        self._whole = truth
        band = cv2.dilate(soft, kernel) > 0
        self._part = around(band, REACH)
        self._band, self._truth = band[self._part.slices], truth[self._part.slices]

    def figures(self, alpha: Bytes) -> dict[str, float]:
        """Every figure of ``alpha``, uint8 [H,W], by key."""
        given = alpha[self._part.slices] / np.float32(255)
        a = np.where(self._band, given, self._truth).astype(np.float64)
        b = self._truth.astype(np.float64)
        gap = np.abs(a - b)
        return {
            "sad": float(gap.sum() / 1e3),
            "mse": float((gap**2).sum() / max(1, np.count_nonzero(self._band)) * 1e3),
            "grad": matting.gradient(a, b),
            "conn": matting.connectivity(a, b),
            "all": float(np.abs(alpha / np.float32(255) - self._whole).sum(dtype=np.float64) / 1e3),
        }


def around(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], reach: int) -> Box:
    """The box of ``mask``, ``reach`` wider; the whole picture where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Box(0, 0, mask.shape[0], mask.shape[1])
    top, left = max(0, int(rows[0]) - reach), max(0, int(columns[0]) - reach)
    bottom = min(mask.shape[0], int(rows[-1]) + reach + 1)
    right = min(mask.shape[1], int(columns[-1]) + reach + 1)
    return Box(top, left, bottom - top, right - left)
