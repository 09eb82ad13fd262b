"""The NVIDIA driver and its first GPU, asked without a CUDA context.

It comes before any call into TensorRT: without a driver TensorRT 8.6 ends the process.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from .errors import MissingError

LIBRARY = "libcuda.so.1"
# CUdevice_attribute, cuda.h: compute capability, major and minor.
_MAJOR, _MINOR = 75, 76
# CUresult, cuda.h.
_NO_DEVICE = 100
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver describes it.

    ``capability`` is (major, minor), ``memory`` bytes, ``cuda`` the newest CUDA (major, minor)
    that the driver runs.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    cuda: tuple[int, int]


def probe(library: str = LIBRARY) -> Gpu:
    """The GPU that CUDA, and so TensorRT, takes by default: number 0 of CUDA_VISIBLE_DEVICES.

    Makes no context. Raises MissingError when there is no driver or no GPU.
    """
    try:
        cuda: Any = ctypes.CDLL(library)
    except OSError:
        raise MissingError(
            f"no NVIDIA driver here ({library} is not found), and plans are built on the GPU they "
            "are for: install the driver (on Ubuntu: sudo ubuntu-drivers install), or start the "
            "container with its GPU (docker run --gpus all)"
        ) from None
    _check(cuda, "cuInit", 0)
    device, version = ctypes.c_int(), ctypes.c_int()
    _check(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _check(cuda, "cuDriverGetVersion", ctypes.byref(version))
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    _check(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _check(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=(_attribute(cuda, _MAJOR, device), _attribute(cuda, _MINOR, device)),
        memory=memory.value,
        cuda=(version.value // 1000, version.value % 1000 // 10),
    )


def _attribute(cuda: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(cuda, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value


def _check(cuda: Any, call: str, *arguments: object) -> None:
    """Call the driver; MissingError with its own words unless the answer is success."""
    code = getattr(cuda, call)(*arguments)
    if code == 0:
        return
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    words = text.value.decode(errors="replace") if text.value else "unknown error"
    if code == _NO_DEVICE:
        raise MissingError(
            "the NVIDIA driver finds no GPU: see that nvidia-smi lists one and that "
            "CUDA_VISIBLE_DEVICES does not hide it"
        )
    raise MissingError(
        f"the NVIDIA driver does not start ({call}: {code}, {words}): run nvidia-smi and mend what "
        "it reports; after a driver update, restart the machine"
    )
