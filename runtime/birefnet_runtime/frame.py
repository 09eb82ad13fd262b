"""The nouns that every step shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Metadata:
    """What a result takes over from its picture.

    ``icc``: an RGB colour profile, or None. ``dpi``: (horizontal, vertical), or None.
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture, upright.

    ``rgb``: uint8 [H,W,3], RGB. ``alpha``: uint8 [H,W], the picture's own, or None when it is
    opaque. ``source`` names the picture in errors. A frame made from an array borrows that array.
    """

    rgb: Bytes
    alpha: Bytes | None
    source: str
    metadata: Metadata = Metadata()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.rgb.shape[0], self.rgb.shape[1])


@dataclass(frozen=True, eq=False)
class Slot:
    """Owns every buffer of one image in flight.

    ``tensor``: float32 [B,3,h,w], C-contiguous, the model's input. The picture is row 0; the other
    rows of a model with a fixed batch stay zero.
    """

    tensor: Floats

    @classmethod
    def create(cls, shape: tuple[int, int, int, int]) -> Slot:
        """A slot for the input ``shape`` [B,3,h,w]."""
        return cls(np.zeros(shape, np.float32))
