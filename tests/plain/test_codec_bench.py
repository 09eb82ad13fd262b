"""The codec bench: every encoder runs, what is read back is judged, ratios are of the same way."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codec
from birefnet_runtime.encode import encode
from helpers.pictures import decoded, noise
from measuring import codec_material, regions
from measuring.codec_ours import OursForNothing
from measuring.reading import Reading
from record import Record


def test_every_encoder_is_timed_and_read_back() -> None:
    record = Record("codec", {})
    rgba = noise(30, 40, 4)
    table = codec.encoding(record, "noise", rgba, argparse.Namespace(rounds=1, threads=2))
    names = [row[0] for row in table.rows]
    assert names[0] == codec.YARDSTICK
    assert {codec.ours(1), codec.ours(2), "ZIP", "WebP lossless", "TIFF"} <= set(names)
    exact = record.findings["noise read back bit for bit"]
    both = {"Pillow": True, "OpenCV": True}
    assert exact[codec.ours(2)] == exact[codec.FASTEST] == both
    assert exact["ZIP"] == exact["raw"] == {"Pillow": None, "OpenCV": None}
    sizes = {measure.name: measure.median for measure in record.measures}
    assert sizes["size noise raw"] == rgba.size


def test_what_is_not_the_same_is_said() -> None:
    rgba = noise(9, 9, 4)
    other = rgba.copy()
    other[4, 4, 0] ^= 1
    assert codec.same(encode(other), rgba) == {"Pillow": False, "OpenCV": False}


def answer(seconds: float) -> dict[str, Any]:
    return {"seconds": seconds, "steps": {"decode": seconds / 2, "encode": seconds / 2}}


def test_each_way_is_compared_with_its_own_rival() -> None:
    found = {
        "without foreground, ours": [answer(1.0)] * 3,
        "without foreground, rembg": [answer(5.0)] * 3,
        "with foreground, ours": [answer(2.0)] * 3,
        "with foreground, rembg": [answer(20.0)] * 3,
    }
    record = Record("codec", {})
    rows = {row[0]: row[-1] for row in codec.way_table(record, found).rows}
    assert rows["without foreground, ours"] == ""
    assert rows["without foreground, rembg"].startswith("0.200")
    assert rows["with foreground, rembg"].startswith("0.100")
    assert "way with foreground, ours decode" in {measure.name for measure in record.measures}


def test_the_model_of_no_cost_answers_what_it_is_given(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    np.save(tmp_path / "answer.npy", values)
    (tmp_path / "photo.png").write_bytes(encode(noise(8, 8)))
    ours = OursForNothing()
    ours.open({"answer": str(tmp_path / "answer.npy")})
    options = {"foreground": "off", "output": "alpha"}
    kept = tmp_path / "out.png"
    ours.cut({"path": str(tmp_path / "photo.png"), "options": options, "keep": str(kept)})
    assert np.array_equal(decoded(kept.read_bytes()), np.rint(values * 255))


def test_a_record_becomes_the_tables_of_a_page(tmp_path: Path) -> None:
    record = Record("codec", {"rounds": 1})
    for material in regions.MATERIALS:
        rgba = noise(8, 9, 4)
        codec.encoding(record, material, rgba, argparse.Namespace(rounds=1, threads=1))
    found = {
        f"{way[0]}, {who}": [answer(seconds)]
        for way in codec.WAYS
        for who, seconds in (("ours", 1.0), ("rembg", 8.0))
    }
    codec.way_table(record, found)
    reading = Reading.of(record.write(tmp_path))
    lines = regions.codec([reading]).splitlines()
    assert lines[2].startswith(f"| {codec.YARDSTICK} |")
    assert lines[2].count("|") == 2 + 2 * len(regions.MATERIALS)
    assert "| without foreground | 1000 | 8000 | 0.125 (0.125 to 0.125) |" in regions.codec_way(
        [reading]
    )


@pytest.mark.slow
def test_the_materials_are_what_they_are_called() -> None:
    found = codec_material.materials()
    assert {rgba.shape for rgba in found.values()} == {(3000, 4000, 4)}
    assert found["photograph"][..., 3].min() == 255
    for name in ("cut-out", "product shot"):
        hidden = found[name][..., 3] == 0
        assert 0.3 < hidden.mean() < 0.99
        assert not found[name][hidden].any()
