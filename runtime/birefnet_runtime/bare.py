"""The contract of an ONNX file that came without one.

Put together from, in this order: what the caller and the sidecar say, the table of known exports,
the file's own inputs and outputs, and the contract's defaults (ImageNet mean and std).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birefnet_export.contract import Contract, parse
from birefnet_runtime.errors import ModelError


@dataclass(frozen=True)
class Port:
    """One input or output of an ONNX file: ``shape`` holds None where a size is left open."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Known:
    """A family of exports, recognised by its names; output ``index`` holds the mask.

    ``count`` is how many outputs it has, None for any number.
    """

    input: str
    output: str | None
    activation: str
    index: int
    count: int | None = None


# An activation cannot be seen in a file, so these names decide it; None stands for any output name.
# BiRefNet lists its side outputs first and its answer last; U2-Net lists d0, its answer, first.
KNOWN = (
    # birefnet_export of this project.
    Known("image", "alpha", "none", -1),
    Known("image", "logits", "sigmoid", -1),
    # BiRefNet's own export notebook; rembg's birefnet-*; onnx-community/BiRefNet-ONNX and _lite.
    Known("input_image", "output_image", "sigmoid", -1),
    # onnx-community/RMBG-2.0 and briaai/RMBG-2.0 onnx/: the sigmoid is in the graph.
    Known("pixel_values", "alphas", "none", -1),
    # rembg's u2net, u2netp, u2net_human_seg, silueta: seven outputs with numbers for names, sigmoid
    # in the graph.
    Known("input.1", None, "none", 0, count=7),
)


def complete(
    path: Path, partial: dict[str, Any], inputs: list[Port], outputs: list[Port]
) -> tuple[Contract, bool]:
    """The contract of the file at ``path``, and whether its activation is from the table.

    ``partial`` holds the fields that are known. Raises ModelError where something cannot be known,
    ContractError where a given field is at fault.
    """
    values = dict(partial)
    port = _choose_input(path, values, inputs)
    known = _recognise(port.name, outputs)
    values.setdefault("name", path.stem)
    values["input"] = port.name
    values["output"] = values.get("output") or _choose_output(path, outputs, known)
    values["batch"], values["height"], values["width"] = _choose_shape(path, values, port)
    guessed = "activation" not in values
    if guessed:
        values["activation"] = _choose_activation(path, port.name, outputs, known)
    contract = parse(values, f"the description of {path}")
    check(contract, path, inputs, outputs)
    return contract, guessed


def _choose_input(path: Path, values: dict[str, Any], inputs: list[Port]) -> Port:
    wanted = values.get("input")
    found = [port for port in inputs if wanted in (None, port.name)]
    if len(found) != 1:
        names = ", ".join(port.name for port in inputs)
        raise ModelError(
            f"{path} has the inputs {names}: a background model has exactly one picture"
        )
    return found[0]


def _recognise(input_name: str, outputs: list[Port]) -> Known | None:
    for known in KNOWN:
        if known.input != input_name or known.count not in (None, len(outputs)):
            continue
        if known.output in (None, outputs[known.index].name):
            return known
    return None


def _choose_output(path: Path, outputs: list[Port], known: Known | None) -> str:
    if known is not None:
        return outputs[known.index].name
    if len(outputs) == 1:
        return outputs[0].name
    names = ", ".join(port.name for port in outputs)
    raise ModelError(f"{path} has {len(outputs)} outputs ({names}): say which with --output-name")


def _choose_shape(path: Path, values: dict[str, Any], port: Port) -> tuple[int, int, int]:
    """(batch, height, width): the file's where it fixes them, else the caller's."""
    if len(port.shape) != 4:
        raise ModelError(f"{path}: input {port.name} has shape {_text(port.shape)}, not [B,3,H,W]")
    batch, _, height, width = port.shape
    height, width = height or values.get("height"), width or values.get("width")
    if height is None or width is None:
        raise ModelError(f"{path} takes any size: say which with --size, for example --size 1024")
    for name, size in (("height", height), ("width", width)):
        if values.get(name, size) != size:
            raise ModelError(
                f"{path} has {name} {size} built in, not {values[name]}: leave out --size"
            )
    return (batch or values.get("batch", 1), height, width)


def _choose_activation(path: Path, name: str, outputs: list[Port], known: Known | None) -> str:
    if known is not None:
        return known.activation
    names = ", ".join(port.name for port in outputs)
    raise ModelError(
        f"{path} ({name} -> {names}) is no export that is known, and a file does not show "
        "whether it gives logits or alpha: say --activation sigmoid or --activation none"
    )


def check(contract: Contract, path: Path, inputs: list[Port], outputs: list[Port]) -> None:
    """Raise ModelError unless the file has the contract's input, with its shape, and its output."""
    shapes = {port.name: port.shape for port in inputs}
    for name, ports in ((contract.input, inputs), (contract.output, outputs)):
        if name not in [port.name for port in ports]:
            names = ", ".join(port.name for port in ports)
            raise ModelError(f"{path} has no {name}, which its contract names; it has {names}")
    shape = shapes[contract.input]
    fits = len(shape) == 4 and all(
        size in (None, wanted) for size, wanted in zip(shape, contract.shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{path}: input {contract.input} has shape {_text(shape)}, "
            f"its contract says {_text(contract.shape)}"
        )


def _text(shape: tuple[int | None, ...]) -> str:
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"
