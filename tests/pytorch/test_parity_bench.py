"""``bench/parity.py`` on a small network: executors, gates, stages, exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import parity
from birefnet_engine import manifest as manifests
from birefnet_export.contract import Contract
from birefnet_export.parity import ALPHA_MAX, ALPHA_MEAN, sigmoid
from birefnet_export.pictures import fixed_pictures
from birefnet_export.typed.proof import FACTOR, MEAN, P999
from birefnet_runtime import backend
from birefnet_runtime.backend import Request
from birefnet_runtime.cuda import CudaBackend
from birefnet_runtime.cuda import Settings as GpuSettings
from birefnet_runtime.errors import NoPlanError
from birefnet_runtime.frame import Floats
from helpers import golden
from helpers.fake_device import FakeDevice, FakeEngine
from parity_report import gates, inputs, run, stages
from parity_report.errors import Unavailable
from parity_report.executor import Settings
from parity_report.executors import PlanExecutor, to_tensor
from parity_report.figures import Figures, compare
from parity_report.subject import Subject, Wanted, load
from parity_report.verdicts import Gate

SIDE = 64
ONE = Settings(threads=1)
GATE = {"alpha_max": ALPHA_MAX, "alpha_mean": ALPHA_MEAN}


@cache
def graphs() -> dict[str, Any]:
    """What is slow to make of the small network, once: its rewritten form and its trace."""
    one = Subject(Contract("small", SIDE, SIDE), network=golden.small())
    return {"fixed": one.fixed, "plain": one.plain}


def subject(gate: dict[str, float] = GATE) -> Subject:
    figures: dict[str, Any] = {"onnxruntime": {"gate": gate}}
    one = Subject(Contract("small", SIDE, SIDE, parity=figures), network=golden.small())
    one.__dict__.update(graphs())
    return one


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command compares the small network, and no machine has a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(parity, "load", lambda wanted: subject())


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--results", str(folder), "--report", str(folder / "report.html"), "--fixed", "1",
            "--threads", "1", *more]  # fmt: skip


@pytest.mark.usefixtures("small")
def test_everything_that_runs_here_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parity.main(arguments(tmp_path, "--stages"))
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())["findings"]
    assert found["reference"] == "torch-fp32"
    assert list(found["total"]) == ["torch-half", "ort-cpu", "emulated-fp16"]
    assert found["verdicts"]["ort-cpu"]["passed"]
    assert found["rows"]["ort-cpu"] == "the file was exported for batch 1"
    assert found["rows"]["torch-fp32"] < ALPHA_MAX
    assert found["stages"]["ort-cpu"]["first"] is None
    # FP16 rounds: it differs, but no stage by more than half precision does.
    assert found["total"]["emulated-fp16"]["mean"] > 0
    assert found["stages"]["emulated-fp16"]["first"] is None
    # What is not here is listed with its reason, on the page too.
    text, html = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for name, reason in (("tensorrt", "needs a model folder"), ("torch-compile", "no CUDA device")):
        assert f"not compared: {name}: " in text
        assert reason in html


@pytest.mark.usefixtures("small")
def test_a_named_executor_that_is_not_here_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity.main(arguments(tmp_path, "--executors", "torch-fp32,tensorrt")) == 1
    assert "parity: tensorrt cannot run here: needs a model folder" in capsys.readouterr().err
    assert parity.main(arguments(tmp_path, "--executors", "torch-fp32,nothing")) == 1
    assert "no such executor; known: torch-fp32, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small")
def test_the_contract_decides_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = arguments(tmp_path, "--executors", "torch-fp32,ort-cpu", "--limit", "1")
    assert parity.main(both) == 0
    # Float32 on two implementations is never this near.
    strict = {"alpha_max": 1e-12, "alpha_mean": 1e-12}
    monkeypatch.setattr(parity, "load", lambda wanted: subject(strict))
    assert parity.main(both) == 1
    assert "OUTSIDE ort-cpu: max " in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_second_run_is_compared_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = arguments(tmp_path, "--executors", "torch-fp32,ort-cpu", "--limit", "1")
    assert parity.main(both) == 0
    (path,) = tmp_path.glob("*.json")
    assert parity.main([*both, "--against", str(path)]) == 0
    assert f"nothing got worse against {path.name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "stage"),
    [
        ("bb.layers.2.blocks.1.mlp.fc2.weight", "bb/full/stage3"),
        ("squeeze_module.0.conv_out.weight", "squeeze"),
        ("decoder.decoder_block3.conv_out.weight", "level3/block"),
        ("decoder.lateral_block2.conv.weight", "level2/out"),
        ("decoder.conv_out1.0.weight", "logits"),
    ],
)
def test_a_planted_error_is_named(key: str, stage: str) -> None:
    one = subject()
    # A fifth too much in one weight, and only in PyTorch: the graphs are of the right weights.
    one.torch().get_parameter(key).mul_(1.2)
    names = ["torch-half", "ort-cpu", "emulated-fp16", "tensorrt"]
    found, missing = stages.examine(names, one, ONE, fixed_pictures(1, SIDE, SIDE)[0])
    assert [departure.first for departure in found] == [None, stage, stage]
    assert f"{stage} departs first" in found[1].line
    assert missing == {"tensorrt": "its inner tensors cannot be read"}


def test_stages_of_a_model_that_takes_the_mirror_image() -> None:
    one = load(Wanted())
    assert one.contract.mirror
    picture = fixed_pictures(1, one.contract.height, one.contract.width)[0]
    found, missing = stages.examine(["torch-half", "ort-cpu", "emulated-fp16"], one, ONE, picture)
    assert missing == {}
    assert [departure.first for departure in found] == [None] * 3
    # The mirror image is not left out: the picture alone has other logits.
    alone = stages.of_network(one.inner(), to_tensor(picture[None], one.contract))
    both = stages.of_network(one.torch(), to_tensor(picture[None], one.contract))
    assert stages.relative(both["squeeze"], alone["squeeze"]) == 0
    assert stages.relative(both["logits"], alone["logits"]) > 0.01


def test_a_foreign_graph_cannot_be_looked_into() -> None:
    one = subject()
    foreign = onnx.ModelProto()
    foreign.CopyFrom(one.plain)
    (first, *_) = [node for node in foreign.graph.node if node.op_type == "LayerNormalization"]
    foreign.graph.node.remove(first)
    one.__dict__["plain"] = foreign
    found, missing = stages.examine(["ort-cpu"], one, ONE, fixed_pictures(1, SIDE, SIDE)[0])
    assert not found
    assert "not one that birefnet-export writes" in missing["ort-cpu"]


def figures(mean: float, p999: float, **more: Any) -> Figures:
    base = compare(np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32))
    return replace(base, mean=mean, p999=p999, **more)


def test_gates_come_from_the_contract_or_the_design() -> None:
    bare = Contract("bare", SIDE, SIDE)
    assert gates.find("ort-cuda", "fp32", bare, None).limits == {
        "max": ALPHA_MAX,
        "mean": ALPHA_MEAN,
    }
    assert gates.find("tensorrt", "fp16", bare, None).limits == {"mean": MEAN, "p999": P999}
    # Trained weights: never further than FACTOR times PyTorch's own half-precision run.
    half = figures(0.1 / 255, 1 / 255)
    assert gates.find("tensorrt", "fp16", bare, half).limits["mean"] == FACTOR * half.mean
    own = {"precision": "fp16", "gate": {"mean": 0.1, "p999": 0.2}}
    told = replace(bare, parity={"tensorrt": own})
    assert gates.find("emulated-fp16", "fp16", told, None).limits == own["gate"]
    assert gates.find("torch-half", "fp16", told, None).limits == {}
    # On pictures on which half precision itself is further away, that decides.
    assert gates.find("tensorrt", "fp16", told, figures(0.2, 0.1)).limits == {
        "mean": FACTOR * 0.2,
        "p999": 0.2,
    }


def test_verdicts() -> None:
    gate = Gate({"mean": 0.1, "p999": 0.2}, "contract")
    assert gates.judge(gate, figures(0.1, 0.2), 0.0, "fp16").passed
    assert gates.judge(gate, figures(0.1, 0.2), "has batch 1 only", "fp16").passed
    assert not gates.judge(gate, figures(0.1, 0.21), 0.0, "fp16").passed
    assert not gates.judge(gate, figures(float("nan"), 0.2), 0.0, "fp16").passed
    assert gates.judge(gate, figures(0.1, 0.2), 0.5, "fp16").reasons == [
        "a row of a batch is 127.5/255 from the picture run alone"
    ]
    broken = figures(0.0, 0.0, finite=False)
    assert gates.judge(Gate({}, "yardstick"), broken, 0.0, "fp16").word == "OUTSIDE"


def brightness(planes: Floats) -> Floats:
    """Logits that depend on every pixel's place and, past white, are not finite."""
    height, width = planes.shape[1:]
    place = np.linspace(-1, 1, height * width, dtype=np.float32).reshape(height, width)
    answer: Floats = planes.mean(0) + place
    return np.where(planes.min(0) > 2, np.float32("nan"), answer).astype(np.float32)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A model folder whose plans of batch 1 and 2 run on a GPU made of host memory."""
    contract = Contract("fake", SIDE, SIDE, activation="sigmoid")

    def opened(model: str, overrides: Any, request: Request) -> CudaBackend:
        device = FakeDevice()
        if request.batch not in (None, 1, 2):
            raise NoPlanError(f"no plan for batch {request.batch}")
        settings = GpuSettings(graphs=request.graphs, workers=2)
        with device.active():
            engine = FakeEngine(device, brightness, (SIDE, SIDE), request.batch or 1)
            return CudaBackend(device, engine, b"cubin", contract, "tensorrt", settings)

    monkeypatch.setattr(backend, "open_backend", opened)
    monkeypatch.setattr(Subject, "folder", Path("fake"))
    monkeypatch.setattr(manifests, "find", lambda folder: [])
    return Subject(contract)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-eager"])
def test_a_plan_is_run_as_the_runtime_runs_it(plans: Subject, name: str) -> None:
    pictures = fixed_pictures(3, SIDE, SIDE)
    expected = [sigmoid(brightness(one)) for one in to_tensor(pictures, plans.contract)]
    plan = PlanExecutor(name, plans)
    assert ("CUDA graph" in plan.detail) and ("no CUDA graph" in plan.detail) == ("eager" in name)
    # The kernel's sigmoid and NumPy's, float32.
    assert np.abs(plan.alphas(pictures) - expected).max() < 1e-6
    # Three pictures in rows of two: the last run is filled up.
    assert np.abs(plan.rows(pictures, 2) - expected).max() < 1e-6
    with pytest.raises(Unavailable, match="no plan for batch 4"):
        plan.rows(pictures, 4)
    pictures[1] = 255
    assert [bool(np.isnan(alpha).all()) for alpha in plan.alphas(pictures)] == [False, True, False]
    plan.close()


def test_the_captured_graph_is_compared_with_the_plan_queued_anew(plans: Subject) -> None:
    items = inputs.drawn(fixed_pictures(2, SIDE, SIDE))
    both = [PlanExecutor(name, plans) for name in ("tensorrt", "tensorrt-eager")]
    found = run.run(plans.contract, list(both), items, 2, 1, lambda text: None)
    assert found.same == 0
    assert found.outcomes[1].rows == 0
    # One that was different would be told, whatever its gate.
    verdict = parity.verdicts(replace(found, same=1 / 255), plans)["tensorrt-eager"]
    assert verdict.reasons == ["the captured graph is 1/255 from the plan queued anew"]
    for plan in both:
        plan.close()
