"""The result: a picture cut out, at its own resolution."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from birefnet_runtime import encode, refine
from birefnet_runtime.frame import Bytes, Metadata
from birefnet_runtime.options import Options


@dataclass(frozen=True, eq=False)
class Cutout:
    """One picture cut out, H x W as the picture is upright.

    ``foreground``: uint8 [H,W,3], RGB; today the picture's own colours. ``alpha``: uint8 [H,W], 0
    is background. Alpha is straight: colours are not multiplied by it. ``timings``: seconds per
    step, by name (decode, preprocess, model, refine). The arrays belong to the cut-out, except that
    the foreground of an array source is that array.

    ``rendered`` is ``image`` where a GPU made it; ``alpha`` is then a view of it when it is RGBA.
    Both lie in page-locked memory, which goes back to a pool with the last array on it.
    """

    foreground: Bytes
    alpha: Bytes
    source: str = "<array>"
    options: Options = field(default_factory=Options)
    metadata: Metadata = field(default_factory=Metadata)
    timings: Mapping[str, float] = field(default_factory=dict)
    rendered: Bytes | None = None

    @cached_property
    def rgba(self) -> Bytes:
        """uint8 [H,W,4], straight; colour is 0 where alpha is 0: no background stays in a file."""
        if self.rendered is not None and self.rendered.shape[2:] == (4,):
            return self.rendered
        visible = cv2.bitwise_and(self.foreground, self.foreground, mask=self.alpha)
        rgba: Bytes = np.asarray(cv2.cvtColor(visible, cv2.COLOR_RGB2RGBA), np.uint8)
        rgba[..., 3] = self.alpha
        return rgba

    @property
    def image(self) -> Bytes:
        """What ``save`` writes: ``rgba``, ``alpha``, or uint8 [H,W,3] on the background."""
        if self.options.output == "alpha":
            return self.alpha
        if self.rendered is not None:
            return self.rendered
        if self.options.colour is not None:
            return refine.compose(self.foreground, self.alpha, self.options.colour)
        return self.rgba

    def encode(self, suffix: str = ".png") -> bytes:
        """File bytes of ``image``.

        Suffixes: .png, .webp, .tif, and .jpg for a mask or a background. Raises OutputError.
        """
        return encode.encode(self.image, suffix, self.metadata)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``image`` to ``path`` in its suffix's format, whole or not at all; OutputError."""
        encode.write(path, self.encode(Path(path).suffix))
