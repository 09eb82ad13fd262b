"""Records: complete, comparable, never without samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import record


def test_a_record_says_what_where_and_with_what(tmp_path: Path) -> None:
    made = record.Record("a test", {"runs": 3}, {"model.onnx": "0" * 64})
    assert made.add("time", "s", "lower", [3.0, 1.0, 2.0]).median == 2.0
    made.missing["cuda"] = "no GPU here"
    path = made.write(tmp_path)
    assert path.name.startswith("a-test-")
    data = json.loads(path.read_text())
    assert data["measures"][0]["samples"] == [3.0, 1.0, 2.0]
    assert set(data["source"]) == {"commit", "clean"}
    assert data["machine"]["cores"] >= 1
    assert data["versions"]["numpy"]
    assert data["missing"] == {"cuda": "no GPU here"}
    assert data["schema"] == record.SCHEMA


def test_a_measure_without_samples_is_no_measure() -> None:
    with pytest.raises(ValueError, match="missing, with the reason"):
        record.Measure("time", "s", "lower", [])
    with pytest.raises(ValueError, match="lower or higher"):
        record.Measure("time", "s", "best", [1.0])


def test_committed_records_are_of_this_schema() -> None:
    for path in record.RESULTS.glob("*.json"):
        data = json.loads(path.read_text())
        assert data["schema"] == record.SCHEMA, path.name
        assert all(measure["samples"] for measure in data["measures"]), path.name
