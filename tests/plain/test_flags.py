"""Every option has a flag, and a flag that is not given leaves the default where it stands."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

import pytest

from birefnet_runtime import flags
from birefnet_runtime.options import Options

# Flags, and the field and value that they stand for.
CASES: list[tuple[list[str], str, Any]] = [
    (["--output", "foreground"], "output", "foreground"),
    (["--mask"], "output", "alpha"),
    (["--background", "checker"], "background", "checker"),
    (["--crop"], "crop", True),
    (["--margin", "5%"], "margin", "5%"),
    (["--edge", "zoom"], "edge", "zoom"),
    (["--fit", "pad"], "fit", "pad"),
    (["--foreground", "blur"], "foreground", "blur"),
    (["--guided"], "guided", True),
    (["--feather", "0.8"], "feather", 0.8),
    (["--levels", "0.1,0.9"], "levels", (0.1, 0.9)),
    (["--offset", "-3"], "offset", -3),
    (["--despill", "green"], "despill", "green"),
    (["--depth", "16"], "depth", 16),
    (["--no-clear"], "clear", False),
    (["--keep-exif"], "keep_exif", True),
    (["--keep-gps"], "keep_gps", True),
    (["--quality", "80"], "quality", 80),
    (["--max-pixels", "1000"], "max_pixels", 1000),
    (["--shrink", "1.5"], "shrink", 1_500_000),
]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    flags.add_options(parser)
    flags.add_model(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(("arguments", "name", "value"), CASES, ids=lambda case: str(case))
def test_each_flag_reaches_its_option(arguments: list[str], name: str, value: Any) -> None:
    args = parse(*arguments)
    assert flags.given(args) == {name: value}
    if name != "keep_gps":
        assert getattr(flags.options(args), name) == value


def test_every_option_has_a_flag() -> None:
    assert {name for _, name, _ in CASES} == {item.name for item in fields(Options)}


def test_nothing_given_is_the_defaults() -> None:
    assert flags.given(parse()) == {}
    assert flags.options(parse()) == Options()
    assert flags.model(parse()) == {"model": "nano", "device": "auto", "provider": "cuda"}


def test_the_model() -> None:
    text = (
        "--model m.onnx --device cpu --threads 3 --mean 0,.5,1 --std 1,1,1 --size 32x48 "
        "--activation sigmoid --output-name y --precision fp16 --batch 4"
    )
    args = parse(*text.split())
    assert flags.model(args) == {
        "model": "m.onnx",
        "device": "cpu",
        "threads": 3,
        "mean": (0.0, 0.5, 1.0),
        "std": (1.0, 1.0, 1.0),
        "size": (32, 48),
        "activation": "sigmoid",
        "output": "y",
        "precision": "fp16",
        "batch": 4,
        "provider": "cuda",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mask", "--output", "rgba"],
        ["--levels", "0.5"],
        ["--edge", "nope"],
        ["--depth", "12"],
        ["--feather", "soft"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    assert caught.value.code == 2
