"""The CUDA compilers take the kernels: every GPU, no spills, the launches' arguments."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birefnet_runtime import launches
from birefnet_runtime.launches import Launch, Picture, Plane, Plates, Table
from helpers.emulator import KERNELS

# Turing, Ampere (both), Ada, Hopper, Blackwell (both).
CAPABILITIES = (75, 80, 86, 89, 90, 100, 120)
# A multiprocessor has 65536 registers: at 64 each, it holds 1024 threads, the least of any here.
REGISTERS = 64
SOURCE = KERNELS / "birefnet.cu"
PTX_TYPES = {np.uint64: "u64", np.int64: "u64", np.int32: "u32", np.float64: "f64"}


def every_launch() -> list[Launch]:
    picture, table = Picture(0, 8, 8), Table(0, 0, 3, 8)
    return [
        launches.resize_rows(picture, table, 0),
        launches.resize_columns(0, 8, table, 0, 0),
        launches.activate(0, 8, "none", 0, 0),
        launches.cutout(0, (8, 8), picture, 0, own=Plane(0, 8)),
        launches.colours_coarse(picture, 0, 1, 0, 10, 0, Plates(0, (8, 8))),
        launches.colours_level(picture, 0, Plates(0, (4, 4)), Plates(0, (8, 8)), 0),
        launches.colours_image(picture, 0, None, 0, launches.RGBA),
    ]


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = shutil.which("nvcc")
    if not found:
        pytest.skip("no nvcc")
    return found


@pytest.fixture(scope="module")
def ptx(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("ptx") / "birefnet.ptx"
    subprocess.run([nvcc, "-ptx", "-arch=compute_75", "-o", out, SOURCE], check=True)
    return out.read_text()


def test_every_gpu_without_spills(nvcc: str, tmp_path: Path) -> None:
    codes = [f"-gencode=arch=compute_{at},code=sm_{at}" for at in CAPABILITIES]
    flags = ["-fatbin", "-Werror", "all-warnings", "-Xptxas", "-v", "--threads", "2"]
    command = [nvcc, *flags, *codes, "-o", str(tmp_path / "birefnet.fatbin"), str(SOURCE)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    compiled = re.findall(r"entry function '(\w+)' for 'sm_(\d+)a?'", run.stderr)
    names = {launch.name for launch in every_launch()}
    assert sorted(compiled) == sorted((name, str(at)) for name in names for at in CAPABILITIES)
    memory = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", run.stderr)
    assert memory == [("0", "0", "0")] * len(compiled)
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", run.stderr)]
    assert len(registers) == len(compiled) and max(registers) <= REGISTERS


def test_entry_points_take_the_launches_arguments(ptx: str) -> None:
    entries = dict(re.findall(r"\.entry (\w+)\(([^)]*)\)", ptx))
    threads = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", ptx))
    assert set(entries) == {launch.name for launch in every_launch()}
    for launch in every_launch():
        wanted = [PTX_TYPES[type(argument)] for argument in launch.args]
        # A signed 64-bit parameter is a .u64 in PTX too.
        assert re.findall(r"\.param \.(\w+)", entries[launch.name]) == wanted
        assert int(threads[launch.name]) == np.prod(launch.block)


def test_no_product_is_fused_and_nothing_is_approximate(ptx: str) -> None:
    # Fused or approximate arithmetic would part from the twins in the last bit.
    assert re.findall(r"\b(?:fma|mad)\.\w+\.f\d+|\.approx|\.ftz", ptx) == []
    assert ".local" not in ptx


@pytest.fixture
def nvrtc() -> Any:
    module = pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-bindings")
    missing = pytest.importorskip("cuda.pathfinder").DynamicLibNotFoundError
    try:
        module.nvrtcVersion()
    except missing:
        pytest.skip("no NVRTC library (pip install nvidia-cuda-nvrtc)")
    return module


def test_nvrtc_needs_no_headers(nvrtc: Any) -> None:
    headers = sorted(KERNELS.glob("*.h"))
    texts, names = [at.read_bytes() for at in headers], [at.name.encode() for at in headers]
    status, program = nvrtc.nvrtcCreateProgram(
        SOURCE.read_bytes(), b"birefnet.cu", len(headers), texts, names
    )
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [b"--gpu-architecture=compute_75"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    # NVRTC writes into these objects: never into one of the single bytes that Python keeps for all.
    log = bytes(size + 2)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    assert b"warning" not in log
    _, size = nvrtc.nvrtcGetPTXSize(program)
    text = bytes(size + 2)
    nvrtc.nvrtcGetPTX(program, text)
    assert set(re.findall(r"\.entry (\w+)", text[:size].decode())) == {
        at.name for at in every_launch()
    }
