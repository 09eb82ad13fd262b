"""How far one alpha is from another: the figures of one picture, and those of all together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Distances = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEVEL = 1 / 255
# Share of the picture's diagonal that counts as boundary: Cheng et al., Boundary IoU (CVPR 2021),
# section 4, and its code.
BOUNDARY = 0.02
# float32 tells no two alphas apart that are nearer than this; keeps equal pictures out of infinity.
PSNR_LIMIT = 150.0
# Distances are counted in bins of half a doubling, so that 1/255 and 2/255 are edges; the first
# also takes what is exactly equal, the last ends above 1.
EDGES = LEVEL * 2.0 ** (np.arange(-36, 17) / 2)


@dataclass(frozen=True)
class Kind:
    """One figure: its key, what a table calls it, its unit, which way is better, its factor."""

    key: str
    label: str
    unit: str
    better: str
    scale: float = 1.0


KINDS = (
    Kind("max", "max", "1/255", "lower", 255),
    Kind("mean", "mean", "1/255", "lower", 255),
    Kind("p999", "99.9 %", "1/255", "lower", 255),
    Kind("beyond1", "> 1/255", "%", "lower", 100),
    Kind("beyond2", "> 2/255", "%", "lower", 100),
    Kind("iou", "IoU", "", "higher"),
    Kind("boundary", "boundary IoU", "", "higher"),
    Kind("psnr", "PSNR", "dB", "higher"),
    Kind("mask_max", "8-bit max", "level", "lower"),
    Kind("mask_changed", "8-bit changed", "%", "lower", 100),
)


@dataclass(frozen=True)
class Figures:
    """Of one alpha against the reference's, both float32 [h,w] in 0..1 at the model's size.

    ``max``, ``mean`` and ``p999`` of |difference| in 0..1; ``beyond1`` and ``beyond2``: shares of
    pixels further away than 1/255 and 2/255; ``iou`` and ``boundary`` of the masks at 0.5; ``psnr``
    in dB. ``mask_max`` and ``mask_changed``: levels and share of the 8-bit masks at the picture's
    own size. Where a value is not finite its pixel counts as 1 away and ``finite`` is False.
    """

    max: float
    mean: float
    p999: float
    beyond1: float
    beyond2: float
    iou: float
    boundary: float
    psnr: float
    mask_max: float = 0.0
    mask_changed: float = 0.0
    finite: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The figures by key."""
        return asdict(self)


def distances(reference: Floats, other: Floats) -> tuple[Distances, bool]:
    """|difference| in float64, and whether all of ``other`` was finite."""
    gap = np.abs(other.astype(np.float64) - reference)
    finite = bool(np.isfinite(gap).all())
    return (gap if finite else np.where(np.isfinite(gap), gap, 1.0)), finite


def compare(reference: Floats, other: Floats) -> Figures:
    """The figures of ``other`` against ``reference``."""
    gap, finite = distances(reference, other)
    masks = (reference >= 0.5, other >= 0.5)
    return Figures(
        max=float(gap.max()),
        mean=float(gap.mean()),
        p999=float(np.quantile(gap, 0.999)),
        beyond1=float((gap > LEVEL).mean()),
        beyond2=float((gap > 2 * LEVEL).mean()),
        iou=iou(*masks),
        boundary=iou(*(boundary(mask) for mask in masks)),
        psnr=psnr(float((gap**2).mean())),
        finite=finite,
    )


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 where both are empty: they agree."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def boundary(mask: Mask) -> Mask:
    """The pixels of ``mask`` no further than BOUNDARY of the diagonal from its contour.

    The picture's frame is a contour too, as in the paper's code: the outside counts as empty.
    """
    width = max(1, round(BOUNDARY * float(np.hypot(*mask.shape))))
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    rim: Mask = mask & ~inner[1:-1, 1:-1].astype(bool)
    return rim


def psnr(square: float) -> float:
    """dB of a mean squared difference of values in 0..1, at most PSNR_LIMIT."""
    return min(PSNR_LIMIT, -10 * float(np.log10(square))) if square > 0 else PSNR_LIMIT


@dataclass
class Pool:
    """All pictures of one executor together; of their pixels only counts and the largest are kept.

    ``pixels``: how many there will be, which decides how many distances the exact 99.9th percentile
    needs. ``counts``: pixels by EDGES, what is below the first edge in the first place.
    """

    pixels: int
    rows: list[Figures] = field(default_factory=list)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES), np.int64))
    largest: Distances = field(default_factory=lambda: np.zeros(0))

    def add(self, gap: Distances, row: Figures) -> None:
        """Take one picture's distances [h,w] and figures."""
        self.rows.append(row)
        places = np.searchsorted(EDGES, gap.ravel(), side="right")
        self.counts += np.bincount(np.minimum(places, len(EDGES) - 1), minlength=len(EDGES))
        keep = self.pixels // 1000 + 2
        both = np.concatenate([self.largest, gap.ravel()])
        self.largest = both if len(both) <= keep else np.partition(both, -keep)[-keep:]

    def total(self) -> Figures:
        """The figures over all pixels; IoU, PSNR and the like are means over the pictures."""

        def mean(key: str) -> float:
            return float(np.mean([getattr(row, key) for row in self.rows]))

        return Figures(
            max=max(row.max for row in self.rows),
            mean=mean("mean"),
            p999=self._p999(),
            beyond1=mean("beyond1"),
            beyond2=mean("beyond2"),
            iou=mean("iou"),
            boundary=mean("boundary"),
            psnr=mean("psnr"),
            mask_max=max(row.mask_max for row in self.rows),
            mask_changed=mean("mask_changed"),
            finite=all(row.finite for row in self.rows),
        )

    def _p999(self) -> float:
        """As ``np.quantile`` over all pixels at once: between the two values at the place."""
        ordered = np.sort(self.largest)
        place = 0.999 * (self.pixels - 1) - (self.pixels - len(ordered))
        low = int(np.floor(place))
        high = min(low + 1, len(ordered) - 1)
        return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
