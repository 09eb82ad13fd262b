"""A model is found, and its contract is known or the error says what to add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from birefnet_export.contract import IMAGENET_MEAN, Contract, sha256
from birefnet_runtime import model as module
from birefnet_runtime.bare import Port
from birefnet_runtime.errors import ContractError, ModelError
from birefnet_runtime.model import Overrides, Settled, locate
from helpers.tiny_onnx import write_mask_model, write_model_folder

PICTURE = Port("input_image", (1, 3, 64, 48))


def settle(
    path: Path,
    inputs: list[Port] | None = None,
    outputs: list[str] | None = None,
    **overrides: Any,
) -> Settled:
    """What is known about a bare file with these ports; the file itself is not read."""
    path.touch()
    ports = [Port(name, (1, 1, None, None)) for name in outputs or ["output_image"]]
    return locate(path, Overrides(**overrides)).settle(inputs or [PICTURE], ports)


def sidecar(path: Path, **values: Any) -> None:
    path.with_name(path.stem + ".contract.json").write_text(json.dumps(values))


def test_model_folder(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    source = locate(folder)
    assert source.path == folder / "model.onnx"
    assert source.contract is not None
    assert source.contract.name == "tiny"
    # The file inside is the same model; its contract is not lost by naming it.
    assert locate(folder / "model.onnx") == source


def test_folder_without_contract_or_with_other_bytes(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"contract\.json is missing"):
        locate(tmp_path)
    folder = write_model_folder(tmp_path / "model")
    with (folder / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(ContractError, match="damaged or was replaced"):
        locate(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ContractError, match="is missing although"):
        locate(folder)


def test_a_contract_is_not_overridden(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "model")
    with pytest.raises(ModelError, match="decides activation: leave"):
        locate(folder, Overrides(activation="none"))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model; give nano"):
        locate(tmp_path / "missing")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ModelError, match="neither a model folder nor"):
        locate(tmp_path / "a.txt")


def test_nano_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NANO_FOLDER", tmp_path)
    with pytest.raises(ModelError, match="install birefnet-trt again"):
        locate("nano")


@pytest.mark.parametrize(
    ("source", "outputs", "activation", "output"),
    [
        ("image", ["alpha"], "none", "alpha"),
        ("image", ["logits"], "sigmoid", "logits"),
        ("input_image", ["output_image"], "sigmoid", "output_image"),
        ("input_image", ["a", "b", "output_image"], "sigmoid", "output_image"),
        ("pixel_values", ["alphas"], "none", "alphas"),
        ("input.1", ["1959", "1960", "1961", "1962", "1963", "1964", "1965"], "none", "1959"),
    ],
)
def test_known_exports(
    tmp_path: Path, source: str, outputs: list[str], activation: str, output: str
) -> None:
    settled = settle(tmp_path / "a.onnx", [Port(source, (1, 3, 64, 48))], outputs)
    contract = settled.contract
    assert settled.guessed
    assert (contract.activation, contract.output, contract.input) == (activation, output, source)
    assert (contract.name, contract.shape, contract.mean) == ("a", (1, 3, 64, 48), IMAGENET_MEAN)


def test_unknown_exports_need_a_word(tmp_path: Path) -> None:
    port = [Port("x", (1, 3, 8, 8))]
    with pytest.raises(ModelError, match=r"x -> y\) is no export.*--activation"):
        settle(tmp_path / "a.onnx", port, ["y"])
    with pytest.raises(ModelError, match=r"2 outputs \(y, z\).*--output-name"):
        settle(tmp_path / "a.onnx", port, ["y", "z"], activation="none")
    settled = settle(tmp_path / "a.onnx", port, ["y", "z"], activation="none", output="z")
    assert (settled.contract.output, settled.guessed) == ("z", False)
    with pytest.raises(ModelError, match="has no q"):
        settle(tmp_path / "a.onnx", port, ["y", "z"], activation="none", output="q")


def test_size_of_a_file_that_takes_any(tmp_path: Path) -> None:
    port = [Port("input_image", (None, 3, None, None))]
    with pytest.raises(ModelError, match="--size 1024"):
        settle(tmp_path / "a.onnx", port)
    assert settle(tmp_path / "a.onnx", port, size=(96, 64)).contract.shape == (1, 3, 96, 64)


def test_size_that_is_built_in(tmp_path: Path) -> None:
    assert settle(tmp_path / "a.onnx", size=(64, 48)).contract.shape == (1, 3, 64, 48)
    with pytest.raises(ModelError, match="height 64 built in, not 32"):
        settle(tmp_path / "a.onnx", size=(32, 48))


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (Port("input_image", (1, 64)), r"\[1,64\], not \[B,3,H,W\]"),
        (Port("input_image", (1, 1, 8, 8)), r"\[1,1,8,8\], its contract says \[1,3,8,8\]"),
        (Port("input_image", (1, 8, 8, 3)), r"its contract says \[1,3,8,3\]"),
    ],
)
def test_input_of_another_layout(tmp_path: Path, port: Port, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        settle(tmp_path / "a.onnx", [port])


def test_two_inputs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="inputs input_image, mask"):
        settle(tmp_path / "a.onnx", [PICTURE, Port("mask", (1, 1, 64, 48))])


def test_sidecar_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    sidecar(path, name="isnet", mean=[0.5, 0.5, 0.5], std=[1, 1, 1], activation="none")
    contract = settle(path).contract
    assert (contract.name, contract.mean, contract.std) == ("isnet", (0.5,) * 3, (1, 1, 1))
    assert (contract.activation, contract.output) == ("none", "output_image")
    settled = settle(path, activation="sigmoid", mean=(0.0, 0.0, 0.0))
    assert settled.contract.activation == "sigmoid"
    assert settled.contract.mean == (0, 0, 0)
    assert not settled.guessed


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", "not readable as JSON"),
        ("[]", "must hold a JSON object"),
        ('{"colour": 1}', "unknown fields: colour"),
        ('{"activation": "relu"}', "activation is 'relu'"),
        ('{"std": [0, 1, 1]}', "std must be positive"),
        ('{"files": {"a.onnx": "00"}}', "damaged or was replaced"),
    ],
)
def test_bad_sidecar(tmp_path: Path, text: str, wanted: str) -> None:
    (tmp_path / "a.contract.json").write_text(text)
    with pytest.raises(ContractError, match=wanted):
        settle(tmp_path / "a.onnx")


def test_sidecar_with_the_right_hash(tmp_path: Path) -> None:
    path = write_mask_model(tmp_path / "a.onnx")
    sidecar(path, files={"a.onnx": sha256(path)})
    assert locate(path).partial == {"files": {"a.onnx": sha256(path)}}


def test_contract_that_does_not_fit_the_file(tmp_path: Path) -> None:
    source = locate(write_model_folder(tmp_path / "model", size=32))
    outputs = [Port("alpha", (1, 1, 32, 32))]
    with pytest.raises(ModelError, match=r"\[1,3,16,16\], its contract says \[1,3,32,32\]"):
        source.settle([Port("image", (1, 3, 16, 16))], outputs)
    with pytest.raises(ModelError, match="has no image"):
        source.settle([Port("x", (1, 3, 32, 32))], outputs)
    with pytest.raises(ModelError, match="has no alpha"):
        source.settle([Port("image", (1, 3, 32, 32))], [Port("y", (1, 1, 32, 32))])
    assert isinstance(source.contract, Contract)
