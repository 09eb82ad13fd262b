"""The engine room's exceptions.

BirefnetError                 root, from the contract
├── ContractError             a contract is missing, unreadable or contradicts its files
├── ManifestError             a manifest or a file that it vouches for cannot be trusted
└── EngineError               anything that stops a build
    ├── MissingError          the driver, TensorRT, a compiler or an exported graph is not there
    ├── BusyError             somebody else builds in the same folder
    ├── ParseError            TensorRT does not take the ONNX file
    ├── BuildError            TensorRT makes no plan of it
    ├── KernelError           the CUDA kernels do not compile
    └── ProofError            the plan gives another alpha than PyTorch; it is gone

Every text says what to do.
"""

from __future__ import annotations

from birefnet_export.contract import BirefnetError, ContractError

from .manifest import ManifestError

__all__ = [
    "BirefnetError",
    "BuildError",
    "BusyError",
    "ContractError",
    "EngineError",
    "KernelError",
    "ManifestError",
    "MissingError",
    "ParseError",
    "ProofError",
    "one_line",
]


class EngineError(BirefnetError):
    """A build that cannot go on; nothing has been written under the wanted name."""


class MissingError(EngineError):
    """Something that a build needs is not on this machine or not in the model folder."""


class BusyError(EngineError):
    """Another process builds in the same model folder."""


class ParseError(EngineError):
    """TensorRT does not take the ONNX file; the text names the nodes."""


class BuildError(EngineError):
    """TensorRT makes no plan of a network that it has parsed."""


class KernelError(EngineError):
    """The CUDA kernels do not compile, or not for this driver."""


class ProofError(EngineError):
    """A plan does not give the reference's alpha; it has been deleted."""


def one_line(text: object) -> str:
    """``text`` on one line."""
    return " ".join(str(text).split())
