"""CUDA sources -> a cubin for this GPU and PTX for others.

The sources lie in the runtime room as data; this room compiles them, so that the runtime needs no
compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from . import nvcc, nvrtc
from .driver import Gpu
from .errors import KernelError, MissingError
from .manifest import KERNEL_FLAGS, kernels_digest

MAIN = "birefnet.cu"
# The oldest GPU that CUDA 13 compiles for. PTX of it runs, after the driver has compiled it, on
# every later one.
PTX_CAPABILITY = (7, 5)


class Compiler(Protocol):
    """nvcc or NVRTC of one CUDA release."""

    @property
    def name(self) -> str:
        """Such as ``nvcc 13.0``."""

    @property
    def release(self) -> tuple[int, int]:
        """(13, 0)."""

    def compile(
        self, sources: dict[str, bytes], main: str, target: str, flags: Sequence[str]
    ) -> bytes:
        """``main`` compiled for ``sm_90`` (a cubin) or ``compute_75`` (PTX); KernelError."""


@dataclass(frozen=True)
class Sources:
    """File name -> bytes of the CUDA files; ``digest`` covers them and the compilers' flags."""

    files: dict[str, bytes]

    @property
    def digest(self) -> str:
        """Hex sha256 of every name, length and content, and of the flags."""
        return kernels_digest(self.files)


def sources(folder: Path | None = None) -> Sources:
    """The kernels in ``folder``; None: those of the installed runtime, which is not imported."""
    folder = folder or _installed()
    if not (folder / MAIN).is_file():
        raise MissingError(f"{folder / MAIN} is missing: install birefnet-trt again")
    found = sorted(path for path in folder.iterdir() if path.suffix in (".cu", ".h"))
    return Sources({path.name: path.read_bytes() for path in found})


def _installed() -> Path:
    spec = find_spec("birefnet_runtime")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise MissingError("birefnet_runtime is not installed: install birefnet-trt again")
    return Path(places[0]) / "kernels"


def choose(gpu: Gpu) -> Compiler:
    """nvcc, or NVRTC where there is none, if it is not newer than the driver.

    Raises MissingError when neither is here, KernelError when what is here is too new.
    """
    finders: tuple[Callable[[], Compiler | None], ...] = (nvcc.find, nvrtc.find)
    here = [found for found in (finder() for finder in finders) if found is not None]
    if not here:
        raise MissingError(
            "neither nvcc (with a C++ compiler) nor NVRTC is here to compile the CUDA kernels: "
            "pip install cuda-bindings nvidia-cuda-nvrtc (for CUDA 12: nvidia-cuda-nvrtc-cu12), "
            "or install the CUDA toolkit and put nvcc on the PATH"
        )
    fitting = [compiler for compiler in here if compiler.release[0] <= gpu.cuda[0]]
    if not fitting:
        names = " and ".join(compiler.name for compiler in here)
        major, minor = gpu.cuda
        raise KernelError(
            f"the driver runs CUDA up to {major}.{minor}, but only {names} is here: update the "
            f"driver, or pip install 'cuda-bindings=={major}.*' nvidia-cuda-nvrtc-cu{major}"
        )
    return fitting[0]


def compile_all(compiler: Compiler, found: Sources, gpu: Gpu, key: str) -> dict[str, bytes]:
    """``KEY.cubin`` for this GPU and ``KEY.ptx`` for others, name -> bytes. Takes seconds.

    Raises KernelError with the compiler's words.
    """
    older = min(PTX_CAPABILITY, gpu.capability)
    targets = {
        f"{key}.cubin": _target("sm", gpu.capability),
        f"{key}.ptx": _target("compute", older),
    }
    return {
        name: compiler.compile(found.files, MAIN, target, KERNEL_FLAGS)
        for name, target in targets.items()
    }


def _target(kind: str, capability: tuple[int, int]) -> str:
    return f"{kind}_{capability[0]}{capability[1]}"
