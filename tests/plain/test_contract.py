"""The contract: written, read, refused."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from birefnet_export import contract
from birefnet_export.contract import Contract, ContractError

PLAIN = Contract(name="m", height=64, width=96)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    full = replace(
        PLAIN,
        batch=2,
        mirror=True,
        std=(0.5, 0.25, 1.0),
        files={"model.onnx": "0" * 64},
        parity={"a": {"b": 1}},
    )
    full.write(tmp_path)
    assert contract.read(tmp_path) == full
    assert contract.read(tmp_path / "contract.json") == full
    assert full.shape == (2, 3, 64, 96)
    assert [path.name for path in tmp_path.iterdir()] == ["contract.json"]


def test_imagenet_is_the_default() -> None:
    assert PLAIN.mean == (0.485, 0.456, 0.406)
    assert PLAIN.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height must be a positive integer"),
        ({"width": "64"}, "width must be a positive integer"),
        ({"batch": True}, "batch must be a positive integer"),
        ({"mirror": 1}, "mirror must be true or false"),
        ({"activation": "relu"}, "known: none, sigmoid"),
        ({"patch_order": "old"}, "known: new, legacy, unknown"),
        ({"fit": "crop"}, "fit"),
        ({"resample": "nearest"}, "resample"),
        ({"mean": [0.5, 0.5]}, "three numbers"),
        ({"std": [1, 0, 1]}, "must be positive"),
        ({"schema": 99}, "export the model again"),
        ({"colour": "red"}, "unknown fields: colour"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    data = {**json.loads(PLAIN.to_json()), **change}
    (tmp_path / "contract.json").write_text(json.dumps(data))
    with pytest.raises(ContractError, match=message):
        contract.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', '{"name": "m"}', "\udcff"])
def test_what_is_no_contract(tmp_path: Path, text: str) -> None:
    (tmp_path / "contract.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ContractError, match=r"contract\.json"):
        contract.read(tmp_path)


def test_a_missing_contract_says_what_a_model_folder_is(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="birefnet-export"):
        contract.read(tmp_path)


def test_files_are_compared_with_their_hashes(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"abc")
    listed = replace(PLAIN, files={"model.onnx": contract.sha256(file)})
    assert contract.verify(listed, tmp_path) == file
    file.write_bytes(b"abd")
    with pytest.raises(ContractError, match="damaged or was replaced"):
        contract.verify(listed, tmp_path)
    file.unlink()
    with pytest.raises(ContractError, match="is missing although"):
        contract.verify(listed, tmp_path)
    with pytest.raises(ContractError, match="lists no model"):
        contract.verify(PLAIN, tmp_path)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    contract.write_atomically(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        contract.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["f"]


def test_written_files_have_an_ordinary_mode(tmp_path: Path) -> None:
    contract.write_atomically(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(modes) == 1
