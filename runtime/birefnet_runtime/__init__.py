"""Image bytes to full-resolution cut-outs, without PyTorch.

    from birefnet_runtime import Matting, Options

    with Matting.open("nano") as matting:
        matting.remove("photo.jpg").save("photo.png")

Importing the package loads none of its libraries: each name is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birefnet_runtime.async_matting import AsyncMatting
    from birefnet_runtime.batcher import Limits, Load
    from birefnet_runtime.cutout import Cutout
    from birefnet_runtime.device_cutout import DeviceCutout
    from birefnet_runtime.errors import (
        BirefnetError,
        BusyError,
        ClosedError,
        ContractError,
        DamagedPlanError,
        DeadlineError,
        DecodeError,
        DeviceError,
        FetchError,
        ForkError,
        InputError,
        LostDeviceError,
        ModelError,
        NoDriverError,
        NoPlanError,
        NoTensorRTError,
        OptionError,
        OtherGpuError,
        OtherTensorRTError,
        OutOfMemoryError,
        OutputError,
        PlanError,
        TooLargeError,
    )
    from birefnet_runtime.matting import Matting
    from birefnet_runtime.options import Options

__all__ = [
    "AsyncMatting",
    "BirefnetError",
    "BusyError",
    "ClosedError",
    "ContractError",
    "Cutout",
    "DamagedPlanError",
    "DeadlineError",
    "DecodeError",
    "DeviceCutout",
    "DeviceError",
    "FetchError",
    "ForkError",
    "InputError",
    "Limits",
    "Load",
    "LostDeviceError",
    "Matting",
    "ModelError",
    "NoDriverError",
    "NoPlanError",
    "NoTensorRTError",
    "OptionError",
    "Options",
    "OtherGpuError",
    "OtherTensorRTError",
    "OutOfMemoryError",
    "OutputError",
    "PlanError",
    "TooLargeError",
]

_HOMES = {
    "AsyncMatting": "async_matting",
    "Cutout": "cutout",
    "DeviceCutout": "device_cutout",
    "Limits": "batcher",
    "Load": "batcher",
    "Matting": "matting",
    "Options": "options",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
