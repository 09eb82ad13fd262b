"""DLPack's C structures in ctypes: arrays of other libraries in, ours out, without importing them.

Source: dlpack.h, version 0.8 (DLManagedTensor, the unversioned form that every library takes).
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

CUDA = 2
_UINT = 1
# Kept for the process's lifetime: a capsule refers to its name's bytes.
_NAME, _USED = b"dltensor", b"used_dltensor"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_SetName", ctypes.pythonapi)
)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)


@dataclass(frozen=True, eq=False)
class View:
    """Memory of another library: ``strides`` in elements. ``owner`` keeps it alive."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    is_bytes: bool
    device: tuple[int, int]
    owner: object


class _Owner:
    """Holds a tensor that was taken over, and lets go of it once."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        if self._managed.contents.deleter:
            self._managed.contents.deleter(self._managed)


def take(source: Any, stream: int) -> View:
    """What ``source.__dlpack__`` offers, ready on the CUDA stream handle ``stream``.

    Raises whatever the other library raises, BufferError for a capsule that is none.
    """
    capsule = source.__dlpack__(stream=stream)
    if not _is_valid(id(capsule), _NAME):
        raise BufferError("it offers no DLPack tensor")
    address = _get_pointer(id(capsule), _NAME)
    managed = ctypes.cast(address, ctypes.POINTER(_Managed))
    _set_name(capsule, _USED)
    owner, tensor = _Owner(managed), managed.contents.tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(tensor.ndim))
    strides = (
        tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else dense
    )
    is_bytes = (tensor.code, tensor.bits, tensor.lanes) == (_UINT, 8, 1)
    device = (tensor.device_type, tensor.device_id)
    return View((tensor.data or 0) + tensor.byte_offset, shape, strides, is_bytes, device, owner)


# What was handed out, by address, until its taker calls the deleter.
_HANDED_OUT: dict[int, tuple[object, ...]] = {}


def give(pointer: int, shape: tuple[int, ...], ordinal: int, owner: object) -> Any:
    """A capsule on dense uint8 memory of the GPU ``ordinal``; it keeps ``owner`` alive."""
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    steps = (math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    strides = (ctypes.c_int64 * len(shape))(*steps)
    tensor = _Tensor(pointer, CUDA, ordinal, len(shape), _UINT, 8, 1, sizes, strides, 0)
    managed = _Managed(tensor, None, _delete)
    address = ctypes.addressof(managed)
    _HANDED_OUT[address] = (managed, sizes, strides, owner)
    return _new(address, _NAME, ctypes.cast(_destroy, ctypes.c_void_p))


def _let_go(managed: Any) -> None:
    _HANDED_OUT.pop(ctypes.addressof(managed.contents), None)


def _end_capsule(capsule: int) -> None:
    """A capsule that nobody took over frees its tensor itself."""
    if _is_valid(capsule, _NAME):
        _HANDED_OUT.pop(_get_pointer(capsule, _NAME), None)


# C calls these as long as the process lives.
_delete = _Deleter(_let_go)
_destroy = _Destructor(_end_capsule)
