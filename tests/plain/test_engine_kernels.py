"""Kernels: which compiler takes them, what it is given, and what it makes of the real ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import pytest

from birefnet_engine import kernels, manifest, nvcc, nvrtc
from birefnet_engine.driver import Gpu
from birefnet_engine.errors import KernelError, MissingError
from birefnet_engine.kernels import Sources
from birefnet_engine.nvcc import Nvcc
from birefnet_engine.nvrtc import Nvrtc
from birefnet_runtime import cubin
from helpers.engine_kit import GPU, FakeCompiler

TWO = Sources(
    {
        "birefnet.cu": b'#include "half.h"\n'
        b'extern "C" __global__ void halve(float* x) { *x = half_of(*x); }\n',
        "half.h": b"__device__ inline float half_of(float x) { return x / 2; }\n",
    }
)


def find_nvcc() -> Nvcc:
    found = nvcc.find()
    if found is None:
        pytest.skip("no nvcc with a C++ compiler here")
    return found


def test_the_digest_covers_names_contents_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [
        TWO,
        Sources({"birefnet.cu": TWO.files["birefnet.cu"]}),
        Sources({**TWO.files, "half.h": b""}),
        Sources({"birefnet.cu": TWO.files["half.h"], "half.h": TWO.files["birefnet.cu"]}),
    ]
    digests = {item.digest for item in changed}
    monkeypatch.setattr(manifest, "KERNEL_FLAGS", ("--std=c++20",))
    assert len(digests | {TWO.digest}) == 5


def test_the_runtime_knows_the_same_digest() -> None:
    # It says whether kernels that were built are those that this runtime launches.
    assert kernels.sources().digest == cubin.digest()


def test_sources_are_the_runtimes(tmp_path: Path) -> None:
    found = kernels.sources().files
    assert kernels.MAIN in found
    assert all(name.endswith((".cu", ".h")) for name in found)
    with pytest.raises(MissingError, match=r"birefnet\.cu is missing: install"):
        kernels.sources(tmp_path)


def test_targets() -> None:
    made = kernels.compile_all(FakeCompiler(), TWO, replace(GPU, capability=(12, 0)), "K")
    assert [(name, data.split()[-1]) for name, data in made.items()] == [
        ("K.cubin", b"sm_120"),
        ("K.ptx", b"compute_75"),
    ]
    old = kernels.compile_all(FakeCompiler(), TWO, replace(GPU, capability=(7, 0)), "K")
    assert old["K.ptx"].endswith(b"compute_70")


def put(monkeypatch: pytest.MonkeyPatch, *releases: tuple[int, int] | None) -> None:
    """Let nvcc and NVRTC be of these releases; None: not there."""
    makers: tuple[Callable[[tuple[int, int]], object], ...] = (
        lambda release: Nvcc("nvcc", release),
        lambda release: Nvrtc(None, release),
    )
    for module, make, release in zip((nvcc, nvrtc), makers, releases, strict=True):
        found = None if release is None else make(release)
        monkeypatch.setattr(module, "find", lambda found=found: found)


@pytest.mark.parametrize(
    ("releases", "driver", "name"),
    [
        (((13, 0), (12, 9)), (13, 1), "nvcc 13.0"),
        # A cubin of a newer CUDA major does not load.
        (((13, 0), (12, 9)), (12, 8), "NVRTC 12.9"),
        ((None, (12, 9)), (13, 0), "NVRTC 12.9"),
    ],
)
def test_which_compiler(
    monkeypatch: pytest.MonkeyPatch,
    releases: tuple[tuple[int, int] | None, ...],
    driver: tuple[int, int],
    name: str,
) -> None:
    put(monkeypatch, *releases)
    assert kernels.choose(replace(GPU, cuda=driver)).name == name


def test_no_compiler_or_one_that_is_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, None, None)
    with pytest.raises(MissingError, match=r"neither nvcc .* pip install cuda-bindings"):
        kernels.choose(GPU)
    put(monkeypatch, (13, 0), None)
    with pytest.raises(KernelError, match=r"CUDA up to 12\.8, but only nvcc 13\.0.*-cu12"):
        kernels.choose(replace(GPU, cuda=(12, 8)))


# --- nvcc


def test_nvcc_needs_a_host_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    find_nvcc()
    here = shutil.which
    monkeypatch.setattr(
        shutil, "which", lambda name, path=None: here(name, path=path) if "nvcc" in name else None
    )
    assert nvcc.find() is None


@pytest.mark.parametrize("sources", [TWO, kernels.sources()], ids=["two", "birefnet"])
def test_nvcc_compiles(sources: Sources) -> None:
    made = kernels.compile_all(find_nvcc(), sources, GPU, "K")
    assert made["K.cubin"].startswith(b"\x7fELF")
    assert b".target sm_75" in made["K.ptx"]
    entry = b"halve" if sources is TWO else b"resize_columns"
    assert b".visible .entry " + entry in made["K.ptx"]


def test_nvcc_says_what_is_wrong() -> None:
    compiler = find_nvcc()
    broken = Sources({"birefnet.cu": b"nonsense"})
    with pytest.raises(
        KernelError, match=r"nvcc [\d.]+ does not compile birefnet\.cu for sm_90.*nonsense"
    ):
        kernels.compile_all(compiler, broken, GPU, "K")
    unknown = Gpu("NVIDIA Z900", (99, 0), 1, (13, 0))
    with pytest.raises(KernelError, match="sm_990, install a CUDA toolkit that knows this GPU"):
        kernels.compile_all(compiler, TWO, unknown, "K")


# --- NVRTC


class Code(Enum):
    NVRTC_SUCCESS = 0
    NVRTC_ERROR_COMPILATION = 6


@dataclass
class FakeLibrary:
    """cuda.bindings.nvrtc: every call answers a code and, mostly, a value."""

    error: bytes = b""
    seen: list[object] = field(default_factory=list)
    nvrtcResult = Code

    def nvrtcCreateProgram(
        self, source: bytes, name: bytes, count: int, headers: list[bytes], names: list[bytes]
    ) -> tuple[Code, str]:
        assert count == len(headers) == len(names)
        self.seen.append((source, name, dict(zip(names, headers, strict=True))))
        return Code.NVRTC_SUCCESS, "program"

    def nvrtcCompileProgram(self, program: str, count: int, options: list[bytes]) -> tuple[Code]:
        assert count == len(options)
        self.seen.append(options)
        return (Code.NVRTC_ERROR_COMPILATION if self.error else Code.NVRTC_SUCCESS,)

    def nvrtcGetProgramLogSize(self, program: str) -> tuple[Code, int]:
        return Code.NVRTC_SUCCESS, len(self.error)

    def nvrtcGetProgramLog(self, program: str, log: bytes) -> tuple[Code]:
        return (self._fill(log, self.error),)

    def nvrtcGetCUBINSize(self, program: str) -> tuple[Code, int]:
        return Code.NVRTC_SUCCESS, 4

    def nvrtcGetCUBIN(self, program: str, data: bytes) -> tuple[Code]:
        return (self._fill(data, b"\x7fELF"),)

    def nvrtcGetPTXSize(self, program: str) -> tuple[Code, int]:
        return Code.NVRTC_SUCCESS, 4

    def nvrtcGetPTX(self, program: str, data: bytes) -> tuple[Code]:
        return (self._fill(data, b"ptx\0"),)

    def nvrtcDestroyProgram(self, program: str) -> tuple[Code]:
        self.seen.append("destroyed")
        return (Code.NVRTC_SUCCESS,)

    def _fill(self, data: bytes, content: bytes) -> Code:
        """Write into ``data`` as the real bindings do, behind Python's back."""
        import ctypes

        assert len(data) >= len(content)
        offset = bytes.__basicsize__ - 1
        ctypes.memmove(id(data) + offset, content, len(content))
        return Code.NVRTC_SUCCESS


