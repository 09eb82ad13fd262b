"""The nano checkpoint: float16 safetensors beside this file, 3 MB."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from birefnet_export import checkpoint
from birefnet_export.network import BiRefNet

from .config import METADATA

FILE = Path(__file__).parent / "nano.safetensors"


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float tensors of ``state`` as float16; loading recomputes the integer buffers."""
    return {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}


def save(state: dict[str, Tensor], file: Path) -> None:
    """Writes ``state`` in float16 with the metadata that the export reads. Atomic."""
    part = file.with_suffix(".part")
    save_file(rounded(state), str(part), METADATA)
    part.replace(file)


def load(file: Path = FILE) -> BiRefNet:
    """The nano network in eval mode with the float16 weights of ``file`` as float32. Strict."""
    return checkpoint.load(str(file)).network
