"""How good a network is on scenes it has not seen: overlap, error, measures of structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .batches import tensors
from .raster import Bytes

Mask = NDArray[np.bool_]

STEP = 4
# Share of the picture's diagonal that is boundary: Cheng et al. 2021, "Boundary IoU", section 4.
BOUNDARY = 0.02


@dataclass(frozen=True)
class Measured:
    """One scene. ``iou`` of alpha > 0.5, None without an object; ``mae`` and ``mean`` of alpha.

    ``boundary`` is the IoU of the two masks' rims, None without an object.
    """

    kind: str
    iou: float | None
    mae: float
    mean: float
    boundary: float | None


@dataclass(frozen=True)
class Score:
    """Means over ``scenes``; ``iou`` over the ``objects`` with one, ``empty`` is alpha's elsewhere.

    ``boundary`` is the IoU of the rims (Cheng et al. 2021), over scenes with an object.
    ``s_measure`` (Fan et al. 2017) and ``weighted_f`` (Margolin et al. 2014) are pysodmetrics',
    over scenes with an object, and None where it is not installed.
    """

    iou: float
    mae: float
    empty: float
    scenes: int
    objects: int
    s_measure: float | None = None
    weighted_f: float | None = None
    boundary: float = 0.0


class Fitted(nn.Module):
    """``network`` at ``size`` pixels on pictures of any: [B,3,H,W] to logits [B,1,H,W].

    Pictures are resized on the way in and logits on the way out, both bilinear.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(fitted(image, (self.size, self.size)))
        return fitted(logits, image.shape[2:])


def fitted(x: Tensor, size: Sequence[int]) -> Tensor:
    """[B,C,H,W] at ``size``, averaged where that is less: "bilinear-antialias" of the contract."""
    return F.interpolate(x, list(size), mode="bilinear", align_corners=False, antialias=True)


def score(network: nn.Module, pool: Bytes, size: int | None = None) -> Score:
    """Scores ``network`` (eval mode, float32) on RGBA scenes uint8 [N,S,S,4], resized to ``size``.

    Without ``size`` at their own, and with the measures of structure.
    """
    found, structure = [], Structure()
    for guess, truth in answers(network, pool, size):
        found.append(measure(guess, truth))
        if size is None:
            structure.add(guess, truth)
    return summary(found, structure)


def by_kind(network: nn.Module, pool: Bytes, kinds: Sequence[str]) -> dict[str, Score]:
    """``score`` of all scenes (under "all") and of each kind; ``kinds`` names every scene's."""
    found, structures = [], {kind: Structure() for kind in ("all", *kinds)}
    for (guess, truth), kind in zip(answers(network, pool, None), kinds, strict=True):
        found.append(measure(guess, truth, kind))
        structures["all"].add(guess, truth)
        structures[kind].add(guess, truth)
    groups = {kind: [m for m in found if kind in ("all", m.kind)] for kind in structures}
    return {kind: summary(group, structures[kind]) for kind, group in groups.items()}


@torch.no_grad()
def answers(
    network: nn.Module, pool: Bytes, size: int | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """(alpha of ``network``, true alpha), float32 [S,S] in 0..1, of every scene."""
    for start in range(0, len(pool), STEP):
        part = [resized(scene, size) for scene in pool[start : start + STEP]]
        images, alpha = tensors(np.stack(part))
        guess = torch.sigmoid(network(images))
        yield from zip(guess[:, 0].numpy(), alpha[:, 0].numpy(), strict=True)


def resized(scene: Bytes, size: int | None) -> Bytes:
    """``scene`` at ``size`` pixels, area averaged."""
    if size is None or size == scene.shape[0]:
        return scene
    return np.asarray(cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def measure(guess: NDArray[np.float32], truth: NDArray[np.float32], kind: str = "") -> Measured:
    """The figures of one scene."""
    hard, solid = guess > 0.5, truth > 0.5
    error, level = float(np.abs(guess - truth).mean()), float(guess.mean())
    if not solid.any():
        return Measured(kind, None, error, level, None)
    return Measured(kind, overlap(hard, solid), error, level, overlap(rim(hard), rim(solid)))


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks that are not both empty."""
    return float((one & other).sum() / (one | other).sum())


def rim(mask: Mask) -> Mask:
    """The pixels of ``mask`` within ``BOUNDARY`` of the diagonal from its contour.

    The picture's frame is a contour too, as in the paper's code.
    """
    reach = max(1, round(BOUNDARY * float(np.hypot(*mask.shape))))
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=reach)[1:-1, 1:-1]
    return np.asarray(mask & (inner == 0))


def summary(found: list[Measured], structure: Structure) -> Score:
    """The means of what was ``found``."""
    overlaps = [m.iou for m in found if m.iou is not None]
    empty = [m.mean for m in found if m.iou is None]
    iou, mae = mean(overlaps), mean([m.mae for m in found])
    edges = mean([m.boundary for m in found if m.boundary is not None])
    return Score(iou, mae, mean(empty), len(found), len(overlaps), *structure.means(), edges)


def mean(values: list[float]) -> float:
    """The mean, 0 of nothing."""
    return sum(values) / max(len(values), 1)


class Structure:
    """Collects pysodmetrics' S-measure and weighted F; does nothing where it is missing."""

    def __init__(self) -> None:
        try:
            import py_sod_metrics
        except ModuleNotFoundError:
            self.measures: list[Any] = []
        else:
            self.measures = [py_sod_metrics.Smeasure(), py_sod_metrics.WeightedFmeasure()]
        self.count = 0

    def add(self, guess: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Takes one scene into account, if it has an object."""
        if not (truth > 0.5).any():
            return
        self.count += 1
        for metric in self.measures:
            metric.step(pred=levels(guess), gt=levels((truth > 0.5).astype(np.float32)))

    def means(self) -> tuple[float | None, float | None]:
        """(S-measure, weighted F)."""
        if not self.measures or not self.count:
            return None, None
        both = [metric.get_results() for metric in self.measures]
        return float(both[0]["sm"]), float(both[1]["wfm"])


def levels(plane: NDArray[np.float32]) -> Bytes:
    """0..1 as the bytes that pysodmetrics takes."""
    return np.rint(plane * 255).astype(np.uint8)


def rounded(score: Score) -> dict[str, float | None]:
    """``score`` as JSON holds it: five digits."""
    return {k: v if v is None else round(v, 5) for k, v in asdict(score).items()}
