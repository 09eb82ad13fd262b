"""The result: a picture cut out, at its own resolution."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet_runtime import background, encode, refine
from birefnet_runtime.errors import OptionError
from birefnet_runtime.frame import Box, Bytes, Metadata, Words
from birefnet_runtime.options import Options, parse_margin
from birefnet_runtime.picture import to_eight_bits
from birefnet_runtime.score import Score, score

Pixels = Bytes | Words

# Alpha below a tenth is not seen on a background; a crop may cut it off.
_SEEN = 26
# What of a cut-out can be asked for again without the model.
_AGAIN = frozenset({"output", "background", "crop", "margin", "clear", "quality"})
# Rows of 16-bit colours made at a time.
_STRIP = 64


@dataclass(frozen=True, eq=False)
class Cutout:
    """One picture cut out, H x W as the picture is upright.

    ``foreground``: uint8 [H,W,3], RGB: the subject's own colours where alpha is soft, found as the
    options say, and the picture's elsewhere. ``alpha``: uint8 [H,W], 0 is background. Alpha is
    straight: colours are not multiplied by it. ``timings``: seconds per step, by name (decode,
    preprocess, model, refine). ``edge``: how the outline was found. The arrays belong to the
    cut-out, except that the foreground of an array source may be that array.

    ``rendered`` is ``image`` before it is cropped, where a GPU made it; ``alpha`` is then a view of
    it when it is RGBA. Both lie in page-locked memory, which goes back to a pool with the last
    array on it. ``wide``: uint16 [H,W,3], the picture's colours, and ``wide_alpha``: uint16 [H,W],
    where 16 bits are kept.
    """

    foreground: Bytes
    alpha: Bytes
    source: str = "<array>"
    options: Options = field(default_factory=Options)
    metadata: Metadata = field(default_factory=Metadata)
    timings: Mapping[str, float] = field(default_factory=dict)
    rendered: Bytes | None = None
    edge: str = "single"
    wide: Words | None = None
    wide_alpha: Words | None = None

    @cached_property
    def score(self) -> Score:
        """How much is foreground, how sure that is, and whether there is a subject at all."""
        return score(self.alpha)

    @cached_property
    def box(self) -> Box | None:
        """Where the subject is, round all alpha of a tenth or more; None where none was found."""
        if not self.score.found:
            return None
        rows, columns = (
            np.flatnonzero(self.alpha.max(axis=axis) >= _SEEN).tolist() for axis in (1, 0)
        )
        return Box(rows[0], columns[0], rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0])

    @property
    def area(self) -> Box:
        """What ``image`` shows: all, or with ``crop`` the subject's box and the margin, within the
        picture; all where nothing was found."""
        height, width = self.alpha.shape
        box = self.box if self.options.crop else None
        if box is None:
            return Box(0, 0, height, width)
        margin, percent = parse_margin(self.options.margin)
        more = round(margin * max(box.size) / 100 if percent else margin)
        top, left = max(box.top - more, 0), max(box.left - more, 0)
        bottom = min(box.top + box.height + more, height)
        return Box(top, left, bottom - top, min(box.left + box.width + more, width) - left)

    @cached_property
    def rgba(self) -> Bytes:
        """uint8 [H,W,4], straight; without ``clear`` the picture's colours stay where alpha is 0,
        else they are 0 there and no background stays in a file."""
        made, asked = self.rendered, self.options
        if made is not None and asked.output == "rgba" and made.shape[2:] == (4,):
            return made
        rgba: Bytes = _straight(self.foreground, self.alpha, asked.clear).astype(
            np.uint8, copy=False
        )
        return rgba

    @property
    def image(self) -> Pixels:
        """What ``save`` writes: by the options [h,w,4], [h,w,3] or [h,w] of the ``area``, uint8, or
        uint16 where 16 bits are kept. InputError for a background picture that cannot be read."""
        options, part = self.options, self.area.slices
        deep = self.wide is not None and self.wide_alpha is not None
        alpha: Pixels = self.alpha[part]
        if deep and self.wide_alpha is not None:
            alpha = self.wide_alpha[part]
        if options.output == "alpha":
            return alpha
        if self.rendered is not None and not deep:
            return self.rendered[part]
        if options.transparent and options.output == "rgba" and not (deep or options.crop):
            return self.rgba
        colours = self._deep_colours(part) if deep else self.foreground[part]
        if options.output == "foreground":
            return colours
        if options.background is not None:
            return refine.compose(colours, alpha, self._behind(part, deep))
        if options.output == "premultiplied":
            return _with_alpha(refine.compose(colours, alpha, (0, 0, 0)), alpha)
        return _straight(colours, alpha, options.clear)

    def _behind(self, part: tuple[slice, slice], deep: bool) -> tuple[int, int, int] | Pixels:
        """The background of ``part``. One that is the whole picture's is cropped like it."""
        found = background.behind(self.options, self.foreground, self.alpha, part)
        if not deep:
            return found
        if isinstance(found, tuple):
            red, green, blue = (257 * level for level in found)
            return (red, green, blue)
        return found * np.uint16(257)

    def _deep_colours(self, part: tuple[slice, slice]) -> Words:
        """uint16 [h,w,3]: the picture's colours, changed by as much as they were in 8 bits."""
        assert self.wide is not None
        wide, found = self.wide[part], self.foreground[part]
        result = np.empty(wide.shape, np.uint16)
        for top in range(0, len(wide), _STRIP):
            rows = slice(top, top + _STRIP)
            change = found[rows].astype(np.int32) - to_eight_bits(wide[rows])
            result[rows] = np.clip(wide[rows] + 257 * change, 0, 65535)
        return result

    def again(self, **changes: object) -> Cutout:
        """The same cut-out with other options of how it is shown, which costs no run of the model.

        ``output``, ``background``, ``crop``, ``margin``, ``clear`` and ``quality`` may change;
        OptionError for others, and for colours of a cut-out that was made as a mask alone.
        """
        if not changes.keys() <= _AGAIN:
            others = ", ".join(sorted(changes.keys() - _AGAIN))
            raise OptionError(f"{others} cannot change afterwards: cut the picture out again")
        options = replace(self.options, **changes)  # type: ignore[arg-type]
        if self.options.output == "alpha" and options.output != "alpha":
            raise OptionError("a mask alone has no colours: cut the picture out again")
        return replace(self, options=options, rendered=None)

    def encode(self, suffix: str = ".png") -> bytes:
        """File bytes of ``image`` in the format of ``suffix``, as ``encode.encode`` writes it.

        Raises OutputError where the format cannot hold it, a cut-out in JPEG for one.
        """
        options = self.options
        return encode.encode(
            self.image, suffix, self.metadata, quality=options.quality, clear=options.clear
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``image`` to ``path`` in its suffix's format, whole or not at all; OutputError."""
        encode.write(path, self.encode(Path(path).suffix))


def _straight(colours: NDArray[Any], alpha: NDArray[Any], clear: bool) -> NDArray[Any]:
    """[h,w,4]: ``colours`` [h,w,3] beside ``alpha`` [h,w]; with ``clear`` 0 where that is 0."""
    if clear:
        mask = alpha if alpha.dtype == np.uint8 else (alpha != 0).view(np.uint8)
        colours = np.asarray(cv2.bitwise_and(colours, colours, mask=mask), colours.dtype)
    return _with_alpha(colours, alpha)


def _with_alpha(colours: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """[h,w,4], a new array."""
    pixels = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA), colours.dtype)
    pixels[..., 3] = alpha
    return pixels
