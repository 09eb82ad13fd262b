"""The subject's own colours, where background shines through."""

from __future__ import annotations

from birefnet_runtime import despill, fusion, pyramid
from birefnet_runtime.frame import Bytes
from birefnet_runtime.options import Options


def colours(rgb: Bytes, alpha: Bytes, options: Options) -> Bytes:
    """uint8 [H,W,3], what a cut-out's foreground is: estimated and despilled as ``options`` say.

    ``rgb`` itself where nothing changes, and for a mask alone, which has no colours.
    """
    if options.output == "alpha":
        return rgb
    found = estimate(rgb, alpha, options.foreground)
    return found if options.despill is None else despill.apply(found, alpha, options.despill)


def estimate(rgb: Bytes, alpha: Bytes, method: str) -> Bytes:
    """uint8 [H,W,3]: the foreground's colours in the soft band, ``rgb``'s elsewhere.

    ``rgb``: uint8 [H,W,3]; ``alpha``: uint8 [H,W]. ``method``: ``ml``, multi-level (``pyramid``);
    ``blur``, blur fusion (``fusion``); ``off``. A new array, but ``rgb`` itself for ``off`` and
    where alpha is nowhere soft.
    """
    if method == "off" or not pyramid.soft(alpha).any():
        return rgb
    return pyramid.estimate(rgb, alpha) if method == "ml" else fusion.estimate(rgb, alpha)
