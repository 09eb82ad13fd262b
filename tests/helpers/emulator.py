"""The CUDA kernels on the host: birefnet.cu compiled by a C++ compiler, run thread by thread.

``python emulator.py FOLDER`` runs every small case under the address and undefined-behaviour
sanitizers (their library has to be preloaded): each buffer is of the exact size, so a read or write
outside ends the process.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from birefnet_runtime import launches
from birefnet_runtime.launches import Launch

KERNELS = Path(launches.__file__).parent / "kernels"
# common.h names the first; the second because the harness reads bytes as words, as the device does.
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC", "-shared")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DSANITIZED", "-g")


class Emulator:
    """Executes launches whose pointers are addresses of this process."""

    def __init__(self, library: Path) -> None:
        self._run = ctypes.CDLL(str(library)).run

    @classmethod
    def build(cls, folder: Path) -> Emulator:
        return cls(compiled(folder))

    def execute(self, launch: Launch) -> None:
        values = [np.array(argument) for argument in launch.args]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        grid, block = ((ctypes.c_uint * 3)(*sizes) for sizes in (launch.grid, launch.block))
        status = self._run(launch.name.encode(), grid, block, pointers)
        if status:
            reason = {1: "threads of a block part at __syncthreads", 2: "no such launch"}[status]
            raise RuntimeError(f"{launch.name}: {reason}")


def compiler() -> str | None:
    """A C++ compiler, or None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def compiled(folder: Path, sanitize: bool = False, kernels: Path = KERNELS) -> Path:
    """The library of the sources in ``kernels``, made in ``folder``; a warning is an error."""
    found = compiler()
    assert found
    out = folder / ("sanitized.so" if sanitize else "kernels.so")
    source = Path(__file__).with_suffix(".cpp")
    flags = [*FLAGS, *WARNINGS, *(SANITIZE if sanitize else ()), f"-I{kernels}"]
    subprocess.run([found, *flags, "-o", str(out), str(source)], check=True)
    return out


def sanitizer() -> str | None:
    """The address sanitizer's library, to be preloaded, or None where the compiler has none."""
    command = [compiler() or "", "-print-file-name=libasan.so"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return path if Path(path).is_absolute() else None


def main(folder: Path) -> None:
    from helpers import kernel_cases

    emulator = Emulator(compiled(folder, sanitize=True))
    count = 0
    for case in kernel_cases.cases(large=False):
        kernel_cases.check(case, kernel_cases.on_host(case, emulator.execute))
        count += 1
    print(f"{count} cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
