"""What makes a result another one, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from birefnet_runtime.bulk.marks import Marks
from birefnet_runtime.errors import InputError, ModelError
from birefnet_runtime.options import Options
from helpers.tiny_onnx import write_mask_model, write_model_folder


def test_options() -> None:
    def mark(**values: object) -> str:
        return Marks.of({"model": "nano"}, Options(**values)).options  # type: ignore[arg-type]

    assert mark() == mark() == mark(max_pixels=5)
    different = [mark(), mark(feather=0.5), mark(output="alpha"), mark(background="white")]
    assert len(set(different)) == 4
    assert all(len(text) == 16 for text in different)


def test_a_background_counts_by_its_bytes(tmp_path: Path) -> None:
    marks = []
    for name, data in (("a.png", b"1"), ("b.png", b"1"), ("a.png", b"2")):
        (tmp_path / name).write_bytes(data)
        marks.append(Marks.of({"model": "nano"}, Options(background=tmp_path / name)).options)
    assert marks[0] == marks[1] != marks[2]
    with pytest.raises(InputError, match=r"c\.png: cannot be read: No such file"):
        Marks.of({"model": "nano"}, Options(background=tmp_path / "c.png"))


def test_models(tmp_path: Path) -> None:
    one = write_model_folder(tmp_path / "one")
    other = write_model_folder(tmp_path / "other", size=48)
    bare = write_mask_model(tmp_path / "bare.onnx")

    def mark(path: object, **more: object) -> str:
        return Marks.of({"model": path, **more}, Options()).model

    assert mark(one) == mark(str(one)) == mark(one, device="cpu")
    before = mark(bare)
    assert before != mark(bare, activation="sigmoid")
    assert before == mark(bare, threads=2)
    (tmp_path / "bare.contract.json").write_text("{}", encoding="utf-8")
    assert len({before, mark(bare), mark(one), mark(other), mark("nano")}) == 5
    assert mark("nano").startswith("nano ")
    with pytest.raises(ModelError, match="no such model"):
        mark(tmp_path / "missing")
