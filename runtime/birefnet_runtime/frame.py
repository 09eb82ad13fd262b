"""The nouns that every step shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Words = NDArray[np.uint16]


@dataclass(frozen=True)
class Metadata:
    """What a result takes over from its picture.

    ``icc``: an RGB colour profile, or None. ``dpi``: (horizontal, vertical), or None. ``exif``: an
    EXIF block, from its TIFF header on, with nothing in it that must not be kept; or None.
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture, upright.

    ``rgb``: uint8 [H,W,3], RGB. ``alpha``: uint8 [H,W], the picture's own, or None when it is
    opaque. ``source`` names the picture in errors. A frame made from an array borrows that array.
    ``wide``: uint16 [H,W,3], the same colours in 0..65535, where 16 bits were asked for and the
    picture has them; ``rgb`` is it divided by 257 and rounded.
    """

    rgb: Bytes
    alpha: Bytes | None
    source: str
    metadata: Metadata = Metadata()
    wide: Words | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.rgb.shape[0], self.rgb.shape[1])


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels: rows ``top`` to ``top + height - 1``, columns likewise."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.height, self.width)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, as an array takes them."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class View:
    """Which part of a picture one run sees, and where it lies in the model's input.

    ``box``: inside the picture. ``inner``: inside the tensor; around it the tensor is 0, the mean
    colour.
    """

    box: Box
    inner: Box


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


@dataclass(frozen=True, eq=False)
class Rendered:
    """What came out for one picture, at its own resolution.

    ``foreground``: uint8 [H,W,3]. ``alpha``: uint8 [H,W]. ``image``: what the options ask for where
    the device made it, uint8 [H,W,4] or [H,W,3], else None; ``alpha`` may be a view of it.
    ``seconds``: per step, where the device measured it.
    """

    foreground: Bytes
    alpha: Bytes
    image: Bytes | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
