"""What decides a model's answer, as one JSON file beside the model.

Standard library and Python 3.10 only: the runtime imports this file.

The runtime reads ``contract.json`` and repeats none of its constants. Everything here is data, not
policy.

    BirefnetError                 root of every exception that this project raises on purpose
    └── ContractError             a contract that is missing, unreadable or contradicts its files
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

SCHEMA = 1
FILE_NAME = "contract.json"
ONNX_NAME = "model.onnx"
REFERENCE_NAME = "reference.npz"
PRECISIONS = ("fp16", "fp32")
# ImageNet statistics, RGB, for pixels in 0..1: what every released BiRefNet was trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

ACTIVATIONS = ("none", "sigmoid")
RESAMPLES = ("bilinear-antialias",)
FITS = ("stretch", "pad")
PATCH_ORDERS = ("new", "legacy", "unknown")


class BirefnetError(Exception):
    """Root of every exception that this project raises on purpose; the text says what to do."""


class ContractError(BirefnetError):
    """A contract is missing, unreadable, or does not fit the file it describes."""


@dataclass(frozen=True)
class Contract:
    """Everything that the runtime must know about one ONNX model.

    ``height`` and ``width`` are pixels of the model's input, ``batch`` its fixed leading dimension.
    ``mirror``: whether the model, by its own doing, answers from more images than the picture.
    ``mean`` and ``std`` apply to RGB pixels in 0..1. ``activation`` is what is still to be applied
    to the output: ``none`` when it is alpha in 0..1 already, ``sigmoid`` when it is logits.
    ``files`` maps a file name in the model folder to its sha256. ``parity`` holds the figures that
    export measured, ``checkpoint`` the name and sha256 of the weights.
    """

    name: str
    height: int
    width: int
    task: str = "general"
    batch: int = 1
    mirror: bool = False
    input: str = "image"
    output: str = "alpha"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resample: str = "bilinear-antialias"
    fit: str = "stretch"
    activation: str = "none"
    patch_order: str = "unknown"
    backbone: str = "unknown"
    licence: str = "unknown"
    notice: str = ""
    checkpoint: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ContractError(
                f"contract schema {self.schema} is not {SCHEMA}: export the model again"
            )
        for name in ("height", "width", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ContractError(f"contract {name} must be a positive integer, not {value!r}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ContractError(
                    f"contract {name} is {getattr(self, name)!r}; known: {', '.join(allowed)}"
                )
        for name in ("mean", "std"):
            _check_triple(name, getattr(self, name))
        if not isinstance(self.mirror, bool):
            raise ContractError(f"contract mirror must be true or false, not {self.mirror!r}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Input shape [batch, 3, height, width]."""
        return (self.batch, 3, self.height, self.width)

    def to_json(self) -> str:
        """The contract as indented JSON text with a final newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: Path) -> Path:
        """Write ``contract.json`` into ``folder`` through a temporary name; returns its path."""
        path = folder / FILE_NAME
        write_atomically(path, self.to_json().encode())
        return path


_CHOICES = {
    "activation": ACTIVATIONS,
    "resample": RESAMPLES,
    "fit": FITS,
    "patch_order": PATCH_ORDERS,
}


def _check_triple(name: str, value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 3:
        raise ContractError(f"contract {name} must be three numbers (R, G, B), not {value!r}")
    if not all(isinstance(number, int | float) for number in value):
        raise ContractError(f"contract {name} must be three numbers (R, G, B), not {value!r}")
    if name == "std" and min(value) <= 0:
        raise ContractError(f"contract std must be positive, not {value!r}")


def typed_name(precision: str = "fp16", batch: int = 1, default: int = 1) -> str:
    """File name of the typed graph for TensorRT: ``model.trt.onnx`` for fp16 at the contract's
    batch ``default``; ``.fp32`` and ``.b4`` are put in for another precision and batch.
    """
    parts = ["model", "trt"]
    if precision != PRECISIONS[0]:
        parts.append(precision)
    if batch != default:
        parts.append(f"b{batch}")
    return ".".join([*parts, "onnx"])


def read(path: Path) -> Contract:
    """The contract at ``path``, a ``contract.json`` or the model folder that holds one.

    Raises ContractError when it is missing, is no JSON object, lacks a field or has an unknown one.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(
            f"{file} is missing: is {file.parent} a folder that birefnet-export wrote?"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{file} is not readable as JSON: {error}") from error
    return parse(data, str(file))


def parse(data: object, where: str) -> Contract:
    """A Contract from decoded JSON; ``where`` is named in errors."""
    if not isinstance(data, dict):
        raise ContractError(f"{where} must hold a JSON object")
    known = {item.name for item in fields(Contract)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ContractError(f"{where} has unknown fields: {', '.join(unknown)}")
    values = dict(data)
    for name in ("mean", "std"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    try:
        return Contract(**values)
    except TypeError as error:
        raise ContractError(f"{where} is incomplete: {error}") from error
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from None


def verify(contract: Contract, folder: Path, name: str = ONNX_NAME) -> Path:
    """Path of ``name`` in ``folder`` after its sha256 was found equal to the contract's.

    Raises ContractError when the file is missing, is not listed, or has other bytes.
    """
    path = folder / name
    expected = contract.files.get(name)
    if expected is None:
        raise ContractError(f"{folder / FILE_NAME} lists no {name}: export that target first")
    if not path.is_file():
        raise ContractError(
            f"{path} is missing although {FILE_NAME} lists it: export the model again"
        )
    found = sha256(path)
    if found != expected:
        raise ContractError(
            f"{path} has sha256 {found[:12]}, {FILE_NAME} says {expected[:12]}: "
            "the file is damaged or was replaced; export the model again"
        )
    return path


def sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path`` and rename it: no reader sees half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # mkstemp makes files private; a result gets the mode that the user's umask asks for.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
