"""Where an executor leaves PyTorch: named tensors of the network, compared one by one.

The tensors are those that every form of the network has: each backbone stage of both passes, the
squeeze, each decoder level before and after its attention and lateral, the logits. In ONNX graphs
they are made additional outputs. Of a model that takes more images (``mirror``) they are those of
the picture itself, which comes first, and the logits are of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from birefnet_export.contract import BirefnetError
from birefnet_export.mirror import Mirrored
from birefnet_export.network import BiRefNet
from birefnet_export.parity import Array
from birefnet_runtime.errors import one_line

from . import networks
from .departures import LEVELS, PASSES, STAGES, Departure
from .errors import Unavailable
from .executor import Settings
from .executors import to_tensor
from .sessions import Emulated, open_cpu, with_more
from .subject import Subject

# Float32 rounding reaches 1e-5 at the logits of every network measured; a wrong weight or operator
# shows as a per cent and more.
FLOAT32 = 1e-4
# FP16 keeps 11 bits, and errors add up over some forty blocks: PyTorch's own half run is the
# measure, with room for chance; without it, this.
HALF, TIMES = 0.05, 3.0
YARDSTICK = "torch-half"

Tensors = dict[str, Array]


def examine(
    names: list[str], subject: Subject, settings: Settings, picture: Any
) -> tuple[list[Departure], dict[str, str]]:
    """Every executor of ``names`` that can be looked into, on one uint8 [h,w,3], and the others.

    Raises Unavailable without the network.
    """
    image = to_tensor(picture[None], subject.contract)
    expected = of_network(subject.torch(), image)
    found: dict[str, dict[str, float]] = {}
    missing = {}
    for name in names:
        try:
            tensors = probe(name, subject, settings, image)
        except BirefnetError as error:
            missing[name] = one_line(error)
            continue
        found[name] = {stage: relative(expected[stage], tensors[stage]) for stage in STAGES}
    half = found.get(YARDSTICK)
    return [Departure(name, errors, limits(name, half)) for name, errors in found.items()], missing


def limits(name: str, half: dict[str, float] | None) -> dict[str, float]:
    """What each stage of an executor may be away, relative."""
    if name.startswith("ort"):
        return dict.fromkeys(STAGES, FLOAT32)
    if half is None or name == YARDSTICK or not all(map(math.isfinite, half.values())):
        return dict.fromkeys(STAGES, HALF)
    # Early stages may be luckily exact: never stricter than one rounding to 11 bits.
    return {stage: max(TIMES * error, 2.0**-10) for stage, error in half.items()}


def relative(expected: Array, other: Array) -> float:
    """|other - expected| / |expected|, both as one long vector; infinite where not finite."""
    a, b = expected.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    if a.shape != b.shape:
        raise Unavailable("its graph is not one that birefnet-export writes for these weights")
    error = float(np.linalg.norm(b - a) / max(float(np.linalg.norm(a)), 1e-30))
    return error if math.isfinite(error) else math.inf


def probe(name: str, subject: Subject, settings: Settings, image: Array) -> Tensors:
    """The named tensors of one executor; Unavailable where it cannot be looked into."""
    contract = subject.contract
    batch = np.repeat(image, contract.batch, 0)
    if name == "torch-half":
        network, rounding = networks.prepare(name, subject.torch(), False)
        return of_network(network, image, rounding)
    if name == "ort-cpu":
        model = subject.plain
        places = in_plain(model, subject.inner().config.depths, len(subject.inner().config.kernels))
        session = open_cpu(with_more(model, list(places.values())), settings.threads)
        values = session.run(list(places.values()), {contract.input: batch})
        return _first_rows(places, values)
    if name == "emulated-fp16":
        typed = subject.typed(contract.batch)
        places = in_typed(typed)
        graph = Emulated(typed, settings.threads, list(places.values()))
        return _first_rows(places, graph.run(list(places.values()), batch))
    raise Unavailable("its inner tensors cannot be read")


def _first_rows(places: dict[str, str], values: list[Array]) -> Tensors:
    """Maps [C,h,w] of row 0; ONNX Runtime's graphs keep the backbone's as tokens [h*w,C]."""
    rows = {stage: value[0] for stage, value in zip(places, values, strict=True)}
    return {
        stage: np.ascontiguousarray(row.T) if row.ndim == 2 else row for stage, row in rows.items()
    }


def of_network(
    network: nn.Module, image: Array, rounding: Callable[[], Any] = torch.no_grad
) -> Tensors:
    """The named tensors [C,h,w] of a PyTorch network, float32, by hooks that are gone after."""
    found: Tensors = {}
    inner = network.network if isinstance(network, Mirrored) else network
    hooks = list(_hooks(cast(BiRefNet, inner), found))
    kind = next(network.parameters()).dtype
    try:
        with torch.no_grad(), rounding():
            logits = network(torch.from_numpy(image).to(kind))
            found["logits"] = _keep(logits)
    finally:
        for hook in hooks:
            hook.remove()
    return {stage: found[stage] for stage in STAGES}


def _hooks(network: BiRefNet, found: Tensors) -> Iterator[Any]:
    passes = iter(PASSES)

    def backbone(module: Any, args: Any, maps: list[Tensor]) -> None:
        run = next(passes, None)
        if run is None:  # another image's
            return
        found.update({f"{run}/stage{n}": _keep(one) for n, one in enumerate(maps, 1)})

    yield network.bb.register_forward_hook(backbone)
    yield network.squeeze_module.register_forward_hook(_output(found, "squeeze"))
    decoder = network.decoder
    for level in LEVELS:
        block = decoder.get_submodule(f"decoder_block{level}")
        yield block.register_forward_hook(_output(found, f"level{level}/block"))
        # What a level gives is the first part of what the next block takes, patches are the rest.
        following = decoder.get_submodule(f"decoder_block{level - 1}")
        patches: Any = decoder.get_submodule(f"ipt_blk{level}.conv_out")
        yield following.register_forward_pre_hook(
            _input(found, f"level{level}/out", patches.out_channels)
        )


def _output(found: Tensors, stage: str) -> Callable[[Any, Any, Tensor], None]:
    def hook(module: Any, args: Any, output: Tensor) -> None:
        found.setdefault(stage, _keep(output))

    return hook


def _input(found: Tensors, stage: str, rest: int) -> Callable[[Any, Any], None]:
    def hook(module: Any, args: tuple[Tensor]) -> None:
        found.setdefault(stage, _keep(args[0][:, : args[0].shape[1] - rest]))

    return hook


def _keep(value: Tensor) -> Array:
    array: Array = value[0].detach().float().cpu().numpy().copy()
    return array


def in_typed(model: onnx.ModelProto) -> dict[str, str]:
    """Value names of the stages in a typed graph, whose node names are paths."""
    prefixes = {f"{run}/stage{n}": f"{run}/stage{n}/out/" for run in PASSES for n in (1, 2, 3, 4)}
    prefixes["squeeze"] = "squeeze/Conv"
    for level in LEVELS:
        prefixes[f"level{level}/block"] = f"level{level}/Conv"
        prefixes[f"level{level}/out"] = f"level{level}/lateral/"
    last = {
        stage: node.output[0]
        for node in model.graph.node
        for stage, prefix in prefixes.items()
        if node.name.startswith(prefix)
    }
    last["logits"] = _logits(model)
    return _complete(last)


def in_plain(model: onnx.ModelProto, depths: tuple[int, ...], kernels: int) -> dict[str, str]:
    """Value names of the stages in ``model.onnx``, found by the order of its operators.

    The trace keeps no paths. Every LayerNormalization is the backbone's; a decoder block ends with
    the second Conv after its last DeformConv, its level with the Add behind the sixth.
    """
    nodes = list(model.graph.node)
    norms = [node.output[0] for node in nodes if node.op_type == "LayerNormalization"]
    ends, place = [], 0
    for number, depth in enumerate(depths):
        # Two norms per block, after one of the embedding or of the merging before the stage.
        place += 1 + 2 * depth
        ends.append(place + number)
    count = place + 4
    # Twice as many with smaller images, whose nodes come after the picture's.
    if len(norms) not in (2 * count, 4 * count):
        raise Unavailable("its graph is not one that birefnet-export writes for these weights")
    found = {
        f"{run}/stage{n}": norms[start * count + end]
        for start, run in enumerate(PASSES)
        for n, end in enumerate(ends, 1)
    }
    found.update(_decoder(nodes, kernels + 1))
    found["logits"] = _logits(model)
    return _complete(found)


def _decoder(nodes: list[onnx.NodeProto], branches: int) -> dict[str, str]:
    deforms = [place for place, node in enumerate(nodes) if node.op_type == "DeformConv"]
    if len(deforms) not in (5 * branches, 10 * branches):
        raise Unavailable("its graph is not one that birefnet-export writes for these weights")
    found = {}
    for number, stage in enumerate(("squeeze", *(f"level{level}" for level in LEVELS))):
        start = deforms[(number + 1) * branches - 1]
        convs = [node for node in nodes[start:] if node.op_type == "Conv"]
        found["squeeze" if number == 0 else f"{stage}/block"] = convs[1].output[0]
        if number:
            (last,) = [
                node.output[0]
                for node in nodes
                if node.op_type == "Add" and convs[5].output[0] in node.input
            ]
            found[f"{stage}/out"] = last
    return found


def _logits(model: onnx.ModelProto) -> str:
    """The value before the final sigmoid, or the output itself where it is the logits."""
    output = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if output in node.output]
    name: str = last.input[0] if last.op_type == "Sigmoid" else output
    return name


def _complete(found: dict[str, str]) -> dict[str, str]:
    absent = [stage for stage in STAGES if stage not in found]
    if absent:
        raise Unavailable(f"its graph has no {absent[0]}: export the model again")
    return {stage: found[stage] for stage in STAGES}
