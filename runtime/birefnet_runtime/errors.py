"""Every exception that the runtime raises on purpose.

    BirefnetError                 root, from the contract
    ├── ContractError             a contract is missing, unreadable or contradicts its files
    ├── ModelError                a model is not there, does not load, or gives no alpha
    ├── DeviceError               the device that was asked for is not there, or fails
    │   ├── NoDriverError         no NVIDIA driver, or no GPU that it can use
    │   ├── NoTensorRTError       TensorRT is not installed
    │   ├── OutOfMemoryError      the GPU's memory is full
    │   └── LostDeviceError       the GPU's context is gone: nothing works in this process any more
    ├── PlanError                 a TensorRT plan cannot be used
    │   ├── NoPlanError           none was built that could run here
    │   ├── OtherTensorRTError    plans were built, by another version of TensorRT
    │   ├── OtherGpuError         plans were built, for another GPU
    │   └── DamagedPlanError      its bytes, owner or mode are not what they must be
    ├── OptionError               an option has a value without meaning
    ├── InputError                one picture cannot be used; has ``source`` and ``reason``
    │   ├── DecodeError           it is not a picture, is damaged, or has an unknown layout
    │   ├── FetchError            its address is refused, or does not give it
    │   └── TooLargeError         it has more pixels than the limit
    ├── OutputError               a result cannot be encoded or written
    ├── BusyError                 too many pictures wait already; has ``retry_after``
    ├── DeadlineError             the answer was not there in time
    └── ClosedError               a Matting was used after ``close``
        └── ForkError             it was used in a child of the process that opened it

Every text is one line and says what to do.
"""

from __future__ import annotations

from birefnet_export.contract import BirefnetError, ContractError

__all__ = [
    "BirefnetError",
    "BusyError",
    "ClosedError",
    "ContractError",
    "DamagedPlanError",
    "DeadlineError",
    "DecodeError",
    "DeviceError",
    "FetchError",
    "ForkError",
    "InputError",
    "LostDeviceError",
    "ModelError",
    "NoDriverError",
    "NoPlanError",
    "NoTensorRTError",
    "OptionError",
    "OtherGpuError",
    "OtherTensorRTError",
    "OutOfMemoryError",
    "OutputError",
    "PlanError",
    "TooLargeError",
    "one_line",
]


class ModelError(BirefnetError):
    """A model is not there, does not load, or gives no alpha."""


class DeviceError(BirefnetError):
    """The device that was asked for is not there, or fails; the text says how to get it."""


class NoDriverError(DeviceError):
    """There is no NVIDIA driver, or no GPU that it can use."""


class NoTensorRTError(DeviceError):
    """TensorRT is not installed."""


class OutOfMemoryError(DeviceError):
    """The GPU's memory is full; what needed it was given back, and smaller work still runs."""


class LostDeviceError(DeviceError):
    """The GPU's context is gone, after a fault on it: only a new process can use the GPU again."""


class PlanError(BirefnetError):
    """A TensorRT plan cannot be used; the text names the command that builds one that can."""


class NoPlanError(PlanError):
    """No plan was built that could run what was asked for."""


class OtherTensorRTError(PlanError):
    """Plans were built, by another version of TensorRT than the one installed."""


class OtherGpuError(PlanError):
    """Plans were built, for another GPU than the one here."""


class DamagedPlanError(PlanError):
    """A plan is damaged, was replaced, or lies where others can write it."""


class OptionError(BirefnetError):
    """An option has a value without meaning."""


class InputError(BirefnetError):
    """One picture cannot be used; ``source`` names it, ``reason`` is the rest of the text."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class DecodeError(InputError):
    """The source is not a picture, is damaged, or has a layout that is not known."""


class FetchError(InputError):
    """The picture's address is refused, or does not give it."""


class TooLargeError(InputError):
    """The picture has more pixels than the limit, or than memory holds."""


class OutputError(BirefnetError):
    """A result cannot be encoded or written."""


class BusyError(BirefnetError):
    """Too many pictures wait already; ``retry_after``: seconds until those there now are done."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many pictures wait already: try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class DeadlineError(BirefnetError):
    """The answer was not there in time."""


class ClosedError(BirefnetError):
    """A Matting was used after ``close``."""


class ForkError(ClosedError):
    """A Matting was used in a child of the process that opened it: threads stay with a parent."""


def one_line(error: BaseException) -> str:
    """The text of ``error`` on one line; its class name where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
