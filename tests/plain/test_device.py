"""The driver is asked without a context, errors have names, and nothing is loaded too early."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from birefnet_runtime import device
from birefnet_runtime.errors import (
    DeviceError,
    LostDeviceError,
    NoDriverError,
    OutOfMemoryError,
)
from helpers.fake_driver import compile_driver

# What the helper's driver lacks: it answers the engine room's probe only.
_MORE = """
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuGetErrorName(int code, const char **text) {
    *text = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OTHER";
    return 0;
}
unsigned long long limit;
static char calls[256];
const char *seen(void) { return calls; }
int cuEventCreate(void **event, unsigned flags) { *event = (void *)9; return 0; }
int cuEventRecord(void *event, void *stream) {
    sprintf(calls + strlen(calls), "record %ld ", (long)stream);
    return (long)stream == 404 ? 400 : 0;
}
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    sprintf(calls + strlen(calls), "wait %ld ", (long)stream);
    return 0;
}
int cuPointerGetAttribute(unsigned *kind, int attribute, unsigned long long address) {
    *kind = 1;
    return attribute == 2 && address < limit ? 0 : 1;
}
int cuEventDestroy_v2(void *event) { strcat(calls, "destroy "); return 0; }
"""


class Drivers:
    """Compiles drivers into a folder and lets the runtime load them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def load(self, init: int = 0, count: int = 1) -> ctypes.CDLL:
        compile_driver(self.folder, init)
        source = self.folder / "driver.c"
        more = _MORE.replace("COUNT", str(count))
        source.write_text("#include <stdio.h>\n" + source.read_text() + more)
        # A new name, or the loader gives the library of the last call again.
        library = self.folder / f"libcuda{init}_{count}.so"
        compiler = shutil.which("cc") or "g++"
        command = [compiler, "-x", "c", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(command, check=True)
        found = ctypes.CDLL(str(library))
        self.monkeypatch.setattr(device, "_libcuda", lambda: found)
        return found


@pytest.fixture
def drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drivers]:
    device._codes.cache_clear()
    yield Drivers(tmp_path, monkeypatch)
    device._codes.cache_clear()


def test_the_probe(drivers: Drivers) -> None:
    drivers.load()
    assert device.probe() == device.Gpu(0, "NVIDIA H200", (9, 0), (12, 8))
    with pytest.raises(NoDriverError, match="shows 1 GPUs: check nvidia-smi"):
        device.probe(1)


@pytest.mark.parametrize(
    ("init", "count", "text"),
    [
        (0, 0, "shows 0 GPUs"),
        (100, 0, "shows 0 GPUs"),
        (999, 1, r"does not start \(CUDA_ERROR_OTHER\)"),
    ],
)
def test_drivers_that_do_not_work(drivers: Drivers, init: int, count: int, text: str) -> None:
    drivers.load(init, count)
    with pytest.raises(NoDriverError, match=text):
        device.probe()


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    device._libcuda.cache_clear()
    with pytest.raises(NoDriverError, match=r"libcuda\.so\.1 is missing.*--device cpu"):
        device.open_device()
    device._libcuda.cache_clear()


def test_without_pycuda(drivers: Drivers, monkeypatch: pytest.MonkeyPatch) -> None:
    drivers.load()
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(DeviceError, match=r"PyCUDA does not load.*compiler.*CUDA_ENABLE_CURAND"):
        device.open_device()


def test_errors_have_names(drivers: Drivers) -> None:
    drivers.load()
    device.check(0, "cuMemAlloc")
    with pytest.raises(OutOfMemoryError, match=r"cuMemAlloc: CUDA_ERROR_OUT.*--batch 1"):
        device.check(2, "cuMemAlloc")
    # An illegal address, a failed launch, memory that cannot be corrected.
    for code in (700, 719, 214):
        with pytest.raises(LostDeviceError, match="start it again"):
            device.check(code, "cuStreamSynchronize")
    with pytest.raises(DeviceError, match="birefnet doctor") as caught:
        device.check(1, "cuMemcpyHtoDAsync")
    assert type(caught.value) is DeviceError


def test_foreign_streams_are_ordered_by_an_event(drivers: Drivers) -> None:
    library = drivers.load()
    library.seen.restype = ctypes.c_char_p
    # Neither method looks at the rest of the object.
    ordered = device.CudaDevice.__new__(device.CudaDevice)
    ordered.order(11, 22)
    # 0 is the default stream.
    ordered.order(0, 33)
    wanted = b"record 11 wait 22 destroy record 0 wait 33 destroy "
    assert library.seen() == wanted
    with pytest.raises(DeviceError, match="cuEventRecord"):
        ordered.order(404, 1)
    assert library.seen() == wanted + b"record 404 destroy "


def test_what_is_page_locked(drivers: Drivers) -> None:
    limit = ctypes.c_uint64.in_dll(drivers.load(), "limit")
    asked = device.CudaDevice.__new__(device.CudaDevice)
    array = np.zeros(1000, np.uint8)
    for known, wanted in ((1000, True), (999, False), (0, False)):
        limit.value = array.ctypes.data + known
        assert asked.is_page_locked(array) is wanted


def test_importing_loads_no_cuda_library() -> None:
    code = (
        "import sys, birefnet_runtime.device, birefnet_runtime.plan, birefnet_runtime.cuda\n"
        "assert not {'pycuda', 'cuda', 'tensorrt', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
