"""Checkpoint to model folder, end to end; the ONNX file gives the official logits."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from birefnet_export import contract, graph, parity, trace
from birefnet_export.__main__ import main, parse_size
from birefnet_export.errors import CheckpointError, ExportError, ParityError, SizeError
from birefnet_export.export import ExportOptions, export
from birefnet_export.fixed import FixedBiRefNet
from birefnet_export.mirror import Mirrored
from birefnet_export.parity import Parity
from birefnet_export.pictures import fixed_pictures
from birefnet_export.rewrites import norm_scales
from birefnet_export.typed import emulate
from golden import scene
from helpers import golden

# ONNX Runtime's own rounding against the official logits: the network's bound in float32.
LOGITS = 5e-4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(golden.small().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "small"
    export(str(weights), out, ExportOptions(size=(96, 160), patch_order="new"))
    return out


@pytest.fixture
def traced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracer, by far the slowest step, answers at once with the graph that it gave ``folder``:
    the small network at 96x160.
    """
    monkeypatch.setattr(trace, "to_onnx", lambda *_: onnx.load(folder / "model.onnx"))


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_folder_holds_what_the_design_says(folder: Path, weights: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "contract.json",
        "model.onnx",
        "model.trt.onnx",
        "reference.npz",
    ]
    assert not list(folder.parent.glob(".small*"))
    found = contract.read(folder)
    assert contract.verify(found, folder) == folder / "model.onnx"
    assert contract.verify(found, folder, "model.trt.onnx").exists()
    assert contract.verify(found, folder, "reference.npz").exists()
    assert (found.name, found.height, found.width, found.backbone) == (
        "small",
        96,
        160,
        "swin_custom",
    )
    assert (found.output, found.activation, found.patch_order) == ("alpha", "none", "new")
    assert found.parity["onnxruntime"]["passed"] is True
    typed = found.parity["tensorrt"]
    assert (typed["precision"], typed["passed"]) == ("fp16", True)
    assert 0 < typed["half"]["mean"] < typed["gate"]["mean"]
    assert found.checkpoint == {
        "name": "small.safetensors",
        "file": "small.safetensors",
        "sha256": contract.sha256(weights),
    }


def test_the_reference_is_pytorchs_alpha(folder: Path) -> None:
    with np.load(folder / "reference.npz") as data:
        image, alpha = data["image"], data["alpha"]
    assert image.dtype == np.uint8
    assert (image.shape, alpha.shape) == ((2, 96, 160, 3), (2, 1, 96, 160))
    with torch.inference_mode():
        expected = golden.small()(golden.to_input(image)).sigmoid().numpy()
    # The same network in another batch size.
    assert np.abs(alpha - expected).max() < 1e-5
    # Not a flat picture, of which any network would be a faithful copy.
    assert expected.std() > 0.01


