"""A libcuda.so.1 that is compiled for a test, so that the driver's probe runs for real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal == 0 ? 0 : 101; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, "NVIDIA H200", size);
    return device == 7 ? 0 : 101;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = 150ul << 30;
    return device == 7 ? 0 : 101;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : -1;
    return device == 7 ? 0 : 101;
}
int cuGetErrorString(int code, const char **text) {
    *text = code == 999 ? "unknown error" : 0;
    return 0;
}
"""


def compile_driver(folder: Path, init: int = 0) -> Path:
    """``libcuda.so.1`` in ``folder``, whose cuInit answers ``init``; skips without a compiler."""
    compiler = shutil.which("cc") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = folder / "driver.c"
    source.write_text(_SOURCE.replace("INIT", str(init)))
    library = folder / "libcuda.so.1"
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library
