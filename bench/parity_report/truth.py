"""How good an alpha is against a hand-made one. Shapes [H,W], values in 0..1, never stretched.

MAE, S-measure, weighted F, mean E and HCE come from ``pysodmetrics`` where it is installed; SAD,
MSE, Grad and Conn are here, over the whole picture (there is no trimap), by the definitions of
Rhemann et al., A Perceptually Motivated Online Benchmark for Image Matting (CVPR 2009), with the
constants of alphamatting.com's evaluation code: sums in thousands, sigma 1.4, steps of 0.1, theta
0.15, components by edges. Published S, F and E stretch each mask to 0..1 first; these do not.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from birefnet_runtime.errors import one_line

from .figures import Distances, Floats, Kind, Mask

SAD = Kind("sad", "SAD", "10^3", "lower")
OWN = (
    SAD,
    Kind("mse", "MSE", "10^-3", "lower", 1000),
    Kind("grad", "Grad", "10^3", "lower"),
    Kind("conn", "Conn", "10^3", "lower"),
)
SALIENCY = (
    Kind("mae", "MAE", "", "lower"),
    Kind("sm", "S", "", "higher"),
    Kind("wfm", "weighted F", "", "higher"),
    Kind("em", "mean E", "", "higher"),
    Kind("hce", "HCE", "", "lower"),
)
# Spread of the derivative of a Gaussian, and where its kernel is cut off, relative to its peak.
_SIGMA, _CUT = 1.4, 1e-2
_STEP, _THETA = 0.1, 0.15


def kinds() -> tuple[Kind, ...]:
    """What can be measured here."""
    return (*SALIENCY, *OWN) if missing() is None else OWN


@cache
def missing() -> str | None:
    """Why there is no saliency measure here, or None where they are."""
    try:
        import_module("py_sod_metrics")
    except ImportError as error:
        return f"pip install 'birefnet-trt[quality]' brings them ({one_line(error)})"
    return None


def measure(alpha: Floats, truth: Floats) -> dict[str, float]:
    """Every figure of ``alpha`` against ``truth``, by key."""
    a, b = alpha.astype(np.float64), truth.astype(np.float64)
    found = {} if missing() else _saliency(a, b >= 0.5)
    gap = np.abs(a - b)
    found["sad"] = float(gap.sum() / 1000)
    found["mse"] = float((gap**2).mean())
    found["grad"] = gradient(a, b)
    found["conn"] = connectivity(a, b)
    return found


def gradient(a: Distances, b: Distances) -> float:
    """Grad: squared difference of the gradients' magnitudes, in thousands."""
    return float(((_magnitude(a) - _magnitude(b)) ** 2).sum() / 1000)


def _magnitude(alpha: Distances) -> Distances:
    """Length of the Gaussian derivatives of ``alpha``, its border repeated."""
    kernel = _derivative()
    across = cv2.filter2D(alpha, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE)
    down = cv2.filter2D(alpha, cv2.CV_64F, kernel.T, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


@cache
def _derivative() -> Distances:
    """d/dx of a Gaussian, of unit length; its sign does not matter here."""
    peak = np.sqrt(2 * np.pi) * _SIGMA
    half = int(np.ceil(_SIGMA * np.sqrt(-2 * np.log(peak * _CUT))))
    steps = np.arange(-half, half + 1)
    bell = np.exp(-(steps**2) / (2 * _SIGMA**2)) / peak
    slope = -steps * bell / _SIGMA**2
    kernel = np.outer(bell, slope)
    unit: Distances = kernel / np.sqrt((kernel**2).sum())
    return unit


def connectivity(a: Distances, b: Distances) -> float:
    """Conn: difference of the degrees of connectedness to the common source, in thousands."""
    reach = _reach(a, b)
    return float(np.abs(_degree(a, reach) - _degree(b, reach)).sum() / 1000)


def _reach(a: Distances, b: Distances) -> Distances:
    """The last level at which a pixel belongs to the largest region that is in both."""
    levels = np.arange(0, 1 + _STEP, _STEP)
    reach = np.full(a.shape, -1.0)
    for before, level in pairwise(levels):
        source = largest((a >= level) & (b >= level))
        reach[(reach == -1) & ~source] = before
    reach[reach == -1] = 1
    return reach


def _degree(alpha: Distances, reach: Distances) -> Distances:
    above = alpha - reach
    degree: Distances = 1 - above * (above >= _THETA)
    return degree


def largest(mask: Mask) -> Mask:
    """The largest region of ``mask`` that hangs together by edges; empty where it is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count < 2:
        return np.zeros_like(mask)
    place = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    found: Mask = labels == place
    return found


def _saliency(alpha: Distances, truth: Mask) -> dict[str, float]:
    library: Any = import_module("py_sod_metrics")
    classes = {
        "mae": (library.MAE, "mae"),
        "sm": (library.Smeasure, "sm"),
        "wfm": (library.WeightedFmeasure, "wfm"),
        "em": (library.Emeasure, "em"),
        "hce": (library.HumanCorrectionEffortMeasure, "hce"),
    }
    found = {}
    for key, (kind, name) in classes.items():
        judge = kind()
        judge.step(alpha, truth, normalize=False)
        value = judge.get_results()[name]
        found[key] = float(np.mean(value["curve"] if key == "em" else value))
    return found
