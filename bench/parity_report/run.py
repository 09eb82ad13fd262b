"""All executors over all pictures: figures kept, pictures not, but for the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime import refine
from birefnet_runtime.errors import one_line
from birefnet_runtime.frame import Bytes, Floats
from birefnet_runtime.preprocess import resize

from . import truth
from .errors import Unavailable
from .executor import Executor
from .figures import Figures, Pool, compare, distances
from .inputs import Item

# Pictures in memory at a time, with one alpha per executor each.
CHUNK = 8


@dataclass(frozen=True, eq=False)
class Case:
    """One picture as one executor answered it: uint8 [h,w,3] and float32 [h,w]."""

    name: str
    executor: str
    figures: Figures
    picture: Bytes
    reference: Floats
    alpha: Floats

    @property
    def badness(self) -> tuple[bool, float, float]:
        """Orders cases, the worst the largest."""
        return (not self.figures.finite, self.figures.p999, self.figures.max)


@dataclass
class Outcome:
    """What one executor did. ``rows``: the row check's largest distance, or why there is none.

    ``truths``: figures against hand-made alphas by key, one per picture that has one.
    """

    name: str
    detail: str
    precision: str
    pool: Pool
    rows: float | str = "not tried"
    worst: list[Case] = field(default_factory=list)
    truths: dict[str, list[float]] = field(default_factory=dict)

    @property
    def total(self) -> Figures:
        """The figures over all pictures."""
        return self.pool.total()


@dataclass
class Comparison:
    """Every executor's outcome; the first is the reference. ``same``: largest distance of the
    captured graph from the same plan queued anew, where both ran.
    """

    names: list[str]
    outcomes: list[Outcome]
    first: Bytes
    same: float | None = None

    @property
    def probed(self) -> list[str]:
        """The executors that the stages are asked of: all but the reference."""
        return [outcome.name for outcome in self.outcomes[1:]]


def run(
    contract: Contract,
    executors: list[Executor],
    items: list[Item],
    batch: int,
    keep: int,
    say: Callable[[str], None],
) -> Comparison:
    """Compare; ``keep`` worst cases per executor. ``say`` hears of every picture."""
    pixels = len(items) * contract.height * contract.width
    outcomes = [Outcome(one.name, one.detail, one.precision, Pool(pixels)) for one in executors]
    size, first, same = (contract.width, contract.height), None, None
    for start, part in _chunks(items):
        frames = [item.rgb() for item in part]
        pictures = np.stack([resize(frame, size) for frame in frames])
        alphas = [one.alphas(pictures) for one in executors]
        if first is None:
            first = pictures[0]
            _check_rows(executors, outcomes, pictures[:batch], alphas, batch)
        same = _larger(same, _replayed(executors, alphas))
        for place, item in enumerate(part):
            say(f"{start + place + 1}/{len(items)} {item.name}")
            answers = [alpha[place] for alpha in alphas]
            _take(outcomes, item, frames[place], pictures[place], answers, keep)
    assert first is not None
    return Comparison([item.name for item in items], outcomes, first, same)


def _chunks(items: list[Item]) -> Iterator[tuple[int, list[Item]]]:
    for start in range(0, len(items), CHUNK):
        yield start, items[start : start + CHUNK]


def _take(
    outcomes: list[Outcome],
    item: Item,
    frame: Bytes,
    picture: Bytes,
    answers: list[Floats],
    keep: int,
) -> None:
    """One picture's answers into the outcomes."""
    size = (frame.shape[0], frame.shape[1])
    masks = [_mask(alpha, size) for alpha in answers]
    true = item.true_alpha(size)
    for outcome, alpha, mask in zip(outcomes, answers, masks, strict=True):
        levels = np.abs(mask.astype(np.int16) - masks[0])
        figures = replace(
            compare(answers[0], alpha),
            mask_max=float(levels.max()),
            mask_changed=float((levels > 0).mean()),
        )
        outcome.pool.add(distances(answers[0], alpha)[0], figures)
        case = Case(item.name, outcome.name, figures, picture, answers[0], alpha)
        outcome.worst = sorted([*outcome.worst, case], key=lambda one: one.badness, reverse=True)
        del outcome.worst[keep:]
        if true is not None:
            full = refine.resize(np.nan_to_num(alpha), size)
            for key, value in truth.measure(full, true).items():
                outcome.truths.setdefault(key, []).append(value)


def _mask(alpha: Floats, size: tuple[int, int]) -> Bytes:
    """The 8-bit mask at the picture's own size; what is not finite counts as background."""
    return refine.to_alpha(np.nan_to_num(alpha), size)


def _check_rows(
    executors: list[Executor],
    outcomes: list[Outcome],
    pictures: Bytes,
    alphas: list[Floats],
    batch: int,
) -> None:
    """Each picture alone against the same picture as a row of a batch."""
    for one, outcome, alone in zip(executors, outcomes, alphas, strict=True):
        try:
            together = one.rows(pictures, batch)
        except Unavailable as error:
            outcome.rows = one_line(error)
            continue
        gap, finite = distances(alone[: len(pictures)], together)
        outcome.rows = float(gap.max()) if finite else 1.0


def _replayed(executors: list[Executor], alphas: list[Floats]) -> float | None:
    found = {one.name: alpha for one, alpha in zip(executors, alphas, strict=True)}
    if not {"tensorrt", "tensorrt-eager"} <= set(found):
        return None
    return float(distances(found["tensorrt"], found["tensorrt-eager"])[0].max())


def _larger(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)
