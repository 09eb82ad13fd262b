"""A folder of ready scenes on disk: two cores do both, so scenes are made once."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .raster import Bytes
from .scenes import scene, stacked
from .sources import Sources

CHUNK = 50


@dataclass(frozen=True)
class Recipe:
    """What a pool holds: scenes ``seed`` .. ``seed + count - 1`` at ``size`` pixels.

    Of a scene either the shot and its alpha (4 channels), or its ``layers`` (8: see
    ``scenes.stacked``). ``kinds`` of scenes follow each other in turn; none leaves it to chance.
    A change of the code that makes other scenes of a recipe raises ``edition``, so that scenes
    which lie on disk from before are made anew.
    """

    seed: int
    count: int
    size: int
    layers: bool = False
    kinds: tuple[str, ...] = ()
    edition: int = 2

    @property
    def channels(self) -> int:
        """Bytes of a pixel."""
        return 8 if self.layers else 4

    def kind(self, index: int) -> str:
        """The kind of scene number ``index``, empty where chance decides."""
        return self.kinds[index % len(self.kinds)] if self.kinds else ""

    def make(self, index: int, sources: Sources) -> Bytes:
        """Scene number ``index``, uint8 [S,S,C]."""
        if self.layers:
            return stacked(self.seed + index, sources, self.size, self.kind(index))
        made = scene(self.seed + index, sources, self.size, self.kind(index))
        return np.dstack([made.shot, made.alpha])


def pool(
    folder: Path, name: str, recipe: Recipe, load: Callable[[], Sources], workers: int = 2
) -> Bytes:
    """uint8 [N,S,S,C] of ``recipe``, mapped read-only from ``folder``/``name``.npy, or made.

    ``load`` is called only when scenes must be made: none there, another recipe, or half made.
    """
    return once(folder, name, recipe, lambda file: fill(file, recipe, load(), workers))


def reduced(folder: Path, name: str, recipe: Recipe, large: Bytes, size: int) -> Bytes:
    """The layers ``large`` of ``recipe`` at ``size``, mapped or made as those of ``pool`` are.

    A batch of small pictures from small layers reads a fraction of the memory.
    """
    small = replace(recipe, size=size)
    return once(folder, name, small, lambda file: shrink(file, small, large))


def once(folder: Path, name: str, recipe: Recipe, make: Callable[[Path], None]) -> Bytes:
    """``folder``/``name``.npy, mapped read-only; ``make`` writes it unless it is of ``recipe``."""
    file, mark = folder / f"{name}.npy", folder / f"{name}.json"
    wanted = json.loads(json.dumps(asdict(recipe)))
    if not (mark.exists() and json.loads(mark.read_text()) == wanted):
        mark.unlink(missing_ok=True)
        make(file)
        mark.write_text(json.dumps(wanted))
    mapped: Bytes = np.load(file, mmap_mode="r")
    return mapped


def shrink(file: Path, recipe: Recipe, large: Bytes) -> None:
    """Writes ``large``, averaged down to what ``recipe`` asks for, to ``file``."""
    size, target = (recipe.size, recipe.size), blank(file, recipe)
    for index, picture in enumerate(large):
        # OpenCV resizes four channels at a time.
        halves = np.split(picture, 2, axis=2)
        target[index] = np.dstack(
            [cv2.resize(h, size, interpolation=cv2.INTER_AREA) for h in halves]
        )
    target.flush()


def blank(file: Path, recipe: Recipe) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new ``file`` that is as large as ``recipe`` says, mapped for writing."""
    shape = (recipe.count, recipe.size, recipe.size, recipe.channels)
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)


def fill(file: Path, recipe: Recipe, sources: Sources, workers: int) -> None:
    """Writes the scenes of ``recipe`` to ``file`` ; ``workers`` 1 means this process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    blank(file, recipe).flush()
    starts = range(0, recipe.count, CHUNK)
    job = (file, recipe, sources)
    if workers == 1:
        _begin(*job)
        report(file.stem, map(_chunk, starts), len(starts))
        return
    # fork, so that a gigabyte of decoded sources is shared and not sent to each worker.
    with multiprocessing.get_context("fork").Pool(workers, _begin, job) as processes:
        report(file.stem, processes.imap_unordered(_chunk, starts), len(starts))


def report(name: str, chunks: Iterable[None], count: int) -> None:
    """Waits for ``count`` chunks and prints how many are done and how long the rest will take."""
    began = time.monotonic()
    for done, _ in enumerate(chunks, 1):
        left = (time.monotonic() - began) / done * (count - done)
        print(f"\r{name}: {done * CHUNK} scenes, {left:.0f} s left ", end="", flush=True)
    print()


_job: tuple[Path, Recipe, Sources]


def _begin(file: Path, recipe: Recipe, sources: Sources) -> None:
    """Gives a worker process its job."""
    global _job
    cv2.setNumThreads(1)
    _job = (file, recipe, sources)


def _chunk(start: int) -> None:
    """Makes ``CHUNK`` scenes from ``start`` on."""
    file, recipe, sources = _job
    target = np.load(file, mmap_mode="r+")
    for index in range(start, min(start + CHUNK, recipe.count)):
        target[index] = recipe.make(index, sources)
    target.flush()