def test_the_graph_is_clean(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    kinds = graph.operators(model)
    assert kinds["DeformConv"] == 20
    assert not [kind for kind in graph.LEFTOVERS if kinds[kind]]
    assert kinds["BatchNormalization"] == 0
    assert [output.name for output in model.graph.output] == ["alpha"]
    assert [item.domain for item in model.opset_import] == [""]
    # No path or call stack of the exporting machine travels with the model.
    assert b"/birefnet_export/" not in model.SerializeToString()
    produced = {name for node in model.graph.node for name in node.output}
    used = {name for node in model.graph.node for name in node.input} | {"alpha"}
    assert produced <= used | {""}
    names = [initializer.name for initializer in model.graph.initializer]
    assert set(names) <= used
    assert len(names) == len(set(names))


def test_no_weight_is_stored_twice(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    large = [t.raw_data for t in model.graph.initializer if len(t.raw_data) > 4096]
    assert len(large) == len(set(large))


def test_a_compact_graph_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    graph.save(model, plain)
    graph.save(graph.compact(model), small)
    casts = graph.operators(model)["Cast"]
    stored = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(stored) == casts > 10
    assert small.stat().st_size < 0.8 * plain.stat().st_size
    image = golden.to_input(fixed_pictures(1, 96, 160)).numpy()
    expected, found = (session(path).run(["alpha"], {"image": image})[0] for path in (plain, small))
    assert np.array_equal(found, expected)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("compact", [False, True])
def test_compact_is_asked_for(
    compact: bool, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[onnx.ModelProto] = []
    monkeypatch.setattr(graph, "compact", lambda model, _: seen.append(model))
    line = [str(weights), str(tmp_path / "c"), "--size", "96x160", "--patch-order", "new"]
    assert main([*line, "--target", "onnxruntime", *(["--compact"] * compact)]) == 0
    assert len(seen) == compact


def test_weights_that_took_in_a_batch_norm_are_float16_and_a_scale(tmp_path: Path) -> None:
    network = golden.small()
    for value in (*network.parameters(), *network.buffers()):
        value.copy_(value.half())
    model = trace.to_onnx(FixedBiRefNet(network, 64, 64), 1, "small")
    paths = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    graph.save(model, paths[0])
    graph.save(graph.compact(model, [s.numpy() for s in norm_scales(network)]), paths[1])
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"squeeze.conv_in.weight.scale", "squeeze.branches.2.weight.scale"} < names
    assert graph.operators(model)["Mul"] > 5
    image = golden.to_input(fixed_pictures(1, 64, 64)).numpy()
    expected, found = (session(path).run(["logits"], {"image": image})[0] for path in paths)
    assert np.array_equal(found, expected)


def test_what_float16_does_not_hold_stays() -> None:
    exact = np.linspace(-1, 1, 1025, dtype=np.float32)
    values: dict[str, np.ndarray[Any, Any]] = {
        "exact": exact,
        "finer": exact / 3,
        "larger": exact * 1e6,
        "few": exact[:9],
    }
    names = list(values)
    parts = [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]
    node = onnx.helper.make_node("Concat", names, ["y"], axis=0)
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [3084])
    body = onnx.helper.make_graph([node], "g", [], [out], parts)
    model = graph.compact(onnx.helper.make_model(body))
    found = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert found == {"exact.half": half, "finer": single, "larger": single, "few": single}
    (y,) = onnx.reference.ReferenceEvaluator(model).run(None, {})
    assert np.array_equal(y, np.concatenate(list(values.values())))


def test_a_scale_of_one_channel_is_stored_as_well() -> None:
    exact, scale = np.linspace(-1, 1, 1025, dtype=np.float32)[None], np.full(1, 1 / 3, np.float32)
    weight = onnx.numpy_helper.from_array(exact * scale, "w")
    node = onnx.helper.make_node("Neg", ["w"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1025])
    body = onnx.helper.make_graph([node], "g", [], [out], [weight])
    model = graph.compact(onnx.helper.make_model(body), [scale])
    assert graph.operators(model)["Mul"] == 1
    (y,) = onnx.reference.ReferenceEvaluator(model).run(None, {})
    assert np.array_equal(y, -exact * scale)


def test_a_leftover_operator_stops_the_export() -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [out]))
    with pytest.raises(ExportError, match="1 Identity left over"):
        graph.clean(model, "g")


def test_batch_and_logits_head(weights: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        size=(64, 64), batch=2, batches=(1,), patch_order="legacy", head="logits", name="two"
    )
    found = export(str(weights), tmp_path / "two", options)
    assert (found.shape, found.activation, found.name) == ((2, 3, 64, 64), "sigmoid", "two")
    images = golden.to_input(fixed_pictures(2, 64, 64))
    logits = session(tmp_path / "two" / "model.onnx").run(["logits"], {"image": images.numpy()})[0]
    expected = golden.small("new")
    expected.decoder.patch_order = "legacy"
    with torch.inference_mode():
        # float32 rounding of a network of width 16.
        assert np.abs(logits - expected(images).numpy()).max() < 1e-4
    shapes = {}
    for name in ("model.trt.onnx", "model.trt.b1.onnx"):
        inputs = onnx.load(tmp_path / "two" / name).graph.input
        shapes[name] = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
        assert name in found.files
    assert shapes == {"model.trt.onnx": [2, 3, 64, 64], "model.trt.b1.onnx": [1, 3, 64, 64]}


