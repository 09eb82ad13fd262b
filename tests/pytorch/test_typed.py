"""The typed graph for TensorRT: the network's answer, types where they belong, FP16 survived."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from birefnet_export import checkpoint, cost, graph
from birefnet_export.contract import IMAGENET_MEAN, IMAGENET_STD, typed_name
from birefnet_export.errors import ExportError
from birefnet_export.fixed import FixedBiRefNet, Grid
from birefnet_export.half import HalfArithmetic, run_half
from birefnet_export.mirror import Mirrored
from birefnet_export.nano import weights
from birefnet_export.network import BiRefNet
from birefnet_export.parity import run_torch
from birefnet_export.pictures import fixed_pictures, normalise
from birefnet_export.swin import WindowAttention
from birefnet_export.typed import dialect, emulate, windows
from birefnet_export.typed.backbone import fusible
from birefnet_export.typed.layers import Choices
from birefnet_export.typed.network import typed_graph
from birefnet_export.typed.proof import MEAN, P999, Distance, Gate, distance, gate
from birefnet_export.typed.tape import FLOAT, HALF, Tape
from helpers import golden

Array = NDArray[np.float32]
CHOICES = [Choices(), Choices(mask="constant", columns="conv"), Choices(islands=False)]
EXAMPLES = Path(__file__).parents[2] / "examples"


def run(model: onnx.ModelProto, images: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    answer: Array = session.run(None, {"image": images})[0]
    return answer


@cache
def network(name: str) -> BiRefNet:
    if name == "nano":
        return checkpoint.load(str(weights.FILE)).network
    return golden.small() if name == "small" else golden.network(name, "new")


def pictures(count: int, size: int) -> Array:
    """Fixed pictures, and the example photographs after them."""
    drawn = list(fixed_pictures(count - 2, size, size)) if count > 2 else []
    for name in ("dahlia", "lemur"):
        with Image.open(EXAMPLES / f"{name}.jpg") as image:
            drawn.append(np.asarray(image.convert("RGB").resize((size, size))))
    return normalise(np.stack(drawn), IMAGENET_MEAN, IMAGENET_STD)


def emulated(model: onnx.ModelProto, images: Array, folder: Path) -> Array:
    path = emulate.save(emulate.emulate(model), folder / "emulated.onnx")
    return emulate.run(path, images, 1)


# The same network


@pytest.mark.parametrize("choices", CHOICES, ids=["default", "constant, conv", "no islands"])
@pytest.mark.parametrize(("size", "batch"), [((96, 160), 1), ((224, 192), 2), ((32, 32), 3)])
def test_in_float32_the_graph_is_the_network(
    choices: Choices, size: tuple[int, int], batch: int
) -> None:
    net = golden.small("legacy")
    images = torch.randn(batch, 3, *size)
    model = typed_graph(
        FixedBiRefNet(net, *size), batch, "small", "fp32", "logits", choices=choices
    )
    with torch.inference_mode():
        expected = net(images).numpy()
    # float32 rounding of a network of width 16, whose logits are about 1.
    assert np.abs(run(model, images.numpy()) - expected).max() < 5e-6


@pytest.mark.parametrize("batch", [1, 2])
def test_with_the_mirror_image(batch: int) -> None:
    net, images = golden.small(), torch.randn(batch, 3, 96, 160)
    fixed = FixedBiRefNet(net, 96, 160, mirror=True)
    model = typed_graph(fixed, batch, "small", "fp32", "logits")
    dialect.check(model)
    dialect.check(typed_graph(fixed, batch, "small"))
    with torch.inference_mode():
        expected = Mirrored(net)(images).numpy()
    # float32 rounding, as above.
    assert np.abs(run(model, images.numpy()) - expected).max() < 5e-6


def test_no_bias_reaches_across_a_seam() -> None:
    net = weights.load()
    for module in net.modules():
        if isinstance(module, WindowAttention):
            # The pixel below is worth more than the 100 that Swin's own mask takes off.
            below = int(module.relative_position_index[0, module.window])
            module.relative_position_bias_table.data[below] = 150.0
    images = torch.randn(1, 3, 96, 160)
    model = typed_graph(FixedBiRefNet(net, 96, 160), 1, "nano", "fp32", "logits")
    with torch.inference_mode():
        expected = net(images).numpy()
    # The design's bound for logits of a graph; a mask of -100 is 0.4 away.
    assert np.abs(run(model, images.numpy()) - expected).max() < 1e-3


@pytest.mark.parametrize("order", ["new", "legacy"])
def test_its_float32_twin_gives_the_official_logits(order: str) -> None:
    net = golden.network("swin_v1_t", order)
    data = golden.case("swin_v1_t", "1x256x256")
    model = typed_graph(FixedBiRefNet(net, 256, 256), 1, "t", "fp32", "logits")
    logits = run(model, golden.to_input(data["image"]).numpy())
    # The network's own bound in float32.
    assert np.abs(logits - data[golden.LOGITS[order]]).max() <= 5e-4


@pytest.mark.parametrize(
    ("height", "width", "window"), [(7, 14, 7), (9, 16, 7), (3, 5, 4), (1, 2, 12), (4, 13, 12)]
)
@pytest.mark.parametrize("shifted", [False, True])
def test_windows_without_gathers(height: int, width: int, window: int, shifted: bool) -> None:
    grid = Grid(height, width, window)
    tape = Tape(FLOAT)
    cut = windows.cut(tape, tape.input("image", (2, height * width, 3)), grid, shifted)
    back = windows.join(tape, cut, grid, shifted)
    last = tape.unary("Relu", tape.add(back, tape.constant(0.0)))
    model = tape.finish(last, "out", "windows")
    model.graph.output.append(helper.make_tensor_value_info(cut.name, FLOAT, cut.shape))
    x = torch.rand(2, height * width, 3)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    joined, found = session.run(None, {"image": x.numpy()})
    assert np.array_equal(joined, x.numpy())
    assert np.array_equal(found.reshape(2, -1, 3), grid.cut(x, shifted).numpy())


# Types


def test_the_graph_stays_in_the_dialect_of_three_parsers() -> None:
    model = typed_graph(FixedBiRefNet(golden.small(), 96, 160), 2, "small")
    dialect.check(model)
    assert [(i.name, i.type.tensor_type.elem_type) for i in model.graph.input] == [("image", FLOAT)]
    assert [o.name for o in model.graph.output] == ["alpha"]
    kinds = graph.operators(model)
    # One GridSample for each kernel size of the five pyramids.
    assert kinds["GridSample"] == 15
    assert not {"DeformConv", "Gelu", "Gather", "BatchNormalization", "Pow"} & set(kinds)


def test_every_sample_and_coordinate_is_float32() -> None:
    model = typed_graph(FixedBiRefNet(golden.small(), 64, 64), 1, "small")
    values = graph.types_and_shapes(model)
    samples = [node for node in model.graph.node if node.op_type == "GridSample"]
    assert {values[name][0] for node in samples for name in node.input} == {FLOAT}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Conv")]
    half = [node for node in products if values[node.output[0]][0] == HALF]
    # Float32: pooled branches, two products each, the three convolutions of the last logits, and
    # the scores of heads of 8 channels: two blocks of the first two stages, in both passes.
    assert {node.name.split("/")[-2] for node in products if node not in half} == {"fp32"}
    assert len(products) - len(half) == 5 * 2 + 3 + 2 * 2 * 2
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 2 * (1 + 2 * 8 + 4 + 3)
    assert {helper.get_node_attr_value(node, "stash_type") for node in norms} == {1}


def broken(change: str) -> onnx.ModelProto:
    model = typed_graph(FixedBiRefNet(golden.small(), 32, 32), 1, "small", "fp32")
    node = {node.op_type: node for node in model.graph.node}
    if change == "opset":
        model.opset_import[0].version = 18
    elif change == "operator":
        node["Erf"].op_type = "Sin"
    elif change == "mode":
        next(a for a in node["GridSample"].attribute if a.name == "mode").s = b"nearest"
    elif change == "stash":
        next(a for a in node["LayerNormalization"].attribute if a.name == "stash_type").i = 16
    elif change == "attribute":
        node["Conv"].attribute.append(helper.make_attribute("group", 1))
    elif change == "dynamic":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("opset", "opset"),
        ("operator", r"\(Sin\): no such operator"),
        ("mode", "mode is b'nearest'"),
        ("stash", "stash_type is 16"),
        ("attribute", "attribute group"),
        ("dynamic", "no static shape"),
    ],
)
def test_leaving_the_dialect_is_an_error(change: str, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        dialect.check(broken(change))


def test_without_islands_it_leaves_the_dialect() -> None:
    model = typed_graph(
        FixedBiRefNet(golden.small(), 32, 32), 1, "small", choices=Choices(islands=False)
    )
    assert any("not FLOAT" in reason for reason in dialect.violations(model))


def test_attention_that_tensorrt_fuses_stays_half() -> None:
    assert [size for size in (8, 12, 16, 20, 24, 32, 64, 256, 264) if fusible(size)] == [
        16, 24, 32, 64, 256,
    ]  # fmt: skip
    model = typed_graph(FixedBiRefNet(golden.small(), 64, 64), 1, "small")
    values = graph.types_and_shapes(model)
    softmax = {n.name: values[n.output[0]][0] for n in model.graph.node if n.op_type == "Softmax"}
    for stage, kind in enumerate((FLOAT, FLOAT, HALF, HALF), 1):
        found = [one for name, one in softmax.items() if f"/stage{stage}/" in name]
        assert found == [kind] * 4


def test_types_do_not_mix() -> None:
    tape = Tape(HALF)
    x = tape.input("image", (1, 3))
    with pytest.raises(AssertionError, match="two types"):
        tape.add(x, tape.cast(x))


def test_weights_beyond_fp16_are_an_error() -> None:
    net = golden.small()
    assert isinstance(net.squeeze_module[0].conv_in, nn.Conv2d)
    net.squeeze_module[0].conv_in.weight.data[0, 0, 0, 0] = 1e6
    fixed = FixedBiRefNet(net, 32, 32)
    with pytest.raises(ExportError, match=r"squeeze/in reaches .* --precision fp32"):
        typed_graph(fixed, 1, "small")
    typed_graph(fixed, 1, "small", "fp32")


# FP16 without a GPU


def tiny(factor: float) -> onnx.ModelProto:
    """image * factor * factor in FP16, back in float32."""
    tape = Tape(HALF)
    x = tape.cast(tape.input("image", (1, 3)))
    number = tape.constant(factor)
    return tape.finish(tape.cast(tape.mul(tape.mul(x, number), number), FLOAT), "alpha", "tiny")


def test_the_emulation_rounds_like_fp16(tmp_path: Path) -> None:
    image = np.array([[0.1, 1.0, -3.3]], np.float32)
    expected = image.astype(np.float16) * np.float16(1.1) * np.float16(1.1)
    found = emulated(tiny(1.1), image, tmp_path)
    assert np.array_equal(found, expected.astype(np.float32))


def test_onnx_runtime_alone_proves_nothing_about_fp16(tmp_path: Path) -> None:
    image = np.ones((1, 3), np.float32)
    # 90,000 is beyond FP16's 65,504, and yet it lives on inside an FP16 graph.
    tape = Tape(HALF)
    number = tape.constant(300.0)
    large = tape.mul(tape.mul(tape.cast(tape.input("image", (1, 3))), number), number)
    model = tape.finish(tape.cast(tape.div(large, number), FLOAT), "alpha", "large")
    assert np.array_equal(run(model, image), 300 * image)
    assert np.isinf(emulated(tiny(300.0), image, tmp_path)).all()


def test_a_run_that_does_not_round_is_found_out(tmp_path: Path) -> None:
    model = emulate.emulate(tiny(1.0))
    for node in model.graph.node:
        if node.name.startswith(f"{emulate.CANARY}/"):
            node.op_type = "Identity"
            del node.attribute[:]
    with pytest.raises(ExportError, match="did not round"):
        emulate.run(emulate.save(model, tmp_path / "m.onnx"), np.ones((1, 3), np.float32), 1)


def test_half_arithmetic_is_pytorchs_half_precision() -> None:
    net = golden.small()
    images = golden.to_input(fixed_pictures(2, 64, 96))
    with torch.inference_mode():
        expected = net(images).numpy()
        native = net.half()(images.half()).float().numpy()
    net = golden.small()
    ours = run_half(net, images.numpy(), 1)
    away = np.abs(native - expected).mean()
    # Both round the same numbers; they differ in the order of a few sums.
    assert np.abs(ours - native).mean() < 0.25 * away
    assert 0.8 * away < np.abs(ours - expected).mean() < 1.25 * away
    assert next(net.parameters()).dtype == torch.float32


def test_half_arithmetic_in_place() -> None:
    half, wide = torch.full((2, 2), 0.1).half(), torch.zeros(2, 2)
    with HalfArithmetic():  # type: ignore[no-untyped-call]
        out = torch.empty(2, 2, dtype=torch.half)
        torch.mm(half, half, out=out)
        half.add_(1)
        wide.add_(half)
    assert torch.equal(out, torch.full((2, 2), 2 * 0.0999755859375**2).half())
    assert torch.equal(wide, torch.full((2, 2), 1.0999755859375).half().float())


def distances(name: str, size: int, count: int, folder: Path) -> dict[str, Distance]:
    """PyTorch's half run, the typed graph and, at small sizes, the graph without islands; all
    against float32.
    """
    net, images = network(name), pictures(count, size)
    expected = run_torch(net, images, 1)
    fixed = FixedBiRefNet(net, size, size)
    found = {"half": distance(expected, run_half(net, images, 1))}
    variants = {"typed": Choices(), "naive": Choices(islands=False)}
    if size >= 1024:
        del variants["naive"]
    for label, choices in variants.items():
        model = typed_graph(fixed, 1, name, "fp16", "logits", choices)
        logits = emulated(model, images, folder)
        found[label] = distance(expected, logits)
    return found


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        # Half precision hardly moves trained weights, so few pictures decide by chance: over eight
        # the ratio of the fifth run's was 1.23 with two of PyTorch's threads and 1.37 with one,
        # over 24 1.01 and 1.07; that of the eighth run's is 0.80 and 0.87, over 24 0.82 and 0.80.
        ("nano", 384, 24),
        ("swin_v1_t", 256, 6),
        pytest.param("swin_v1_l", 256, 4, marks=pytest.mark.slow),
        pytest.param("swin_v1_t", 1024, 2, marks=pytest.mark.slow),
    ],
)
def test_fp16_is_as_near_as_pytorchs_own(name: str, size: int, count: int, tmp_path: Path) -> None:
    found = distances(name, size, count, tmp_path)
    half, typed = found["half"], found["typed"]
    # The design's factor; both figures are sums of chance over `count` pictures.
    assert typed.mean <= 1.25 * half.mean
    if "naive" in found:
        # What the islands are for.
        assert found["naive"].mean > 1.2 * typed.mean
    if name == "nano":
        # Trained weights: 99.9 % of the pixels within two levels, a quarter of one on average.
        assert typed.p999 <= P999
        assert typed.mean <= MEAN


# Gates and figures


def test_gates() -> None:
    sharp, blunt = Distance(0.1 / 255, 0.9 / 255, 1, 1, 2), Distance(0.5 / 255, 4 / 255, 1, 1, 2)
    assert gate(None) == Gate(0.02 / 255, 1 / 255)
    assert gate(sharp) == Gate(0.125 / 255, 2 / 255)
    assert gate(dataclasses.replace(sharp, mean=0.24 / 255)).mean == 0.25 / 255
    assert gate(dataclasses.replace(sharp, mean=0.001 / 255)).mean == 0.02 / 255
    assert gate(blunt) == Gate(0.625 / 255, 5 / 255)
    assert gate(blunt).admits(blunt)
    assert not gate(sharp).admits(blunt)
    zeros = np.zeros((1, 1, 2, 2), np.float32)
    assert not gate(blunt).admits(distance(zeros, np.full_like(zeros, np.nan)))


def test_names_of_the_files() -> None:
    assert typed_name() == "model.trt.onnx"
    assert typed_name(batch=4) == "model.trt.b4.onnx"
    assert typed_name("fp32", 4, 4) == "model.trt.fp32.onnx"
    assert typed_name("fp32", 1, 4) == "model.trt.fp32.b1.onnx"


def test_cost_by_shapes() -> None:
    tape = Tape(HALF)
    x = tape.cast(tape.input("image", (1, 3, 8, 8)))
    x = tape.conv(x, tape.constant(np.ones((5, 3, 3, 3))), None)
    x = tape.reshape(x, 1, 5, 64)
    x = tape.matmul(x, tape.constant(np.ones((64, 2))))
    found = cost.cost(tape.finish(tape.cast(x, TensorProto.FLOAT), "alpha", "g"))
    assert found.nodes == 5
    assert found.gmac * 1e9 == pytest.approx(5 * 64 * 27 + 5 * 2 * 64)
    moved = (192 * 4 + 192 * 2) + 2 * (192 + 135 + 320) + 2 * (320 + 128 + 10) + 10 * (2 + 4)
    assert found.gigabytes * 1e9 == pytest.approx(moved)
