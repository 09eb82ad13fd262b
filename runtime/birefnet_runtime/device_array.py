"""Arrays of other libraries on a GPU -> pictures that a slot reads in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from birefnet_runtime import dlpack
from birefnet_runtime.errors import DecodeError, one_line
from birefnet_runtime.gpu import Device
from birefnet_runtime.launches import Picture

NAME = "<device array>"
_LAYOUT = "give uint8 [H,W,3] or [H,W,4] whose pixels lie side by side"


class CudaArray(Protocol):
    """An array on a GPU, by Numba's interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


class DlpackArray(Protocol):
    """An array on a GPU, by DLPack."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


DeviceArray = CudaArray | DlpackArray


@dataclass(frozen=True, eq=False)
class DevicePicture:
    """uint8 [H,W,3] RGB or [H,W,4] straight RGBA on the GPU, borrowed: ``owner`` keeps it alive."""

    picture: Picture
    owner: object

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.picture.height, self.picture.width)


def is_device_array(source: object) -> bool:
    """Whether ``source`` says that it lies on a CUDA device. Nothing is imported to find out."""
    if hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"):
        return int(source.__dlpack_device__()[0]) == dlpack.CUDA
    return hasattr(source, "__cuda_array_interface__")


def borrow(source: Any, device: Device, entry: int) -> DevicePicture:
    """The picture in ``source``, ready on the stream handle ``entry``.

    DLPack is asked first, because it says when the memory is ready; an array that has only
    ``__cuda_array_interface__`` is waited for where that names a stream. Raises DecodeError.
    """
    try:
        if hasattr(source, "__dlpack__"):
            view = dlpack.take(source, entry)
        else:
            view = _from_interface(source, device, entry)
    except (AttributeError, BufferError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DecodeError(NAME, f"cannot be read ({one_line(error)}): {_LAYOUT}") from error
    if view.device[1] != device.ordinal:
        reason = f"lies on GPU {view.device[1]}, the model on {device.ordinal}: copy it there"
        raise DecodeError(NAME, reason)
    return DevicePicture(_to_picture(view), view.owner)


def _from_interface(source: Any, device: Device, entry: int) -> dlpack.View:
    interface = source.__cuda_array_interface__
    stream = interface.get("stream")
    if stream is not None:
        device.order(int(stream), entry)
    shape = tuple(int(size) for size in interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        strides = (shape[1] * shape[2], shape[2], 1) if len(shape) == 3 else ()
    is_bytes = str(interface["typestr"])[1:] == "u1"
    where = (dlpack.CUDA, device.ordinal)
    pointer = int(interface["data"][0])
    return dlpack.View(pointer, shape, tuple(map(int, strides)), is_bytes, where, source)


def _to_picture(view: dlpack.View) -> Picture:
    shape, strides = view.shape, view.strides
    good = view.is_bytes and len(shape) == 3 and shape[2] in (3, 4) and min(shape) > 0
    # The pixels of one row must be dense; from row to row there may be a gap.
    if not good or strides[1:] != (shape[2], 1) or strides[0] < shape[1] * shape[2]:
        kind = "uint8" if view.is_bytes else "no uint8"
        raise DecodeError(NAME, f"is {kind} {list(shape)}, strides {list(strides)}: {_LAYOUT}")
    return Picture(view.pointer, shape[0], shape[1], shape[2], strides[0])