@pytest.mark.parametrize("order", ["new", "legacy"])
def test_onnx_logits_are_the_official_ones(order: str, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_file(golden.state("swin_v1_t"), path)
    options = ExportOptions(
        size=(256, 256), patch_order=order, head="logits", targets=("onnxruntime",)
    )
    export(str(path), tmp_path / "t", options)
    data = golden.case("swin_v1_t", "1x256x256")
    feed = {"image": golden.to_input(data["image"]).numpy()}
    logits = session(tmp_path / "t" / "model.onnx").run(["logits"], feed)[0]
    assert np.abs(logits - data[golden.LOGITS[order]]).max() <= LOGITS


@pytest.mark.slow
def test_the_large_network_at_1024_within_12_gb(tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_file(golden.state("swin_v1_l"), path)
    command = [sys.executable, "-m", "birefnet_export", str(path), str(tmp_path / "l")]
    subprocess.run([*command, "--patch-order", "legacy", "--head", "logits"], check=True)
    # Linux counts the largest child's resident set in KiB; the limit is 12 GB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 12e9
    feed = {"image": golden.to_input(scene.scene()).numpy()}
    logits = session(tmp_path / "l" / "model.onnx").run(["logits"], feed)[0]
    assert golden.from_official("swin_v1_l", "legacy", logits) <= LOGITS
    typed = contract.read(tmp_path / "l").parity["tensorrt"]
    # The design's factor, on two pictures.
    assert typed["emulated"]["mean"] <= 1.25 * typed["half"]["mean"]


def test_with_the_mirror_image(weights: Path, tmp_path: Path) -> None:
    found = export(
        str(weights), tmp_path / "m", ExportOptions((96, 160), patch_order="new", mirror=True)
    )
    assert found.mirror
    assert contract.read(tmp_path / "m") == found
    assert found.parity["onnxruntime"]["passed"]
    assert found.parity["tensorrt"]["passed"]
    with np.load(tmp_path / "m" / "reference.npz") as data:
        x, expected = golden.to_input(data["image"]), data["alpha"]
    run = session(tmp_path / "m" / "model.onnx").run
    answer = np.concatenate([run(None, {"image": one[None].numpy()})[0] for one in x])
    with torch.inference_mode():
        both = Mirrored(golden.small())(x).sigmoid().numpy()
        alone = golden.small()(x).sigmoid().numpy()
    assert np.abs(alone - expected).max() > 1e-3
    assert np.abs(both - expected).max() < 1e-5
    assert np.abs(answer - expected).max() < 1e-5


def test_the_float32_twin_alone(weights: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        size=(64, 64), patch_order="new", targets=("tensorrt",), precision="fp32"
    )
    found = export(str(weights), tmp_path / "twin", options)
    assert sorted(found.files) == ["model.trt.fp32.onnx", "reference.npz"]
    figures = found.parity["tensorrt"]
    # What ONNX Runtime is held to, too.
    assert figures["gate"] == {"mean": parity.ALPHA_MEAN, "p999": parity.ALPHA_MAX}
    assert figures["half"] is None
    assert figures["emulated"]["max"] < 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ExportOptions(targets=("coreml",)), "--target"),
        (ExportOptions(targets=()), "--target"),
        (ExportOptions(precision="int8"), "--precision"),
        (ExportOptions(batches=(0,)), "--batch"),
        (ExportOptions(compact=True, targets=("tensorrt",)), "--compact"),
    ],
)
def test_options_without_meaning(options: ExportOptions, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        export("missing.safetensors", tmp_path / "m", options)


def test_fp16_that_strays_is_rejected(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = emulate.run

    def off(*args: Any) -> Any:
        return real(*args) + np.float32(0.1)

    monkeypatch.setattr(emulate, "run", off)
    options = ExportOptions(size=(64, 64), patch_order="new", targets=("tensorrt",))
    # Two pictures do not pass, so eight are asked.
    with pytest.raises(ParityError, match=r"on 8 pictures: FAILED(.|\n)*small\.rejected"):
        export(str(weights), tmp_path / "small", options)
    found = contract.read(tmp_path / "small.rejected")
    assert found.parity["tensorrt"]["passed"] is False


@pytest.fixture
def bad_parity(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = parity.run_onnx

    def off(*args: Any) -> Any:
        return real(*args) + np.float32(0.1)

    monkeypatch.setattr(parity, "run_onnx", off)
    yield


@pytest.mark.usefixtures("bad_parity", "traced")
def test_past_the_gate_the_files_are_kept_as_rejected(weights: Path, tmp_path: Path) -> None:
    options = ExportOptions(size=(96, 160), patch_order="new", targets=("onnxruntime",))
    with pytest.raises(ParityError, match=r"FAILED(.|\n)*small\.rejected"):
        export(str(weights), tmp_path / "small", options)
    assert [path.name for path in tmp_path.iterdir()] == ["small.rejected"]
    found = contract.read(tmp_path / "small.rejected")
    assert found.parity["onnxruntime"]["passed"] is False


@pytest.mark.usefixtures("bad_parity", "traced")
def test_a_rejected_export_leaves_the_old_model_alone(folder: Path, weights: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    options = ExportOptions(size=(96, 160), patch_order="new", targets=("onnxruntime",))
    with pytest.raises(ParityError):
        export(str(weights), folder, options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_nothing_is_written_for_weights_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError):
        export(str(path), tmp_path / "out" / "m", ExportOptions(patch_order="new"))
    assert [item.name for item in tmp_path.iterdir()] == ["w.safetensors"]


def test_illegal_sizes_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(SizeError, match="multiples of 32"):
        export("missing.safetensors", tmp_path / "m", ExportOptions(size=(100, 96)))


def test_out_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        export("missing.safetensors", tmp_path / "m", ExportOptions())


def test_the_gate() -> None:
    assert Parity(0.9 / 255, 0.01 / 255, 1, 1, 1e-4, 1).passed
    assert not Parity(1.1 / 255, 0.01 / 255, 1, 1, 1e-4, 1).passed
    assert not Parity(0.9 / 255, 0.03 / 255, 1, 1, 1e-4, 1).passed
    assert not Parity(0.9 / 255, 0.01 / 255, 1, 1, 2e-3, 1).passed
    zeros = np.zeros((1, 1, 2, 2), np.float32)
    assert not parity.compare(zeros, np.full_like(zeros, np.nan)).passed


def test_batches_are_always_full() -> None:
    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    parts = [part.ravel().tolist() for part in parity.batches(images, 2)]
    assert parts == [[0, 1], [2, 2]]


@pytest.mark.usefixtures("traced")
def test_the_command(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m"
    assert main([str(weights), str(out), "--size", "96x160", "--patch-order", "new"]) == 0
    said = capsys.readouterr()
    assert "alpha max" in said.out
    assert f"birefnet remove PHOTO.jpg --model {out}" in said.out
    assert "emulated: alpha mean" in said.out
    assert "[7/7]" in said.err
    assert main([str(weights), str(out), "--size", "64"]) == 1
    assert "--patch-order legacy" in capsys.readouterr().err
    assert contract.read(out).width == 160


def test_the_licence_of_rmbg_is_printed_and_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "models--briaai--RMBG-2.0" / "snapshots" / "abc"
    cache.mkdir(parents=True)
    save_file(golden.small().state_dict(), cache / "model.safetensors")
    only = ["--size", "64", "--target", "tensorrt", "--precision", "fp32"]
    assert main([str(cache), str(tmp_path / "rmbg"), *only]) == 0
    assert "non-commercial" in capsys.readouterr().out
    found = contract.read(tmp_path / "rmbg")
    assert (found.licence, found.patch_order) == ("CC-BY-NC-4.0", "legacy")
    assert "non-commercial" in found.notice


@pytest.mark.parametrize(("text", "size"), [("1024", (1024, 1024)), ("1440x2560", (1440, 2560))])
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


def test_help_needs_no_torch() -> None:
    code = "import sys, birefnet_export.__main__ as m; m.parser(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_repeated_rows_are_picked_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = rng.random((3, 1, 60, 60), np.float32)
    table, image = rows[rng.integers(3, size=12)], rng.random((12, 1, 60, 60), np.float32)
    shape = list(table.shape)
    value = onnx.helper.make_tensor_value_info
    kinds = [value(name, onnx.TensorProto.FLOAT, shape) for name in ("image", "logits")]
    node = onnx.helper.make_node("Add", ["image", "table"], ["logits"])
    made = onnx.helper.make_graph(
        [node], "g", kinds[:1], kinds[1:], [onnx.numpy_helper.from_array(table, "table")]
    )
    opsets = [onnx.helper.make_opsetid("", 22)]
    model = graph.clean(onnx.helper.make_model(made, ir_version=10, opset_imports=opsets), "g")
    graph.save(model, tmp_path / "m.onnx")
    # Three rows of twelve, their order and the two nodes.
    assert (tmp_path / "m.onnx").stat().st_size < 0.3 * table.nbytes
    (found,) = session(tmp_path / "m.onnx").run(None, {"image": image})
    assert np.array_equal(found, image + table)
