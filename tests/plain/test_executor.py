"""ONNX Runtime runs what the contract says, and every failure has a name."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from birefnet_runtime.errors import DeviceError, ModelError
from birefnet_runtime.executor import Executor, providers
from birefnet_runtime.frame import Slot
from birefnet_runtime.model import Overrides, locate
from helpers.tiny_onnx import GAIN, write_constant_model, write_mask_model, write_model_folder


def load(
    model: Path, device: str = "cpu", threads: int | None = 1, **overrides: object
) -> Executor:
    return Executor.open(locate(model, Overrides(**overrides)), device, threads)  # type: ignore[arg-type]


def filled(executor: Executor, value: float) -> Slot:
    slot = Slot.create(executor.contract.shape)
    slot.tensor[0] = value
    return slot


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("batch", [1, 3])
def test_answer_of_the_picture_alone(tmp_path: Path, batch: int) -> None:
    executor = load(write_model_folder(tmp_path / "model", batch=batch))
    mask = executor.run(filled(executor, 0.25))
    assert mask.shape == (32, 32)
    assert mask.dtype == np.float32
    # One float32 sigmoid.
    assert mask == pytest.approx(sigmoid(0.25 * GAIN), abs=1e-6)
    assert executor.device == "cpu"


def test_which_of_several_outputs(tmp_path: Path) -> None:
    names = ("input_image", "output_image")
    path = write_mask_model(tmp_path / "a.onnx", names=names, sigmoid=False, extra_outputs=["side"])
    executor = load(path)
    assert executor.run(filled(executor, 2))[0, 0] == 2 * GAIN
    executor = load(path, output="side")
    assert executor.run(filled(executor, 2))[0, 0] == GAIN


def test_size_and_batch_left_open(tmp_path: Path) -> None:
    path = write_mask_model(tmp_path / "a.onnx", ("b", 3, "h", "w"))
    executor = load(path, size=(16, 24))
    assert executor.run(filled(executor, 0)).shape == (16, 24)


def test_half_precision_ports(tmp_path: Path) -> None:
    executor = load(write_mask_model(tmp_path / "a.onnx", kind=TensorProto.FLOAT16))
    mask = executor.run(filled(executor, 0.25))
    assert mask.dtype == np.float32
    # float16 has 11 bits: half a unit in the last place below 1 is 2**-12.
    assert mask == pytest.approx(sigmoid(0.25 * GAIN), abs=2**-11)


def test_alpha_under_the_name_of_logits_is_refused(tmp_path: Path) -> None:
    path = write_mask_model(tmp_path / "a.onnx", names=("input_image", "output_image"))
    executor = load(path)
    with pytest.raises(ModelError, match="looks like alpha"):
        executor.run(filled(executor, 0.5))
    for activation in ("none", "sigmoid"):
        executor = load(path, activation=activation)
        executor.run(filled(executor, 0.5))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_answers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    executor = load(write_constant_model(tmp_path / "a.onnx", value))
    with pytest.raises(ModelError, match="not finite"):
        executor.run(filled(executor, 0))


def test_answers_of_another_shape(tmp_path: Path) -> None:
    executor = load(write_constant_model(tmp_path / "a.onnx", 0.5, mask=(1, 4, 4)))
    assert executor.run(filled(executor, 0)).shape == (4, 4)
    for mask in ((1, 2, 4, 4), (4, 4), (1, 1, 0, 4)):
        executor = load(write_constant_model(tmp_path / "a.onnx", 0.5, mask=mask))
        with pytest.raises(ModelError, match=r"has shape \[.*not \[B,1,H,W\]"):
            executor.run(filled(executor, 0))


def test_files_that_do_not_load(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for data in (b"", b"hello", write_mask_model(tmp_path / "b.onnx").read_bytes()[:-40]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"a\.onnx does not load") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_a_run_that_fails(tmp_path: Path) -> None:
    executor = load(write_model_folder(tmp_path / "model"))
    with pytest.raises(ModelError, match="tiny failed to run"):
        executor.run(Slot.create((1, 3, 8, 8)))


def test_integer_pictures_are_refused(tmp_path: Path) -> None:
    path = write_mask_model(tmp_path / "a.onnx", sigmoid=False, kind=TensorProto.INT32)
    with pytest.raises(ModelError, match=r"tensor\(int32\), not float"):
        load(path)


@pytest.mark.parametrize(
    ("device", "text"),
    [("tensorrt", "TensorRT"), ("tpu", "known devices: auto, cpu"), ("", "known devices")],
)
def test_devices_that_are_not_there(tiny: Path, device: str, text: str) -> None:
    with pytest.raises(DeviceError, match=text):
        load(tiny, device)


def test_cuda_is_named_or_used_but_never_replaced(tiny: Path) -> None:
    if "CUDAExecutionProvider" in providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(DeviceError, match=r"pip install 'birefnet-trt\[gpu\]'"):
        load(tiny, "cuda")
    assert load(tiny, "auto").device == "cpu"


def test_threads(tiny: Path) -> None:
    for threads in (1, 2, None):
        load(tiny, threads=threads)
    with pytest.raises(DeviceError, match="threads must be 1 or more"):
        load(tiny, threads=0)


def test_without_onnxruntime(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"pip install 'birefnet-trt\[cpu\]'"):
        load(tiny)
