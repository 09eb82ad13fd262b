"""The load bench on the service itself: small loads, and the record that they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

import serve
from measuring.fixed import Fixed
from measuring.reading import Reading
from measuring.serving import tables
from measuring.serving.parts import BATCH, CALLERS, WAYS, kinds
from measuring.serving.wanted import LITSERVE, NANO, OURS, REMBG, Wanted

SMALL = {"megapixels": 0.02, "connections": (1, 4), "requests": 6, "paced": 10, "rounds": 1}


def test_ours_is_measured_and_the_absent_are_named(tmp_path: Path) -> None:
    parts = ("closed", "load")
    wanted = Wanted(Fixed(0.01, side=32), parts=parts, results=tmp_path, **SMALL)  # type: ignore[arg-type]
    reading = Reading.of(serve.run(wanted))
    assert reading.parts == ["closed 1", "closed 4", "load even", "load poisson"]
    assert {LITSERVE, REMBG} < set(reading.missing)
    # A hundred pictures a second are the stub's limit, which nothing passes.
    assert 0 < reading.get("closed 4", OURS, "rate")[0] <= 105
    assert reading.get("closed 1", OURS, "p50")[0] >= 0.01
    assert not {"failed", "refused"} & set(reading.data["findings"])
    assert [row[1] for row in tables.closed(reading).rows] == [OURS, OURS]


@pytest.mark.slow
def test_nano_fuller_runs_and_memory_are_measured(tmp_path: Path) -> None:
    parts = ("nano", "batching", "soak")
    wanted = Wanted(Fixed(0.02, side=32), soak=20, parts=parts, results=tmp_path, **SMALL)  # type: ignore[arg-type]
    reading = Reading.of(serve.run(wanted))
    assert reading.get("nano 4", NANO, "rate")[0] > 0
    assert len(tables.nano(reading).rows) == 2
    busy = f"batching by the run, closed {CALLERS[1]}"
    assert reading.names(busy) == list(WAYS)
    # A run of up to BATCH takes as long as a run of one: 16 callers fill them. Neither passes the
    # stub's limit, by more than what its few requests leave out at their edges.
    alone, fuller = (reading.get(busy, way, "rate")[0] for way in ("off", "wait 0 ms"))
    limit = kinds(wanted.fixed)["by the run"].limit
    assert alone <= 1.05 * limit / BATCH
    assert 1.5 * alone < fuller <= 1.05 * limit
    assert len(tables.batching(reading).rows) == 2 * len(WAYS)
    held = reading.get("soak", OURS, "memory")
    # A Python with NumPy and OpenCV holds more than the first, a growth of the second is a leak.
    assert len(held) == 10
    assert min(held) > 20
    assert held[-1] < 2 * held[0]
