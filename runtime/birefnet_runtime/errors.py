"""Every exception that the runtime raises on purpose.

    BirefnetError                 root, from the contract
    ├── ContractError             a contract is missing, unreadable or contradicts its files
    ├── ModelError                a model is not there, does not load, or gives no alpha
    ├── DeviceError               the device that was asked for is not there
    ├── OptionError               an option has a value without meaning
    ├── InputError                one picture cannot be used; has ``source`` and ``reason``
    │   ├── DecodeError           it is not a picture, is damaged, or has an unknown layout
    │   └── TooLargeError         it has more pixels than the limit
    ├── OutputError               a result cannot be encoded or written
    └── ClosedError               a Matting was used after ``close``

Every text is one line and says what to do.
"""

from __future__ import annotations

from birefnet_export.contract import BirefnetError, ContractError

__all__ = [
    "BirefnetError",
    "ClosedError",
    "ContractError",
    "DecodeError",
    "DeviceError",
    "InputError",
    "ModelError",
    "OptionError",
    "OutputError",
    "TooLargeError",
    "one_line",
]


class ModelError(BirefnetError):
    """A model is not there, does not load, or gives no alpha."""


class DeviceError(BirefnetError):
    """The device that was asked for is not there; the text names the package that brings it."""


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


class TooLargeError(InputError):
    """The picture has more pixels than the limit, or than memory holds."""


class OutputError(BirefnetError):
    """A result cannot be encoded or written."""


class ClosedError(BirefnetError):
    """A Matting was used after ``close``."""


def one_line(error: BaseException) -> str:
    """The text of ``error`` on one line; its class name where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
