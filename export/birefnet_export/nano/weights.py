"""The nano checkpoint: float16 safetensors beside this file, 5 MB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from birefnet_export import checkpoint
from birefnet_export.network import BiRefNet

from .config import METADATA

FILE = Path(__file__).parent / "nano.safetensors"
# Convolutions and the batch norms that follow them, by the ends of their names.
PAIRS = {
    "conv_in": "bn_in", "conv_out": "bn_out", "conv1": "bn1",
    "atrous_conv.regular_conv": "bn", "global_avg_pool.1": "global_avg_pool.2",
    **{f"gdt_convs_{level}.0": f"gdt_convs_{level}.1" for level in (4, 3, 2)},
}  # fmt: skip
LARGEST_VARIANCE = 1024.0  # of a normalised channel; float16 ends at 65504


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float tensors of ``state`` as float16; loading recomputes the integer buffers."""
    return {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}


def calmed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the channels before batch norms scaled down by powers of two where loud.

    A batch norm takes any scale out again, so nothing holds it while training; a variance of
    ``LARGEST_VARIANCE`` or less keeps float16 finite. The result differs only by the norm's eps.
    """
    result = dict(state)
    for key in state:
        name = key.removesuffix(".weight")
        for end, norm in PAIRS.items():
            base = name.removesuffix(end) + norm
            if name.endswith("." + end) and f"{base}.running_var" in state:
                calm(result, name, base)
    return result


def calm(state: dict[str, Tensor], conv: str, norm: str) -> None:
    """Scales the channels of ``conv`` and the statistics of ``norm`` in ``state``, in place."""
    excess = (state[f"{norm}.running_var"] / LARGEST_VARIANCE).clamp(min=1).sqrt()
    scale = torch.exp2(-excess.log2().ceil())
    weight = state[f"{conv}.weight"]
    state[f"{conv}.weight"] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    if f"{conv}.bias" in state:
        state[f"{conv}.bias"] = state[f"{conv}.bias"] * scale
    state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] * scale
    state[f"{norm}.running_var"] = state[f"{norm}.running_var"] * scale**2


def mean(
    before: dict[str, Tensor], end: dict[str, Tensor], shares: Mapping[str, float]
) -> dict[str, Tensor]:
    """The mean of the float tensors of two states, statistics as well; others are those of ``end``.

    ``shares`` are of ``end``, by ``part``. A mean of weights along a run keeps most of what the
    last ones learned and of what the first could do on other pictures (Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models"), and not every part of a network takes as much of it.
    """
    return {
        key: torch.lerp(before[key], value, shares[part(key)])
        if value.is_floating_point()
        else value
        for key, value in end.items()
    }


def part(key: str) -> str:
    """Which of "backbone", "squeeze", "level 4" to "level 1" has the entry ``key``.

    A level of the decoder is a block with the convolutions from which it alone gets something, or
    which alone get something from it; the last is the output with its own.
    """
    top, name = key.split(".")[:2]
    if top != "decoder":
        return {"bb": "backbone", "squeeze_module": "squeeze"}[top]
    level = int(re.sub(r"\D", "", name))
    # Patches of the image are joined to what the block above, one number more, has made.
    return f"level {max(level - name.startswith('ipt_blk'), 1)}"


def sharper(state: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """``state`` with logits that are ``factor`` times as large: the same outline, less doubt."""
    last = ("decoder.conv_out1.0.weight", "decoder.conv_out1.0.bias")
    return {key: value * factor if key in last else value for key, value in state.items()}


def save(state: dict[str, Tensor], file: Path) -> None:
    """Writes ``state`` in float16 with the metadata that the export reads. Atomic."""
    stored = rounded(calmed(state))
    assert all(tensor.isfinite().all() for tensor in stored.values())
    part = file.with_suffix(".part")
    save_file(stored, str(part), METADATA)
    part.replace(file)


def load(file: Path = FILE) -> BiRefNet:
    """The nano network in eval mode with the float16 weights of ``file`` as float32. Strict."""
    return checkpoint.load(str(file)).network
