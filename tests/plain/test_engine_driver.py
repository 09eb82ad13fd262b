"""The driver's probe, against a driver that is compiled for the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from birefnet_engine import driver
from birefnet_engine.driver import Gpu
from birefnet_engine.errors import MissingError
from helpers.fake_driver import compile_driver


def test_a_gpu_is_described(tmp_path: Path) -> None:
    found = driver.probe(str(compile_driver(tmp_path)))
    assert found == Gpu("NVIDIA H200", (9, 0), 150 << 30, (12, 8))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (100, "finds no GPU: see that nvidia-smi lists one"),
        (999, r"cuInit: 999, unknown error\): run nvidia-smi"),
        (804, "cuInit: 804, unknown error"),
    ],
)
def test_a_driver_that_does_not_start(tmp_path: Path, code: int, text: str) -> None:
    with pytest.raises(MissingError, match=text):
        driver.probe(str(compile_driver(tmp_path, code)))


def test_no_driver(tmp_path: Path) -> None:
    with pytest.raises(
        MissingError, match=r"no NVIDIA driver here.*docker run --gpus all"
    ) as caught:
        driver.probe(str(tmp_path / "libcuda.so.1"))
    assert "\n" not in str(caught.value)
