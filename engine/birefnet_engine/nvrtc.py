"""NVRTC, CUDA's compiler as a library; the one file that imports ``cuda.bindings``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .errors import KernelError, one_line

# Characters of a compiler's complaint that a message can hold.
_SHOWN = 500


@dataclass(frozen=True)
class Nvrtc:
    """The library behind the module ``library`` (cuda.bindings.nvrtc), of CUDA ``release``."""

    library: Any
    release: tuple[int, int]

    @property
    def name(self) -> str:
        """Such as ``NVRTC 13.0``."""
        return "NVRTC {}.{}".format(*self.release)

    def compile(
        self, sources: dict[str, bytes], main: str, target: str, flags: Sequence[str]
    ) -> bytes:
        """``main`` compiled for ``sm_90`` (a cubin) or ``compute_75`` (PTX).

        The headers are handed over as text, so that nothing is read from the disk. Raises
        KernelError with the first words of what NVRTC says.
        """
        lib = self.library
        headers = {name: data for name, data in sources.items() if name != main}
        names = [name.encode() for name in headers]
        program = self._call(
            lib.nvrtcCreateProgram,
            sources[main],
            main.encode(),
            len(headers),
            list(headers.values()),
            names,
        )
        try:
            options = [f"--gpu-architecture={target}".encode(), *(flag.encode() for flag in flags)]
            (code,) = lib.nvrtcCompileProgram(program, len(options), options)
            if code != lib.nvrtcResult.NVRTC_SUCCESS:
                raise KernelError(
                    f"{self.name} does not compile {main} for {target}, install an NVRTC that "
                    f"knows this GPU: {self._log(program) or code}"
                )
            if target.startswith("sm_"):
                return self._bytes(lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN, program)
            # PTX ends with a zero, which the driver wants.
            return self._bytes(lib.nvrtcGetPTXSize, lib.nvrtcGetPTX, program)
        finally:
            lib.nvrtcDestroyProgram(program)

    def _log(self, program: Any) -> str:
        lib = self.library
        text = self._bytes(lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog, program)
        return one_line(text.rstrip(b"\0").decode(errors="replace"))[:_SHOWN]

    def _bytes(self, size: Any, fill: Any, program: Any) -> bytes:
        count = self._call(size, program)
        # NVRTC writes into this object: never one of the single bytes that Python keeps for all.
        data = bytes(count + 2)
        self._call(fill, program, data)
        return data[:count]

    def _call(self, function: Any, *arguments: object) -> Any:
        """Call NVRTC and check its code; the value that came with it, if any."""
        code, *values = function(*arguments)
        if code != self.library.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{self.name} failed in {function.__name__} ({code}): reinstall it")
        return values[0] if values else None


def find() -> Nvrtc | None:
    """NVRTC through cuda-bindings, or None where either is missing."""
    try:
        library = import_module("cuda.bindings.nvrtc")
        code, major, minor = library.nvrtcVersion()
    except (ImportError, RuntimeError):
        # RuntimeError: the bindings are there and the library behind them is not.
        return None
    return Nvrtc(library, (major, minor)) if code == library.nvrtcResult.NVRTC_SUCCESS else None
