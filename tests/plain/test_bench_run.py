"""``make bench`` on a toy model: real processes, few rounds, complete records."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import latency
import memory
import throughput
from birefnet_export.contract import Contract
from birefnet_runtime import Matting
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.errors import OptionError
from helpers.fake_device import FakeDevice, FakeEngine
from measuring import contestants, options, part, pictures
from measuring.child import Child, ContestantError
from measuring.options import Wanted, find
from measuring.ours_child import Ours
from measuring.part import main_of
from measuring.reading import Reading
from record import Record

SMALL = (64, 48)


class Yardstick:
    """Answers at once what the real one needs seconds for."""

    def ask(self, do: str) -> dict[str, float]:
        return {"matmul": {"seconds": 0.1}, "copy": {"rate": 1e10}}[do]


@pytest.fixture
def wanted(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    """One contestant, one thread, one small picture called 1 megapixel."""
    monkeypatch.setitem(pictures.SIZES, 1, SMALL)
    monkeypatch.setattr(pictures, "mixed_sizes", lambda count, largest: [SMALL] * count)
    for script in (latency, throughput, memory):
        monkeypatch.setattr(script, "start_yardstick", lambda wanted, stack: Yardstick())
    return Wanted(
        model=str(tiny),
        executors=("ort-cpu",),
        sizes=(1,),
        rounds=2,
        starts=1,
        passes=1,
        pictures=3,
        results=tmp_path,
    )


def test_latency_has_every_step_and_the_yardstick(
    wanted: Wanted, capsys: pytest.CaptureFixture[str]
) -> None:
    reading = Reading.of(latency.run(wanted))
    assert reading.parts == ["1 MP", "model, batch 1"]
    assert reading.names("1 MP") == ["ort-cpu"]
    steps = {"decode", "preprocess", "model", "refine", "encode"}
    assert steps <= set(reading.steps("1 MP", "ort-cpu"))
    assert len(reading.get("1 MP", "yardstick")) == len(reading.get("1 MP", "ort-cpu")) == 2
    work = reading.data["findings"]["least work"]["1 MP"]
    assert work["refine"]["moved"] == 4 * 32 * 32 + SMALL[0] * SMALL[1]
    assert reading.data["findings"]["alpha"] == {"ort-cpu": 0.0}
    assert "percent of the limit" in capsys.readouterr().out
    # Where this machine keeps things is no part of a record.
    assert "results" not in reading.data["configuration"]


def test_throughput_saves_every_picture(wanted: Wanted) -> None:
    reading = Reading.of(throughput.run(wanted))
    assert reading.data["findings"]["pictures"]["count"] == 3
    assert len(reading.get("mixed", "ort-cpu", "seconds a picture")) == 1


def test_memory_is_of_a_fresh_process(wanted: Wanted) -> None:
    reading = Reading.of(memory.run(wanted))
    peak, above = (
        reading.get("1 MP", "ort-cpu", step)[0] for step in ("peak", "above the interpreter")
    )
    assert peak > above > 0
    assert {"load", "first call"} <= set(reading.steps("1 MP", "ort-cpu"))


def test_those_that_are_missing_are_listed(wanted: Wanted) -> None:
    everyone = contestants.line_up(replace(wanted, executors=()), find(wanted))
    chosen = [one for one in everyone if one.name.startswith(("tensorrt", "torch", "rembg"))]
    with ExitStack() as stack:
        found, missing = contestants.open_all(chosen[1:], 1, stack)
    assert not found
    assert "--weights" in missing["torch-fp32"]
    assert "REMBG=" in missing["rembg-dc"]
    with pytest.raises(OptionError, match=r"nothing to measure.*rembg: not asked for"):
        contestants.refuse_none(found, missing)


def test_a_named_one_that_is_missing_is_an_error(
    wanted: Wanted, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [wanted.model, f"--results={wanted.results}", "--executors"]
    assert main_of("", [latency.run], [*argv, "rembg"]) == 1
    assert "rembg cannot run here: not asked for" in capsys.readouterr().err
    assert main_of("", [latency.run], [*argv, "nobody"]) == 1
    assert "no contestant ['nobody']" in capsys.readouterr().err


def test_options_without_sense() -> None:
    for argv, reason in ((["--sizes", "7"], "1, 12, 24"), (["--rounds", "0"], "1 or more")):
        with pytest.raises(OptionError, match=reason):
            options.parse(_parsed(argv))
    with pytest.raises(OptionError, match="no foreground magic"):
        options.parse(_parsed(["--foreground", "magic"]))


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return parser.parse_args(argv)


def test_a_contestant_that_fails_is_left_out_with_its_reason() -> None:
    record = Record("toy", {})

    def fail() -> int:
        raise ContestantError("out of luck")

    assert list(part.proven(record, "1 MP", {"good": lambda: 1, "bad": fail})) == ["good"]
    assert record.missing == {"1 MP: bad": "out of luck"}


def test_the_yardstick_measures_two_rates() -> None:
    with ExitStack() as stack:
        child = part.start_yardstick(Wanted(threads=2), stack)
        assert child.ask("matmul")["seconds"] > 0
        assert child.ask("copy")["rate"] > 0


def test_a_child_answers_with_its_errors_and_ends() -> None:
    with Child("yardstick_child", 1) as child:
        with pytest.raises(ContestantError, match="KeyError"):
            child.ask("nonsense")
        peak = child.ask("peak")
        assert peak["peak"] >= peak["bare"] > 0
    with pytest.raises(ContestantError, match="does not start"):
        Child("yardstick_child", 1, "/no/such/python")
    with (
        Child("no_such_module", 1, sys.executable) as lost,
        pytest.raises(ContestantError, match="status 1"),
    ):
        lost.ask("open")


def test_on_a_gpu_the_model_alone_is_timed_by_events() -> None:
    size = (24, 40)
    contract = Contract(name="fake", height=size[0], width=size[1])
    gpu = FakeDevice()
    with gpu.active():
        engine = FakeEngine(gpu, lambda planes: 1 / (1 + np.exp(-planes.mean(0))), size)
        backend = CudaBackend(gpu, engine, b"cubin", contract, "tensorrt")
    with Matting(backend) as matting:
        ours = Ours(backend, matting)
        answer = ours.forward({"batch": backend.batch})
        assert answer["gpu"] > 0
        assert answer["seconds"] > 0
        with pytest.raises(ValueError, match="not 7"):
            ours.forward({"batch": 7})
        steps = ours.cut({"path": str(pictures.EXAMPLES / "lemur.jpg")})["steps"]
    assert {"decode", "preprocess", "wait", "model", "refine", "encode"} <= set(steps)
