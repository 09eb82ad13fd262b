"""What the command prints: each plan with its figures, and its layers on request."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from .inspection import Inspection
from .manifest import Manifest
from .progress import clock
from .proof import describe

_MEGABYTE = 1e6


def plan(manifest: Manifest, made: str) -> list[str]:
    """A plan in a few lines: what was done, how right and how fast it is, what it is made of."""
    state = {"": "up to date", "built": f"built in {clock(manifest.seconds)}"}.get(made, made)
    lines = [
        f"{manifest.key}: {state}, {manifest.plan_bytes / _MEGABYTE:.1f} MB, level "
        f"{manifest.options.get('level')}",
        f"  alpha against PyTorch fp32: {describe(manifest.parity)}",
    ]
    samples = manifest.parity.get("milliseconds")
    if isinstance(samples, list) and samples:
        lines.append(f"  engine alone: median {median(samples):.2f} ms of {len(samples)} runs")
    return lines + [f"  {line}" for line in summary(manifest.layers)]


def summary(layers: dict[str, Any]) -> Iterator[str]:
    """The summary of an inspection, as the manifest keeps it."""
    kinds, regions = layers.get("precisions", {}), layers.get("regions", 0)
    hidden = f", {regions} of them regions that are not shown from inside" if regions else ""
    yield f"{layers.get('layers', 0)} layers ({_counts(kinds)}){hidden}"
    yield (
        f"attention: {layers.get('fused_attention', 0)} fused, "
        f"{layers.get('softmax_alone', 0)} softmax alone"
    )
    samples = layers.get("grid_sample", {})
    yield f"GridSample, by input types: {_counts(samples) or 'none shown'}"
    if any("fp16" in name for name in samples):
        yield "WARNING: GridSample runs at FP16 coordinates, in spite of the graph"
    weights = layers.get("weights_bytes")
    yield (
        f"device memory: {_mb(layers.get('context_bytes'))} a context, weights "
        f"{_mb(weights) if weights is not None else 'not told, at most the file'}"
    )
    yield from (f"note: {note}" for note in layers.get("notes", []))


def layers(found: Inspection) -> Iterator[str]:
    """One line for each layer: kind, types in and out, name."""
    for item in found.layers:
        types = f"{_unique(item.inputs)} -> {_unique(item.outputs)}"
        yield f"{item.kind:<20} {types:<22} {item.name}"


def _unique(types: tuple[str, ...]) -> str:
    return "+".join(dict.fromkeys(types)) or "?"


def _counts(items: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in items.items())


def _mb(value: object) -> str:
    return f"{value / _MEGABYTE:.0f} MB" if isinstance(value, int | float) else "unknown"
