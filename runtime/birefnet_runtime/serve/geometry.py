"""Where a subject goes: the picture as it was sent, the cut-out, and the canvas of the result."""

from __future__ import annotations

from dataclasses import dataclass, field

from birefnet_runtime.frame import Box
from birefnet_runtime.serve.lengths import Margins, Size


@dataclass(frozen=True)
class Sight:
    """How the pixels of a cut-out lie in the picture that was sent, and on the canvas.

    ``picture``: (H, W) as it was sent. ``region``: what of it was cut out. ``cut``: (h, w) of the
    cut-out, which differs from the region's where a large picture was scaled down. ``canvas``:
    (H, W) of the result before anything is moved or cropped.
    """

    picture: Size
    region: Box
    cut: Size
    canvas: Size

    def in_picture(self, box: Box) -> Box:
        """A box of the cut-out, in pixels of the picture that was sent."""
        return self._mapped(box, self.picture)

    def on_canvas(self, box: Box) -> Box:
        """A box of the cut-out, in pixels of the canvas."""
        return self._mapped(box, self.canvas)

    def _mapped(self, box: Box, target: Size) -> Box:
        rows = (box.top, box.top + box.height)
        columns = (box.left, box.left + box.width)
        top, bottom = (self._along(0, place, self.region.top, target) for place in rows)
        left, right = (self._along(1, place, self.region.left, target) for place in columns)
        # Where a box becomes smaller than a pixel, the pixel that it lies in.
        top, left = min(top, target[0] - 1), min(left, target[1] - 1)
        return Box(top, left, max(bottom - top, 1), max(right - left, 1))

    def _along(self, axis: int, place: int, start: int, target: Size) -> int:
        inside = place * self.region.size[axis] / self.cut[axis]
        return round((start + inside) * target[axis] / self.picture[axis])


@dataclass(frozen=True)
class Placement:
    """``part`` of a cut-out goes to ``at`` on an empty canvas of ``canvas`` (H, W), resized where
    their sizes differ."""

    part: Box
    at: Box
    canvas: Size


@dataclass(frozen=True)
class Layout:
    """What is done with the subject: ``scale``, the share of the canvas that the larger of its
    sides, each compared with the canvas's, becomes; ``position``, shares of the free space to the
    left of it and above, None where its middle stays; ``crop``, the canvas becomes the subject and
    ``margins``, and no position matters.
    """

    scale: float | None = None
    position: tuple[float, float] | None = None
    crop: bool = False
    margins: Margins = field(default_factory=Margins)

    @property
    def is_plain(self) -> bool:
        """Whether everything stays where it is."""
        return not self.crop and self.scale is None and self.position is None

    def place(self, sight: Sight, subject: Box | None) -> Placement:
        """Where the ``subject``, a box of the cut-out, goes; the whole cut-out without one."""
        whole = Box(0, 0, *sight.cut)
        if subject is None or self.is_plain:
            return Placement(whole, sight.on_canvas(whole), sight.canvas)
        before = sight.on_canvas(subject)
        size = self._scaled(before.size, sight.canvas)
        if self.crop:
            return Placement(subject, *self.margins.around(size))
        corner = self._corner(before, size, sight.canvas)
        return Placement(subject, Box(*corner, *size), sight.canvas)

    def _scaled(self, size: Size, canvas: Size) -> Size:
        if self.scale is None:
            return size
        factor = self.scale * min(canvas[0] / size[0], canvas[1] / size[1])
        height, width = (max(1, round(side * factor)) for side in size)
        return (min(height, canvas[0]), min(width, canvas[1]))

    def _corner(self, before: Box, size: Size, canvas: Size) -> Size:
        """(top, left)."""
        free = (canvas[0] - size[0], canvas[1] - size[1])
        if self.position is not None:
            return (round(free[0] * self.position[1]), round(free[1] * self.position[0]))
        top = round(before.top + (before.height - size[0]) / 2)
        left = round(before.left + (before.width - size[1]) / 2)
        return (min(max(top, 0), free[0]), min(max(left, 0), free[1]))
