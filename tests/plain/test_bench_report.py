"""``bench/report.py``: tables from a made-up record, regions, and that this clone's pages agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import report
from birefnet_runtime.errors import OptionError
from measuring import charts, regions, tables
from measuring.contestants import rival_base
from measuring.reading import Reading
from record import Record
from report import Place

PART, PRODUCT = "1 MP", 0.1


def write(folder: Path, name: str, **findings: Any) -> Reading:
    """A made-up record: ort-cpu takes 4 products, rembg 12, of which encode takes a quarter."""
    record = Record(name, {}, {"model.onnx": "ab"})
    record.add("copy", "GB/s", "higher", [8.0, 10.0, 12.0])
    for part in (PART, "model, batch 2"):
        record.add(f"{part}: yardstick: total", "s", "lower", [PRODUCT] * 3)
        for who, products in {"ort-cpu": 4.0, "rembg": 12.0}.items():
            record.add(f"{part}: {who}: total", "s", "lower", [products * PRODUCT] * 3)
            if part == PART:
                record.add(f"{part}: {who}: encode", "s", "lower", [products * PRODUCT / 4] * 3)
    record.missing["ort-cuda"] = "no CUDA here"
    record.findings.update(findings)
    folder.mkdir(exist_ok=True)
    return Reading.of(record.write(folder))


@pytest.fixture
def latency(tmp_path: Path) -> Reading:
    # 2 * 2048**3 operations in 0.1 s is what the product reaches; 1e9 bytes take 0.1 s at 10 GB/s.
    work = {PART: {"encode": {"operations": 0.0, "moved": 5e8}}}
    return write(tmp_path / "results", "latency toy", **{"least work": work})


def test_steps_are_multiples_of_the_product_and_rivals_have_ratios(latency: Reading) -> None:
    table = tables.stages(latency)
    assert list(table.head) == ["megapixels", "", "encode", "total", "p95", "against"]
    assert table.rows[0] == ["1", "ort-cpu", "1.00", "4.00 (4.00 to 4.00)", "4.00", "-"]
    assert table.rows[1][1:3] == ["rembg", "3.00"]
    assert table.rows[1][-1] == "3.00 (3.00 to 3.00) of ort-cpu"
    assert table.markdown().splitlines()[1] == "| --- | --- | --- | --- | --- | --- |"


def test_a_batch_counts_by_the_picture(latency: Reading) -> None:
    rows = tables.models(latency).rows
    assert rows[0] == ["batch 2", "ort-cpu", "2.00 (2.00 to 2.00)", "2.00", "-"]


def test_limits_come_from_the_rates_of_the_run(latency: Reading) -> None:
    assert tables.rates(latency, PART) == (2 * 2048**3 / PRODUCT, 10e9)
    # Least: 5e8 bytes at 10 GB/s, 0.05 s; it took 0.1 s.
    assert tables.limits(latency).rows == [["1", "50.0 %"]]


def test_the_terminal_shows_what_is_missing(latency: Reading) -> None:
    shown = "\n".join(table.text() for table in tables.latency(latency))
    assert "ort-cuda  no CUDA here" in shown
    assert "takes 100" in shown


def test_rivals_do_the_same_work() -> None:
    present = ["ort-cpu", "ort-cpu+ml", "rembg", "rembg-dc"]
    assert rival_base("rembg", present) == "ort-cpu"
    assert rival_base("rembg-dc", present) == "ort-cpu+ml"
    assert rival_base("ort-cpu", present) is None
    assert rival_base("ort-cpu+ml", present) is None
    assert rival_base("torch-fp32", present) == "ort-cpu"
    assert rival_base("torch-fp16", ["ort-cpu", "tensorrt"]) == "tensorrt"
    assert rival_base("tensorrt", ["ort-cpu", "tensorrt"]) == "ort-cpu"
    assert rival_base("rembg-dc", ["ort-cpu"]) is None


def held(folder: Path) -> Reading:
    """A made-up record of memory: loading takes 5 products."""
    record = Record("memory toy", {})
    record.add(f"{PART}: yardstick: total", "s", "lower", [PRODUCT])
    for who, peak in {"ort-cpu": 170.0, "rembg": 310.0}.items():
        record.add(f"{PART}: {who}: load", "s", "lower", [5 * PRODUCT])
        record.add(f"{PART}: {who}: first call", "s", "lower", [PRODUCT])
        record.add(f"{PART}: {who}: peak", "MiB", "lower", [peak])
        record.add(f"{PART}: {who}: above the interpreter", "MiB", "lower", [peak - 10])
    return Reading.of(record.write(folder))


def streamed(folder: Path) -> Reading:
    """A made-up record of throughput: half a second a picture, and two."""
    found = {"pictures": {"count": 7, "megapixels": [0.3, 12.0]}}
    record = Record("throughput toy", {}, findings=found)
    record.add("mixed: yardstick: total", "s", "lower", [PRODUCT] * 2)
    for who, seconds in {"ort-cpu": 0.5, "rembg": 2.0}.items():
        record.add(f"mixed: {who}: seconds a picture", "s", "lower", [seconds] * 2)
    return Reading.of(record.write(folder))


def test_the_overview_has_a_row_a_size(tmp_path: Path, latency: Reading) -> None:
    text = regions.overview([latency, held(tmp_path)])
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert row == "| 1 | 1.00 | 4.00 | 3.00 (3.00 to 3.00) | 170, 310 |"
    assert "peak MiB: ort-cpu, rembg" in text
    assert f"`bench/results/{latency.path.name}`" in text
    with pytest.raises(OptionError, match="one of memory"):
        regions.overview([latency])


def test_memory_and_rates_in_words(tmp_path: Path, latency: Reading) -> None:
    text = regions.memory([held(tmp_path)])
    assert "| 1 | rembg | 310 | 300 | - | 5.00 | 1.00 |" in text
    text = regions.throughput([streamed(tmp_path)])
    assert "| rembg | 0.500 | 0.0500 |" in text
    assert "4.00 (4.00 to 4.00) times the time of ort-cpu" in text
    assert "7 JPEG files of 0.3 to 12 megapixels" in text
    # 2 * 2048**3 operations in 0.1 s.
    assert "at 172 GFLOP/s and 10.0 GB/s" in regions.limit([latency])


def page(tmp_path: Path, latency: Reading, region: str = "stages") -> Place:
    text = f"before\n\n<!-- bench:{region} {latency.path.name} -->\n<!-- /bench -->\n\nafter\n"
    (tmp_path / "README.md").write_text(text)
    return Place(tmp_path, tmp_path / "results", ("README.md",))


def test_nano_has_a_row_a_kind(tmp_path: Path) -> None:
    score = {"iou": 0.9, "boundary": 0.6, "mae": 0.04, "empty": 0.01, "scenes": 3, "objects": 2}
    found = {"all": {**score, "s_measure": 0.9, "weighted_f": None}}
    found["empty"] = {**found["all"], "objects": 0}
    record = Record("nano", {})
    for name, value in {"model.onnx": 7.8, "lemur MAE": 0.0123, "lemur SAD": 3.2}.items():
        record.add(name, "s", "lower", [value])
    record.findings["training"] = {
        "runs": 2, "minutes": 95.2, "steps": 4000, "parameters": 1_810_000,
        "machine": {"threads": 2}, "held_out": found,
    }  # fmt: skip
    text = regions.MAKERS["nano"]([Reading.of(record.write(tmp_path))])
    assert "| all | 3 | 0.900 | 0.600 | 0.040 | 0.900 | - |" in text
    assert "| empty | 3 | - | - | 0.040 | - | - |" in text
    for words in (
        "1.81 million",
        "95 minutes of training on 2 cores in 2 runs",
        "7.80 MB",
        "MAE 0.0123",
        "empty scenes is 0.01",
    ):
        assert words in text


def test_a_region_is_filled_and_then_agrees(
    tmp_path: Path, latency: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "FIGURES", {})
    place = page(tmp_path, latency)
    assert report.report(place, check=True) == 1
    assert "rembg" not in (tmp_path / "README.md").read_text()
    assert report.report(place) == 0
    filled = (tmp_path / "README.md").read_text()
    assert "| 1 | rembg | 3.00 |" in filled
    assert filled.startswith("before\n")
    assert filled.endswith("after\n")
    assert report.report(place, check=True) == 0
    (tmp_path / "README.md").write_text(filled.replace("3.00", "9.00", 1))
    assert report.report(place, check=True) == 1


def test_newest_takes_the_last_of_the_same_kind(
    tmp_path: Path, latency: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "FIGURES", {})
    place = page(tmp_path, latency)
    later = latency.path.name.replace(latency.path.stem[-16:], "29991231T235959Z")
    (latency.path.parent / later).write_bytes(latency.path.read_bytes())
    (latency.path.parent / later.replace("toy", "toy-two")).write_bytes(latency.path.read_bytes())
    assert report.report(place) == 0
    assert later not in (tmp_path / "README.md").read_text()
    assert report.report(place, newest=True) == 0
    text = (tmp_path / "README.md").read_text()
    assert f"<!-- bench:stages {later} -->" in text
    assert latency.path.name not in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- bench:nothing -->\n<!-- /bench -->\n", "no region 'nothing'"),
        ("<!-- bench:stages -->\n", "ends <!-- /bench -->"),
        ("<!-- bench:stages -->\n<!-- /bench -->\n", "made from one record"),
        ("<!-- bench:stages gone.json -->\n<!-- /bench -->\n", "is no record"),
    ],
)
def test_a_region_that_cannot_be_filled(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(OptionError, match=reason):
        report.report(Place(tmp_path, tmp_path, ("README.md",)), check=True)


def test_a_figure_knows_its_records(tmp_path: Path, latency: Reading) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib, of the extra dev")
    place = page(tmp_path, latency)
    assert report.report(place) == 0
    figure = tmp_path / "docs" / "bench-stages.png"
    assert figure.stat().st_size < charts.LARGEST
    assert charts.drawn_from(figure) == charts.source_of([latency.path])
    assert report.report(place, check=True) == 0
    latency.path.write_text(json.dumps({**latency.data, "time": "later"}))
    assert report.report(place, check=True) == 1


def test_the_pages_of_this_clone_say_what_their_records_say() -> None:
    assert report.report(Place(), check=True) == 0