def test_nvrtc_gets_the_headers_as_text() -> None:
    library = FakeLibrary()
    made = kernels.compile_all(Nvrtc(library, (13, 0)), TWO, GPU, "K")
    assert made == {"K.cubin": b"\x7fELF", "K.ptx": b"ptx\0"}
    program, options = library.seen[:2]
    assert program == (
        TWO.files["birefnet.cu"],
        b"birefnet.cu",
        {b"half.h": TWO.files["half.h"]},
    )
    assert options == [b"--gpu-architecture=sm_90", b"--std=c++17"]
    assert library.seen.count("destroyed") == 2


def test_nvrtc_says_what_is_wrong() -> None:
    library = FakeLibrary(error=b"birefnet.cu(1): error:\n  nonsense\0")
    with pytest.raises(KernelError, match=r"NVRTC 13\.0 does not compile.*error: nonsense"):
        kernels.compile_all(Nvrtc(library, (13, 0)), TWO, GPU, "K")
    assert library.seen[-1] == "destroyed"


@pytest.mark.parametrize("sources", [TWO, kernels.sources()], ids=["two", "birefnet"])
def test_real_nvrtc_compiles(sources: Sources) -> None:
    compiler = nvrtc.find()
    if compiler is None:
        pytest.skip("no cuda-bindings with NVRTC here")
    made = kernels.compile_all(compiler, sources, GPU, "K")
    assert made["K.cubin"].startswith(b"\x7fELF")
    assert b".target sm_75" in made["K.ptx"]
