"""Figures of records as small PNG files; the one file that imports matplotlib."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from birefnet_export.contract import write_atomically
from birefnet_runtime.errors import OptionError
from measuring import tables
from measuring.reading import Reading

# The PNG chunk that says which records a figure was drawn from.
SOURCE = "Source"
# Larger than this a figure is no decoration any more but weight in every clone.
LARGEST = 60_000
DOTS = 110
COLOURS = ("#4e79a7", "#76b7b2", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f")


def source_of(paths: list[Path]) -> str:
    """Names and digests of records."""
    return " ".join(
        f"{path.name}={hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in paths
    )


def drawn_from(target: Path) -> str | None:
    """What ``source_of`` gave when the figure was drawn; None where there is none."""
    if not target.is_file():
        return None
    with Image.open(target) as image:
        image.load()
        return image.info.get(SOURCE)


def stages(readings: list[Reading], target: Path, source: str) -> None:
    """A bar a contestant and size, its steps stacked, in products; size by size."""
    reading = readings[0]
    parts = tables.picture_parts(reading)
    pyplot = _pyplot()
    rows = max(len(reading.names(part)) for part in parts)
    shape = (8.5, 0.5 + 0.42 * rows)
    figure, axes = pyplot.subplots(1, len(parts), figsize=shape, sharey=True, squeeze=False)
    steps = tables.ordered(
        list(
            dict.fromkeys(
                step
                for part in parts
                for name in reading.names(part)
                for step in reading.steps(part, name)
            )
        )
    )
    for axis, part in zip(axes[0], parts, strict=True):
        _bars(axis, reading, part, steps)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.supxlabel("multiples of a 2048 x 2048 float32 product, median", fontsize=9, y=0.12)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    _write(figure, target, source)
    pyplot.close(figure)


def _bars(axis: Any, reading: Reading, part: str, steps: list[str]) -> None:
    names = reading.names(part)
    left = [0.0] * len(names)
    for step, colour in zip(steps, COLOURS, strict=False):
        values = [
            reading.in_yardsticks(part, name, step).value
            if step in reading.steps(part, name)
            else 0.0
            for name in names
        ]
        axis.barh(names, values, left=left, color=colour, label=step, height=0.7)
        left = [before + value for before, value in zip(left, values, strict=True)]
    axis.invert_yaxis()
    axis.set_title(part, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)


def _pyplot() -> Any:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise OptionError("figures need matplotlib: pip install matplotlib") from error
    return pyplot


def _write(figure: Any, target: Path, source: str) -> None:
    """The figure with few colours, whole or not at all; OptionError where it is too large."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS)
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text(SOURCE, source)
    small = io.BytesIO()
    with Image.open(stream) as image:
        few = image.convert("RGB").quantize(64)
        few.save(small, "PNG", optimize=True, pnginfo=told)
    data = small.getvalue()
    if len(data) > LARGEST:
        raise OptionError(f"{target.name} has {len(data)} bytes, more than {LARGEST}: draw less")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, data)


DRAWERS: Mapping[str, Callable[[list[Reading], Path, str], None]] = {"bench-stages": stages}
