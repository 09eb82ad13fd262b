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
    from birefnet_runtime.cutout import Cutout
    from birefnet_runtime.device_cutout import DeviceCutout
    from birefnet_runtime.errors import (
        BirefnetError,
        ClosedError,
        ContractError,
        DamagedPlanError,
        DecodeError,
        DeviceError,
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
    "BirefnetError",
    "ClosedError",
    "ContractError",
    "Cutout",
    "DamagedPlanError",
    "DecodeError",
    "DeviceCutout",
    "DeviceError",
    "InputError",
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
    "Cutout": "cutout",
    "DeviceCutout": "device_cutout",
    "Matting": "matting",
    "Options": "options",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
