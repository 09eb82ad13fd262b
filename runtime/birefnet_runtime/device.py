"""The one module that touches CUDA: a GPU, its memory, streams, events, kernels and graphs.

    probe()          the driver and the GPU, through libcuda alone: no context, no other library
    CudaDevice       PyCUDA for nearly everything, cuda-bindings for graphs; see ``gpu.Device``

PyCUDA has neither graphs nor streams of other owners; the first come from cuda-bindings, for the
second two calls go to libcuda directly. Importing this module loads none of them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from birefnet_runtime.errors import (
    DeviceError,
    LostDeviceError,
    NoDriverError,
    OutOfMemoryError,
    one_line,
)
from birefnet_runtime.frame import Bytes
from birefnet_runtime.gpu import Stream
from birefnet_runtime.launches import Launch

INSTALL_PYCUDA = (
    "pip install 'birefnet-trt[tensorrt-cu13]' (or -cu12); PyCUDA is compiled while it is "
    "installed and needs a C++ compiler and the CUDA toolkit's headers (nvcc on the PATH); without "
    "libcurand put CUDA_ENABLE_CURAND = False into ~/.aksetup-defaults.py first"
)

# From cuda.h, the same since CUDA 7: CUresult, CUdevice_attribute, CUpointer_attribute,
# CUmemorytype, flags of streams and events.
_OUT_OF_MEMORY = 2
_NO_DEVICE = 100
# After these nothing in the context works again: the driver is leaving, memory or NVLink had an
# error that cannot be mended, a kernel touched a wrong address, ran too long or failed otherwise.
_LOST = (4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719)
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_MEMORY_TYPE, _HOST_MEMORY = 2, 1
_STREAM_NON_BLOCKING = 1
_EVENT_BLOCKING, _EVENT_NO_TIMING = 1, 2


@dataclass(frozen=True)
class Gpu:
    """What the driver says about one GPU; ``driver`` is the newest CUDA that it runs."""

    ordinal: int
    name: str
    capability: tuple[int, int]
    driver: tuple[int, int]


def probe(ordinal: int = 0) -> Gpu:
    """The GPU ``ordinal``, asked through libcuda without making a context.

    TensorRT may crash the process where there is no driver, so this comes before it. Raises
    NoDriverError.
    """
    cuda = _libcuda()
    count, driver = ctypes.c_int(), ctypes.c_int()
    code = cuda.cuInit(0)
    if code == 0:
        code = cuda.cuDeviceGetCount(ctypes.byref(count))
    if code in (0, _NO_DEVICE) and count.value <= ordinal:
        raise NoDriverError(
            f"the NVIDIA driver shows {count.value} GPUs: check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    if code:
        raise NoDriverError(
            f"the NVIDIA driver does not start ({_error_name(code)}): check nvidia-smi, and that "
            "the kernel module fits the installed libcuda"
        )
    cuda.cuDriverGetVersion(ctypes.byref(driver))
    return Gpu(ordinal, *_describe(cuda, ordinal), _version(driver.value))


def _describe(cuda: Any, ordinal: int) -> tuple[str, tuple[int, int]]:
    handle, value = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    check(cuda.cuDeviceGet(ctypes.byref(handle), ordinal), "cuDeviceGet")
    check(cuda.cuDeviceGetName(name, len(name), handle), "cuDeviceGetName")
    parts = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        code = cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        check(code, "cuDeviceGetAttribute")
        parts.append(value.value)
    return name.value.decode(errors="replace"), (parts[0], parts[1])


def _version(number: int) -> tuple[int, int]:
    """CUDA's 12040 is 12.4."""
    return (number // 1000, number % 1000 // 10)


@cache
def _libcuda() -> Any:
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise NoDriverError(
        "there is no NVIDIA driver here (libcuda.so.1 is missing): install it, in a container "
        "start with --gpus all, or use --device cpu"
    )


def check(code: int, what: str) -> None:
    """Raise the named error of a CUresult; ``what`` is the call that gave it."""
    if code:
        _fail(int(code), what)


def _fail(code: int, what: str) -> NoReturn:
    text = f"{what}: {_error_name(code)}"
    if code == _OUT_OF_MEMORY:
        raise OutOfMemoryError(
            f"the GPU's memory is full ({text}): end other programs on it (nvidia-smi lists them), "
            "or use a smaller plan: birefnet-build MODEL --batch 1"
        )
    if code in _LOST:
        raise LostDeviceError(
            f"the GPU stopped working for this process ({text}): start it again; "
            "dmesg shows an Xid line when the hardware is at fault"
        )
    raise DeviceError(f"CUDA failed ({text}): birefnet doctor shows driver and versions")


def _error_name(code: int) -> str:
    return _driver_text("cuGetErrorName", code) or f"CUDA error {code}"


def _driver_text(function: str, code: int) -> str:
    text = ctypes.c_char_p()
    if getattr(_libcuda(), function)(code, ctypes.byref(text)):
        return ""
    return (text.value or b"").decode(errors="replace")


@cache
def _codes() -> dict[str, int]:
    """The driver's words for the errors that have names of their own here.

    PyCUDA's exceptions carry these words and no number.
    """
    codes = (_OUT_OF_MEMORY, *_LOST)
    return {_driver_text("cuGetErrorString", code): code for code in codes}


class _Memory:
    """Device memory that PyCUDA allocated."""

    def __init__(self, owner: CudaDevice, allocation: Any, size: int) -> None:
        self._owner, self._allocation = owner, allocation
        self.pointer, self.size = int(allocation), size

    def free(self) -> None:
        self._owner.call(self._allocation.free)


class _HostMemory:
    """Page-locked memory that PyCUDA allocated."""

    def __init__(self, owner: CudaDevice, array: Bytes) -> None:
        self._owner, self.array, self.size = owner, array, array.nbytes

    def free(self) -> None:
        allocation: Any = self.array.base
        self._owner.call(allocation.free)


class _Stream:
    def __init__(self, raw: Any) -> None:
        self.raw, self.handle = raw, int(raw.handle)


class _Kernels:
    """A module, and its functions by name as they are first used."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._functions: dict[str, Any] = {}

    def function(self, name: str) -> Any:
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        return self._functions[name]


class _Graph:
    """A captured graph, made ready for its stream."""

    def __init__(self, bindings: Any, captured: Any, stream: Stream) -> None:
        self._bindings = bindings
        try:
            self._run = _unpack(bindings.cuGraphInstantiate(captured, 0), "cuGraphInstantiate")
        finally:
            bindings.cuGraphDestroy(captured)
        handle = bindings.CUstream(stream.handle)
        _unpack(bindings.cuGraphUpload(self._run, handle), "cuGraphUpload")

    def launch(self, stream: Stream) -> None:
        handle = self._bindings.CUstream(stream.handle)
        _unpack(self._bindings.cuGraphLaunch(self._run, handle), "cuGraphLaunch")

    def free(self) -> None:
        _unpack(self._bindings.cuGraphExecDestroy(self._run), "cuGraphExecDestroy")


class CudaDevice:
    """A GPU through PyCUDA; get one from ``open_device``.

    It works in the GPU's primary context, the one that PyTorch and every program of the CUDA
    runtime use too, and leaves each thread's current context as it found it. The context is kept
    until the process ends, as those programs keep it.
    """

    def __init__(self, gpu: Gpu) -> None:
        self.ordinal, self.name, self.capability = gpu.ordinal, gpu.name, gpu.capability
        self._driver = _pycuda()
        self.call(self._driver.init)
        owner = self.call(self._driver.Device, gpu.ordinal)
        self._context = self.call(owner.retain_primary_context)
        # Its destructor would call cuCtxDetach (a virtual call in a base class), which a primary
        # context refuses, and say so on stderr: PyCUDA 2026.1. It is never to run.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._context))
        self._bindings = _cuda_bindings()

    @contextmanager
    def active(self) -> Iterator[None]:
        self.call(self._context.push)
        try:
            yield
        finally:
            self.call(self._context.pop)

    def call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """A call into PyCUDA whose errors are ours."""
        try:
            return function(*arguments, **named)
        except self._driver.Error as error:
            text = one_line(error)
            # "cuMemAlloc failed: out of memory - what else PyCUDA has to say", perhaps nothing.
            what, _, words = text.partition(" failed: ")
            code = _codes().get(words.removesuffix(" -").partition(" - ")[0])
            if code is None:
                raise DeviceError(
                    f"CUDA failed ({text}): birefnet doctor shows versions"
                ) from error
            check(code, what)

    def allocate(self, size: int) -> _Memory:
        return _Memory(self, self.call(self._driver.mem_alloc, size), size)

    def allocate_host(self, size: int) -> _HostMemory:
        return _HostMemory(self, self.call(self._driver.pagelocked_empty, size, np.uint8))

    def is_page_locked(self, array: NDArray[Any]) -> bool:
        # Memory that CUDA does not know is an error of this call, not of the program.
        kind, first = ctypes.c_uint(), array.ctypes.data
        return all(
            _libcuda().cuPointerGetAttribute(ctypes.byref(kind), _MEMORY_TYPE, address) == 0
            and kind.value == _HOST_MEMORY
            for address in (ctypes.c_uint64(first), ctypes.c_uint64(first + array.nbytes - 1))
        )

    def memory(self) -> tuple[int, int]:
        free, total = self.call(self._driver.mem_get_info)
        return int(free), int(total)

    def open_stream(self) -> _Stream:
        return _Stream(self.call(self._driver.Stream, _STREAM_NON_BLOCKING))

    def open_event(self, blocking: bool = True) -> Any:
        return self.call(self._driver.Event, _EVENT_BLOCKING if blocking else 0)

    def load(self, image: bytes) -> _Kernels:
        return _Kernels(self.call(self._driver.module_from_buffer, image))

    def upload(self, pointer: int, source: NDArray[Any], stream: Any) -> None:
        self.call(self._driver.memcpy_htod_async, pointer, source, stream.raw)

    def download(self, target: NDArray[Any], pointer: int, stream: Any) -> None:
        self.call(self._driver.memcpy_dtoh_async, target, pointer, stream.raw)

    def copy(self, target: int, source: int, size: int, stream: Any) -> None:
        self.call(self._driver.memcpy_dtod_async, target, source, size, stream.raw)

    def fill(self, pointer: int, value: int, size: int, stream: Any) -> None:
        self.call(self._driver.memset_d8_async, pointer, value, size, stream.raw)

    def launch(self, kernels: Any, launch: Launch, stream: Any) -> None:
        function = self.call(kernels.function, launch.name)
        shape = {"grid": launch.grid, "block": launch.block}
        self.call(function, *launch.args, **shape, stream=stream.raw)

    def record(self, event: Any, stream: Any) -> None:
        self.call(event.record, stream.raw)

    def wait(self, stream: Any, event: Any) -> None:
        self.call(stream.raw.wait_for_event, event)

    def order(self, first: int, then: int) -> None:
        cuda, event = _libcuda(), ctypes.c_void_p()
        check(cuda.cuEventCreate(ctypes.byref(event), _EVENT_NO_TIMING), "cuEventCreate")
        try:
            check(cuda.cuEventRecord(event, ctypes.c_void_p(first)), "cuEventRecord")
            waits = cuda.cuStreamWaitEvent(ctypes.c_void_p(then), event, 0)
            check(waits, "cuStreamWaitEvent")
        finally:
            # What waits for it keeps waiting: the driver lets go of an event once it has happened.
            cuda.cuEventDestroy_v2(event)

    def synchronize(self, event: Any) -> None:
        self.call(event.synchronize)

    def finish(self, stream: Any) -> None:
        self.call(stream.raw.synchronize)

    def elapsed(self, first: Any, then: Any) -> float:
        return float(self.call(then.time_since, first)) / 1e3

    def capture(self, stream: Any, work: Callable[[], None]) -> _Graph | None:
        if self._bindings is None:
            return None
        return _capture(self._bindings, stream, work)


def _capture(bindings: Any, stream: Stream, work: Callable[[], None]) -> _Graph:
    handle = bindings.CUstream(stream.handle)
    # Thread-local: what other threads allocate meanwhile does not spoil the capture.
    mode = bindings.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    _unpack(bindings.cuStreamBeginCapture(handle, mode), "cuStreamBeginCapture")
    try:
        work()
    except BaseException:
        code, captured = bindings.cuStreamEndCapture(handle)
        if not int(code):
            bindings.cuGraphDestroy(captured)
        raise
    captured = _unpack(bindings.cuStreamEndCapture(handle), "cuStreamEndCapture")
    return _Graph(bindings, captured, stream)


def _unpack(answer: tuple[Any, ...], what: str) -> Any:
    """The value in an answer of cuda-bindings, (CUresult,) or (CUresult, value)."""
    check(int(answer[0]), what)
    return answer[1] if len(answer) > 1 else None


_DEVICES: dict[int, CudaDevice] = {}
_DEVICES_LOCK = threading.Lock()


def open_device(ordinal: int = 0) -> CudaDevice:
    """The GPU ``ordinal``, one object for the whole process.

    Raises NoDriverError, or DeviceError where PyCUDA is missing.
    """
    gpu = probe(ordinal)
    with _DEVICES_LOCK:
        if ordinal not in _DEVICES:
            _DEVICES[ordinal] = CudaDevice(gpu)
        return _DEVICES[ordinal]


def _pycuda() -> Any:
    try:
        return import_module("pycuda.driver")
    except ImportError as error:
        raise DeviceError(f"PyCUDA does not load ({one_line(error)}): {INSTALL_PYCUDA}") from error


def _cuda_bindings() -> Any | None:
    """The driver's functions from cuda-bindings, or None: then nothing is captured."""
    try:
        return import_module("cuda.bindings.driver")
    except ImportError:
        return None
