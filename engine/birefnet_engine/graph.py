"""The exported graph that a plan is built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from birefnet_export import contract as contracts
from birefnet_export.contract import Contract

from .errors import MissingError

# The model inside the package runs on ONNX Runtime; its weights lie in the export room.
NANO = "nano"
_NANO_WEIGHTS = Path(contracts.__file__).parent / "nano" / "nano.safetensors"


@dataclass(frozen=True)
class Graph:
    """One ONNX file of a model folder, its bytes as the contract says.

    ``data`` maps the files of its external data to sha256.
    """

    path: Path
    sha256: str
    data: dict[str, str]
    precision: str
    batch: int


def open_folder(model: str) -> tuple[Path, Contract]:
    """The model folder ``model`` and its contract.

    Raises MissingError when it is the embedded model or no folder, ContractError when its contract
    is at fault.
    """
    if model == NANO:
        raise MissingError(
            "the embedded model nano has no TensorRT graph: "
            f"birefnet-export {_NANO_WEIGHTS} out/nano --size 512, then "
            "birefnet-build out/nano"
        )
    folder = Path(model)
    if not folder.is_dir():
        raise MissingError(
            f"{folder} is no model folder: birefnet-export WEIGHTS {folder} writes one"
        )
    return folder, contracts.read(folder)


def exported_precision(contract: Contract) -> str:
    """The precision that the model was exported in for TensorRT."""
    figures = contract.parity.get("tensorrt")
    return str(figures.get("precision", "fp16")) if isinstance(figures, dict) else "fp16"


def locate(folder: Path, contract: Contract, precision: str, batch: int) -> Graph:
    """The graph of ``precision`` and ``batch``, its files compared with the contract's sha256.

    Raises MissingError with the export that makes it, ContractError when a file is damaged.
    """
    name = contracts.typed_name(precision, batch, contract.batch)
    if name not in contract.files:
        options = [f"--batch {contract.batch},{batch}"] if batch != contract.batch else []
        options += [f"--precision {precision}"] if precision != "fp16" else []
        command = " ".join([f"birefnet-export WEIGHTS {folder}", *options])
        raise MissingError(f"{folder} has no {name}: {command}")
    path = contracts.verify(contract, folder, name)
    data = {item: digest for item, digest in contract.files.items() if item.startswith(f"{name}.")}
    for item in data:
        contracts.verify(contract, folder, item)
    return Graph(path, contract.files[name], data, precision, batch)
