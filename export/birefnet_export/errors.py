"""The export room's exceptions.

BirefnetError                 root, from contract.py
├── ContractError
└── ExportError               anything that stops an export
    ├── CheckpointError       weights that are missing, unreadable, foreign or incomplete
    ├── SizeError             an input size that the network cannot take
    └── ParityError           ONNX Runtime and PyTorch disagree beyond the gate
"""

from __future__ import annotations

from .contract import BirefnetError, ContractError

__all__ = [
    "BirefnetError",
    "CheckpointError",
    "ContractError",
    "ExportError",
    "ParityError",
    "SizeError",
]


class ExportError(BirefnetError):
    """An export that cannot go on; nothing has been written under the wanted name."""


class CheckpointError(ExportError):
    """Weights that are missing, unreadable, of another network, or incomplete."""


class SizeError(ExportError, ValueError):
    """An input size that the network cannot take: height and width must be multiples of 32."""


class ParityError(ExportError):
    """ONNX Runtime and PyTorch disagree beyond the gate; the files carry a ``.rejected`` name."""
