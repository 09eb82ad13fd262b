"""The inspector's JSON in both formats, and what is not JSON at all."""

from __future__ import annotations

import json

import pytest

from birefnet_engine import inspection, report
from birefnet_engine.inspection import Inspection, Layer
from helpers.fake_tensorrt import inspector_json


@pytest.mark.parametrize("is_11", [False, True])
def test_both_formats_give_the_same(is_11: bool) -> None:
    found = inspection.read(inspector_json(is_11), 300, 200)
    assert found.layers == (
        Layer("_gemm_mha_v2_myl0_3", "kgen", "_gemm_mha_v2_0x1", ("fp16",) * 3, ("fp16",)),
        Layer("dec/fp32/sample", "GridSample", "", ("fp32", "fp32"), ("fp32",)),
    )
    # Only 11 tells the types of the engine's ends.
    kind = "fp32" if is_11 else "unknown"
    assert found.summary() == {
        "layers": 2,
        "kinds": {"GridSample": 1, "kgen": 1},
        "precisions": {"fp16": 1, "fp32": 1},
        "regions": 0,
        "fused_attention": 1,
        "softmax_alone": 0,
        "grid_sample": {"fp32+fp32": 1},
        "ends": {"image": kind, "alpha": kind},
        "context_bytes": 300,
        "weights_bytes": 200,
        "notes": [],
    }
    # The manifest keeps it as JSON.
    assert json.loads(json.dumps(found.summary())) == found.summary()


@pytest.mark.parametrize(
    ("name", "kind", "tactic", "expected"),
    [
        ("_gemm_mha_v2_myl0_3", "kgen", "", "attention"),
        ("bb/attn/scores", "Myelin", "fmha_v2_flash_attention_fp16", "attention region"),
        ("mha", "MHA", "", "attention"),
        ("bb/attn/softmax", "SoftMax", "", "softmax"),
        ("x", "CaskSoftMaxV2", "", "softmax"),
        ("__myl_AddMaxSubExpSumDivMul_myl0_8", "kgen", "", "softmax"),
        ("{ForeignNode[bb/a...bb/mha/softmax]}", "Myelin", "", "region"),
        ("dec/fp32/sample", "GridSample", "", "sample"),
        ("__mye_grid_sample_2", "kgen", "", "sample"),
        ("dec/fp32/grid_sample_out", "PointWise", "", ""),
        ("bb/attn/softmax + bb/attn/add", "PointWise", "", ""),
        ("alphamhat", "Convolution", "", ""),
    ],
)
def test_what_a_layer_is(name: str, kind: str, tactic: str, expected: str) -> None:
    layer = Layer(name, kind, tactic)
    found = {
        "attention": layer.attention,
        "softmax": layer.softmax,
        "region": layer.region,
        "sample": layer.grid_sample,
    }
    assert {key for key, value in found.items() if value} == set(expected.split())


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ({"Format/Datatype": "Row major linear FP16 format"}, "fp16"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "fp16"),
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format/Datatype": "BFloat16"}, "bf16"),
        ({"Format/Datatype": "N/A due to dynamic shapes"}, "unknown"),
        ({"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Half"}, "fp16"),
        ({"Format": "Row major linear", "Datatype": "UInt8"}, "uint8"),
        ({"DataType": "Int64"}, "int64"),
        ({"DataType": None}, "unknown"),
        ({}, "unknown"),
        ("a name", "unknown"),
    ],
)
def test_types(tensor: object, expected: str) -> None:
    assert inspection.type_of(tensor) == expected


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "damaged"),
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ("{}", "without details"),
        ('{"Layers": ["a + b", "c"], "Bindings": ["image"]}', "without details"),
        ('{"Layers": {"a": 1}, "I/O Tensors": ["x", {"Name": "image"}]}', "without details"),
        ('{"Layers": [{"Inputs": "x", "Outputs": 3}, 7, null]}', "without details"),
    ],
)
def test_anything_else_is_a_note(text: str, note: str) -> None:
    found = inspection.read(text, 1, None)
    assert note in found.notes[0]
    assert list(report.summary(found.summary()))


def test_a_grid_sample_in_half_is_a_warning() -> None:
    layers = (Layer("a", "GridSample", "", ("fp16", "fp16"), ("fp16",)),)
    lines = list(report.summary(Inspection(layers, {}, 1).summary()))
    assert any("WARNING: GridSample runs at FP16" in line for line in lines)
    good = (Layer("a", "GridSample", "", ("fp32", "fp32"), ("fp16",)),)
    lines = list(report.summary(Inspection(good, {}, 1).summary()))
    assert not any("WARNING" in line for line in lines)
