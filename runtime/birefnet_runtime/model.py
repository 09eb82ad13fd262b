"""Which model, and everything that must be known about it before it can run.

A model is the embedded ``nano``, a model folder, or a bare ``.onnx`` made elsewhere. The first two
carry a contract, which decides. A bare file may have a sidecar ``NAME.contract.json`` with any of
the contract's fields; ``bare`` finds the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from birefnet_export.contract import (
    FILE_NAME,
    ONNX_NAME,
    Contract,
    ContractError,
    parse,
    read,
    verify,
)
from birefnet_runtime.bare import Port, check, complete
from birefnet_runtime.errors import ModelError

NANO = "nano"
NANO_FOLDER = Path(__file__).parent / "models" / NANO


@dataclass(frozen=True)
class Overrides:
    """What a caller says about a bare ONNX file; None leaves it to the sidecar and the table.

    ``mean`` and ``std``: RGB, for pixels in 0..1. ``size``: (height, width). ``activation``:
    ``none`` when the file gives alpha, ``sigmoid`` when it gives logits. ``output``: name of the
    output to use.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size: tuple[int, int] | None = None
    activation: str | None = None
    output: str | None = None

    def to_fields(self) -> dict[str, Any]:
        """The values given, under the contract's names."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        height, width = given.pop("size") or (None, None)
        given.update(height=height, width=width)
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Settled:
    """A contract that fits its file; ``guessed`` when its activation is from a table."""

    contract: Contract
    guessed: bool = False


@dataclass(frozen=True)
class Source:
    """A model that was found: ``path`` is its ONNX file, ``contract`` None for a bare file."""

    path: Path
    contract: Contract | None
    partial: dict[str, Any] = field(default_factory=dict)

    def settle(self, inputs: list[Port], outputs: list[Port]) -> Settled:
        """The contract, complete and checked against the ports of the loaded file.

        Raises ModelError where they contradict each other or something cannot be known.
        """
        if self.contract is not None:
            check(self.contract, self.path, inputs, outputs)
            return Settled(self.contract)
        return Settled(*complete(self.path, self.partial, inputs, outputs))


def locate(model: str | Path, overrides: Overrides | None = None) -> Source:
    """Find ``model``: ``nano``, a model folder, or a bare ``.onnx``.

    Files that a contract lists are compared with its sha256. Raises ModelError when there is no
    such model or overrides are given for one whose contract decides, ContractError when the
    contract is at fault.
    """
    given = (overrides or Overrides()).to_fields()
    path = _find(model)
    if path.is_dir():
        return _from_folder(path, ONNX_NAME, given)
    if not _sidecar(path).exists() and _listed(path):
        return _from_folder(path.parent, path.name, given)
    return Source(path, None, {**_read_sidecar(path), **given})


def folder_of(model: str | Path) -> Path | None:
    """The model folder that ``model`` names, or None for a bare file; ModelError as ``locate``."""
    path = _find(model)
    return path if path.is_dir() else None


def locate_folder(model: str | Path, overrides: Overrides | None = None) -> tuple[Path, Contract]:
    """The model folder ``model`` and its contract, for a plan in it; no ONNX file is looked at.

    Raises ModelError for a bare file or where overrides are given, ContractError.
    """
    folder = folder_of(model)
    if folder is None:
        raise ModelError(
            f"{model} is a bare file: TensorRT needs a model folder from birefnet-export, with a "
            "plan from birefnet-build"
        )
    return folder, _read(folder, (overrides or Overrides()).to_fields())


def _find(model: str | Path) -> Path:
    if str(model) == NANO:
        if not (NANO_FOLDER / FILE_NAME).is_file():
            raise ModelError(
                f"the embedded model nano is not in this installation ({NANO_FOLDER} is empty): "
                "install birefnet-trt again, or name a model folder or an .onnx file"
            )
        return NANO_FOLDER
    path = Path(model)
    if path.is_dir() or (path.is_file() and path.suffix == ".onnx"):
        return path
    if path.exists():
        raise ModelError(f"{path} is neither a model folder nor an .onnx file")
    raise ModelError(f"{path}: no such model; give nano, a model folder or an .onnx file")


def _from_folder(folder: Path, name: str, given: dict[str, Any]) -> Source:
    contract = _read(folder, given)
    return Source(verify(contract, folder, name), contract)


def _read(folder: Path, given: dict[str, Any]) -> Contract:
    contract = read(folder)
    if given:
        raise ModelError(
            f"{folder} has a contract, which decides {', '.join(sorted(given))}: "
            "leave these options out"
        )
    return contract


def _listed(path: Path) -> bool:
    """Whether the folder of ``path`` is a model folder whose contract lists it."""
    return (path.parent / FILE_NAME).is_file() and path.name in read(path.parent).files


def _sidecar(path: Path) -> Path:
    return path.with_name(path.stem + ".contract.json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    """The fields in the sidecar of ``path``; its sha256 is compared when the sidecar lists it."""
    file = _sidecar(path)
    if not file.exists():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ContractError(f"{file} must hold a JSON object")
    if path.name in (data.get("files") or {}):
        listed = parse({"name": path.stem, "height": 1, "width": 1, **data}, str(file))
        verify(listed, path.parent, path.name)
    return data
