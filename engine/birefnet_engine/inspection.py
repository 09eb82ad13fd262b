"""What TensorRT made of the network: its engine inspector's JSON, read defensively.

Standard library only. Two formats are known: 8.6 and 10 list the engine's ends under ``Bindings``
as names and give a tensor's layout and type together as ``Format/Datatype``; 11 lists them under
``I/O Tensors`` as objects and gives ``Format`` and ``DataType`` apart. Whatever is missing or of
another shape counts as unknown: an inspection never stops a build.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Names of TensorRT's fused attention kernels, such as _gemm_mha_v2 and fmha_v2.
_ATTENTION = re.compile(r"(?<![a-z])f?mha(?![a-z])", re.IGNORECASE)
# A softmax by itself: as a layer, or as the row of pointwise steps that a generated kernel fuses.
_SOFTMAX = re.compile(r"softmax|max\w*sub\w*exp\w*sum", re.IGNORECASE)
_GRID_SAMPLE = re.compile(r"grid_?sample", re.IGNORECASE)
# A region that TensorRT compiled as a whole; 8.6 does not say what is inside.
_REGION = re.compile(r"ForeignNode|^myelin$", re.IGNORECASE)
# Type words as the versions write them, longest first: "Float" would also match in BFloat16.
_TYPES = (
    ("bf16", r"bf16|bfloat16"),
    ("fp8", r"fp8|e4m3"),
    ("fp16", r"fp16|half|float16"),
    ("fp32", r"fp32|float"),
    ("int8", r"(?<!u)int8"),
    ("uint8", r"uint8"),
    ("int32", r"int32"),
    ("int64", r"int64"),
    ("bool", r"bool"),
)
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Layer:
    """One layer of an engine; ``inputs`` and ``outputs`` are types such as ``fp16``."""

    name: str
    kind: str
    tactic: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def region(self) -> bool:
        """Whether it is a region whose inside is not shown."""
        return bool(_REGION.search(self.name) or _REGION.search(self.kind))

    @property
    def attention(self) -> bool:
        """Whether it is a fused attention."""
        return bool(_ATTENTION.search(self.tactic)) or (
            not self.region and bool(_ATTENTION.search(self.name))
        )

    @property
    def softmax(self) -> bool:
        """Whether it is a softmax outside a fused attention, which attention in pieces shows by."""
        if self.region or self.attention:
            return False
        return any(_SOFTMAX.search(text) for text in (self.kind, self.tactic, _own(self.name)))

    @property
    def grid_sample(self) -> bool:
        """Whether it samples at the offsets of a deformable convolution."""
        return any(_GRID_SAMPLE.search(text) for text in (self.kind, self.tactic, _own(self.name)))


def _own(name: str) -> str:
    """A layer's name without the ONNX paths that it may be made of."""
    return "" if "/" in name else name


@dataclass(frozen=True)
class Inspection:
    """An engine: its layers, its ends, and bytes of memory.

    ``context`` is device memory of one execution context without weights, ``weights`` the weights'
    bytes or None where this TensorRT does not tell.
    """

    layers: tuple[Layer, ...]
    ends: dict[str, str]
    context: int
    weights: int | None = None
    notes: tuple[str, ...] = field(default=())

    def summary(self) -> dict[str, Any]:
        """What the manifest keeps."""
        samples = [layer for layer in self.layers if layer.grid_sample]
        return {
            "layers": len(self.layers),
            "kinds": _counted(layer.kind for layer in self.layers),
            "precisions": _counted(_precision(layer) for layer in self.layers),
            "regions": sum(layer.region for layer in self.layers),
            "fused_attention": sum(layer.attention for layer in self.layers),
            "softmax_alone": sum(layer.softmax for layer in self.layers),
            "grid_sample": _counted("+".join(layer.inputs) or UNKNOWN for layer in samples),
            "ends": self.ends,
            "context_bytes": self.context,
            "weights_bytes": self.weights,
            "notes": list(self.notes),
        }


def _precision(layer: Layer) -> str:
    """The type of what a layer gives; ``fp16+fp32`` where it gives several."""
    return "+".join(sorted(set(layer.outputs))) or UNKNOWN


def _counted(items: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(items).items(), key=lambda item: (-item[1], item[0])))


def read(text: str, context: int, weights: int | None) -> Inspection:
    """An Inspection from the JSON ``text`` of an engine, with its memory in bytes."""
    try:
        # Metadata holds raw control characters, which strict JSON forbids.
        data = json.loads(text, strict=False)
    except ValueError as error:
        return Inspection((), {}, context, weights, (f"the inspector's JSON is damaged: {error}",))
    if not isinstance(data, dict):
        return Inspection((), {}, context, weights, ("the inspector gave no JSON object",))
    layers = tuple(_layer(item) for item in _items(data.get("Layers")))
    notes = () if any(layer.outputs for layer in layers) else ("layers without details",)
    return Inspection(layers, _ends(data), context, weights, notes)


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _layer(item: object) -> Layer:
    """A layer from an object, or from the bare name that it is without details."""
    if not isinstance(item, dict):
        return Layer(str(item), UNKNOWN, "")
    return Layer(
        name=str(item.get("Name", "")),
        kind=str(item.get("LayerType", UNKNOWN)),
        tactic=str(item.get("TacticName", "")),
        inputs=tuple(type_of(tensor) for tensor in _items(item.get("Inputs"))),
        outputs=tuple(type_of(tensor) for tensor in _items(item.get("Outputs"))),
    )


def _ends(data: dict[str, Any]) -> dict[str, str]:
    """Name -> type of the engine's inputs and outputs; unknown where only names are given."""
    if "I/O Tensors" in data:
        tensors = [item for item in _items(data["I/O Tensors"]) if isinstance(item, dict)]
        return {str(item.get("Name", "")): type_of(item) for item in tensors}
    return {str(name): UNKNOWN for name in _items(data.get("Bindings"))}


def type_of(tensor: object) -> str:
    """The element type of an inspected tensor, such as ``fp16``."""
    if not isinstance(tensor, dict):
        return UNKNOWN
    keys = ("DataType", "Datatype", "Format/Datatype", "Format/DataType", "Format")
    for key in keys:
        text = str(tensor.get(key, "")).lower()
        for name, pattern in _TYPES:
            if re.search(pattern, text):
                return name
    return UNKNOWN
