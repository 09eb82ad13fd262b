"""Which plan runs, what is refused and how it is said; TensorRT and the GPU are played."""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from birefnet_engine import kernels as engine_kernels
from birefnet_engine.manifest import Manifest, key
from birefnet_export.contract import Contract, read, sha256
from birefnet_runtime import Matting, backend, cubin, device, prove
from birefnet_runtime.__main__ import main
from birefnet_runtime.errors import (
    BirefnetError,
    DamagedPlanError,
    DeviceError,
    ModelError,
    NoDriverError,
    NoPlanError,
    NoTensorRTError,
    OptionError,
    OtherGpuError,
    OtherTensorRTError,
    OutOfMemoryError,
    PlanError,
)
from birefnet_runtime.frame import Floats
from helpers import reference
from helpers.fake_device import FakeDevice
from helpers.pictures import disc, noise
from helpers.tiny_onnx import GAIN, write_model_folder

VERSION = "10.16.1.11"
SIZE = 32


class FakeTensorRT(ModuleType):
    """The names of ``tensorrt`` that the runtime uses, on a fake GPU.

    A plan is JSON: its tensors, name to shape. ``context_bytes``: what a context allocates for a
    row. ``refuses``: what deserialising logs before it gives None.
    """

    def __init__(self, gpu: FakeDevice) -> None:
        super().__init__("tensorrt")
        self.__version__ = VERSION
        self.gpu = gpu
        self.context_bytes, self.refuses = 1 << 14, ""
        self.alive = 0
        self.ILogger = FakeLogger
        self.TensorIOMode = FakeModes
        self.DataType = FakeTypes
        self.Runtime = lambda logger: FakeRuntime(self, logger)
        self.function: Callable[[Floats], Floats] = tiny


class FakeLogger:
    def __init__(self) -> None:
        pass


class FakeModes:
    INPUT, OUTPUT = "in", "out"


class FakeTypes:
    FLOAT, HALF = "float", "half"


class Severity:
    def __init__(self, name: str) -> None:
        self.name = name


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        self.logger.log(Severity("INFO"), "Loaded engine")
        if self.trt.refuses:
            self.logger.log(Severity("ERROR"), self.trt.refuses)
            return None
        return FakeCudaEngine(self.trt, json.loads(data))


class FakeCudaEngine:
    def __init__(self, trt: FakeTensorRT, tensors: dict[str, Any]) -> None:
        self.trt, self.tensors = trt, tensors
        self.num_io_tensors = len(tensors)
        self.device_memory_size = trt.context_bytes * self.rows

    @property
    def rows(self) -> int:
        return int(next(iter(self.tensors.values()))[0])

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return list(self.tensors[name])

    def get_tensor_mode(self, name: str) -> str:
        return FakeModes.INPUT if self.get_tensor_name(0) == name else FakeModes.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return FakeTypes.FLOAT

    def create_execution_context(self) -> Any:
        try:
            return FakeContext(self)
        except OutOfMemoryError:
            # TensorRT's own words, and None.
            return None


class FakeContext:
    """Frees its memory when the last reference goes, as TensorRT's does."""

    def __init__(self, engine: FakeCudaEngine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.addresses: dict[str, int] = {}
        wanted = engine.device_memory_size
        if self.trt.gpu.memory()[0] - wanted < 0:
            raise OutOfMemoryError("no")
        self.block = self.trt.gpu.allocate(wanted)
        self.trt.alive += 1

    def __del__(self) -> None:
        if hasattr(self, "block"):
            self.trt.alive -= 1
            with self.trt.gpu.active():
                self.block.free()

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return name in self.engine.tensors

    def execute_async_v3(self, handle: int) -> bool:
        function, tensors, addresses = self.trt.function, self.engine.tensors, self.addresses

        def run() -> None:
            source, target = (
                reference.memory(addresses[name], tuple(shape), np.float32)
                for name, shape in tensors.items()
            )
            for row, answer in zip(source, target, strict=True):
                answer[0] = function(row)

        self.trt.gpu.enqueue(handle, run)
        return True


def tiny(planes: Floats) -> Floats:
    """What helpers.tiny_onnx computes, alpha."""
    logits = planes.mean(0) * np.float32(GAIN)
    alpha: Floats = 1 / (1 + np.exp(-logits))
    return alpha


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    found = FakeDevice()
    monkeypatch.setattr(backend, "open_device", lambda: found)
    monkeypatch.setattr(prove, "open_device", lambda: found)
    return found


@pytest.fixture
def trt(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    found = FakeTensorRT(gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with a plan for batch 1."""
    found = write_model_folder(tmp_path / "model", SIZE)
    add_plan(found)
    return found


def add_plan(folder: Path, batch: int = 1, precision: str = "fp16", **changes: Any) -> Manifest:
    """A plan, its kernels and its manifest, as birefnet-build leaves them."""
    engines = folder / "engines"
    engines.mkdir(mode=0o700, exist_ok=True)
    onnx = folder / ("model.trt.onnx" if batch == 1 else f"model.trt.b{batch}.onnx")
    onnx.write_bytes(b"graph")
    contract = read(folder)
    Contract(**{**vars(contract), "files": {**contract.files, onnx.name: sha256(onnx)}}).write(
        folder
    )
    values: dict[str, Any] = {"tensorrt": VERSION, "gpu": "Fake GPU", "capability": (9, 0)}
    values.update(precision=precision, batch=batch, onnx=onnx.name, onnx_sha256=sha256(onnx))
    values.update({name: changes.pop(name) for name in list(changes) if name in values})
    name = key(*(values[part] for part in ("tensorrt", "gpu", "capability", "precision", "batch")))
    shapes = {"image": [batch, 3, SIZE, SIZE], "alpha": [batch, 1, SIZE, SIZE]}
    files = {
        "plan": json.dumps(changes.pop("tensors", shapes)).encode(),
        "cubin": b"C",
        "ptx": b"P",
    }
    for suffix, data in files.items():
        (engines / f"{name}.{suffix}").write_bytes(data)
        (engines / f"{name}.{suffix}").chmod(0o600)
    hashes = {f"{name}.{suffix}": sha256(engines / f"{name}.{suffix}") for suffix in files}
    plan_hash = hashes.pop(f"{name}.plan")
    values.update(key=name, plan_sha256=plan_hash, plan_bytes=len(files["plan"]), kernels=hashes)
    values.update(kernels_source=cubin.digest(), contract_sha256="", options={}, seconds=1.0)
    values.update(parity={"passed": True}, layers={}, versions={})
    manifest = Manifest(**{**values, **changes})
    manifest.write(folder)
    return manifest


def opened(folder: Path, **request: Any) -> Matting:
    return Matting.open(folder, "tensorrt", threads=2, **request)


# --- what runs


def test_a_plan_gives_the_alpha_of_the_cpu(trt: FakeTensorRT, folder: Path) -> None:
    with Matting.open(folder, "cpu", threads=1) as cpu, opened(folder) as matting:
        assert matting.describe() == (
            "tiny 32x32 on tensorrt (Fake GPU, batch 1, CUDA graph, fp16)"
        )
        for picture in (disc(), noise(20, 30), noise(SIZE, SIZE, channels=4)):
            found, wanted = matting.remove(picture), cpu.remove(picture)
            # One level of the resized picture, where Pillow takes the columns first, times GAIN.
            assert np.abs(found.alpha.astype(int) - wanted.alpha).max() <= 3
    assert trt.alive == 0
    del found
    gc.collect()
    assert not trt.gpu.live


def test_each_slot_has_a_context_of_its_own(trt: FakeTensorRT, folder: Path) -> None:
    with opened(folder) as matting:
        assert trt.alive == 2
        slots = matting._pipeline._backend._slots  # type: ignore[attr-defined]
        assert len({slot.stream.handle for slot in slots}) == 2
        assert matting._pipeline._backend.context_bytes == trt.context_bytes  # type: ignore[attr-defined]


def test_which_of_several_plans(trt: FakeTensorRT, folder: Path) -> None:
    add_plan(folder, batch=4)
    add_plan(folder, batch=2, precision="fp32")
    add_plan(folder, tensorrt="8.6.0")
    add_plan(folder, gpu="Other GPU")
    for request, batch, precision in (
        ({}, 1, "fp16"),
        ({"batch": 4}, 4, "fp16"),
        ({"precision": "fp32"}, 2, "fp32"),
        ({"precision": "fp16", "batch": 1}, 1, "fp16"),
    ):
        with opened(folder, **request) as matting:
            assert f"batch {batch}, CUDA graph, {precision}" in matting.describe()
    for request in ({"batch": 3}, {"precision": "fp32", "batch": 1}):
        with pytest.raises(NoPlanError, match=r"fp16 batch 1.*birefnet-build .*--batch"):
            opened(folder, **request)


def test_without_graphs(trt: FakeTensorRT, folder: Path) -> None:
    with opened(folder, graphs=False) as eager, opened(folder) as captured:
        assert "no CUDA graph" in eager.describe()
        assert np.array_equal(eager.remove(disc()).rgba, captured.remove(disc()).rgba)


# --- what is refused


def refused(folder: Path, error: type[BirefnetError], text: str, **request: Any) -> None:
    with pytest.raises(error, match=text) as caught:
        opened(folder, **request)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_without_a_driver(folder: Path) -> None:
    # No GPU here: this is the real probe, unless somebody runs the tests on one.
    try:
        device.probe()
    except NoDriverError:
        refused(folder, NoDriverError, "TensorRT needs an NVIDIA GPU: .*")
    else:
        pytest.skip("there is a driver here")


def test_without_tensorrt(gpu: FakeDevice, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    refused(folder, NoTensorRTError, r"pip install 'birefnet-trt\[tensorrt-cu")


def test_without_a_plan(trt: FakeTensorRT, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "bare", SIZE)
    refused(folder, NoPlanError, f"no plan was built for .*: birefnet-build {folder}$")
    with pytest.raises(ModelError, match="TensorRT needs a model folder"):
        opened(folder.parent / "bare" / "model.onnx")


def test_plans_for_something_else(trt: FakeTensorRT, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "a", SIZE)
    add_plan(folder, tensorrt="8.6.0")
    refused(folder, OtherTensorRTError, rf"for TensorRT 8\.6\.0, here is {VERSION}: birefnet-build")
    add_plan(folder, gpu="Other GPU")
    refused(folder, OtherGpuError, "for Other GPU, here is Fake GPU: birefnet-build")
    folder = write_model_folder(tmp_path / "b", SIZE)
    add_plan(folder, onnx_sha256="0" * 64)
    refused(folder, NoPlanError, "exported again after its plans were built: birefnet-build")
    folder = write_model_folder(tmp_path / "d", SIZE)
    # The same graph with other weights beside it.
    add_plan(folder, onnx_data={"model.trt.onnx.data": "0" * 64})
    refused(folder, NoPlanError, "exported again after its plans were built")
    folder = write_model_folder(tmp_path / "c", SIZE)
    add_plan(folder, kernels_source="0" * 64)
    refused(folder, NoPlanError, "another version of birefnet-trt: birefnet-build")


@pytest.mark.parametrize("suffix", ["plan", "cubin"])
def test_damaged_files(trt: FakeTensorRT, folder: Path, suffix: str) -> None:
    (file,) = (folder / "engines").glob(f"*.{suffix}")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + b"?")
    refused(folder, DamagedPlanError, "damaged or was replaced; .*birefnet-build")
    file.unlink()
    refused(folder, DamagedPlanError, "is missing")
    file.write_bytes(data)
    file.chmod(0o666)
    refused(folder, DamagedPlanError, "can be written by others")
    file.chmod(0o600)
    (folder / "engines").chmod(0o777)
    refused(folder, DamagedPlanError, "can be written by others")
    (folder / "engines").chmod(0o700)
    opened(folder).close()
    assert not trt.gpu.live


def test_a_damaged_manifest(trt: FakeTensorRT, folder: Path) -> None:
    (file,) = (folder / "engines").glob("*.json")
    file.write_text("{")
    refused(folder, DamagedPlanError, "not readable as JSON")


def test_a_plan_that_tensorrt_refuses(trt: FakeTensorRT, folder: Path) -> None:
    trt.refuses = "Serialization assertion failed:\n version tag does not match"
    refused(
        folder, PlanError, "the plan does not load .*version tag does not match.*birefnet-build"
    )
    assert not trt.gpu.live


def test_tensors_that_do_not_fit_the_contract(trt: FakeTensorRT, tmp_path: Path) -> None:
    for number, tensors in enumerate(
        (
            {"image": [1, 3, 32, 32]},
            {"picture": [1, 3, 32, 32], "alpha": [1, 1, 32, 32]},
            {"image": [2, 3, 32, 32], "alpha": [2, 1, 32, 32]},
            {"image": [1, 3, 32, 32], "alpha": [1, 2, 32, 32]},
            {"alpha": [1, 1, 32, 32], "image": [1, 3, 32, 32]},
        )
    ):
        folder = write_model_folder(tmp_path / str(number), SIZE)
        add_plan(folder, tensors=tensors)
        refused(folder, PlanError, "contract.*birefnet-build")


def test_options_without_meaning(folder: Path) -> None:
    for request, text in (
        ({"precision": "int8"}, "known values: fp16, fp32"),
        ({"batch": 0}, "batch must be 1"),
        ({"provider": "rocm"}, "known values: cuda, tensorrt"),
        ({"provider": "tensorrt"}, "add --device cuda"),
    ):
        with pytest.raises(OptionError, match=text):
            opened(folder, **request)
    # What a device would ignore is refused.
    for request in ({"batch": 2}, {"precision": "fp16"}, {"stream": 0}):
        with pytest.raises(OptionError, match="leave"):
            Matting.open(folder, "cpu", **request)
    with pytest.raises(DeviceError, match="threads must be 1"):
        Matting.open(folder, "cpu", threads=0)


# --- memory


def test_out_of_memory_falls_to_the_next_smaller_plan(
    trt: FakeTensorRT, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for batch in (2, 4, 8):
        add_plan(folder, batch=batch)
    with opened(folder, batch=8) as matting:
        wanted = [one.rgba for one in matting.stream([disc(), noise(9, 9)])]
    # Two contexts of batch 2 fit, of batch 4 one, of batch 8 none.
    trt.gpu.limit = 5 * 2 * trt.context_bytes
    with caplog.at_level(logging.WARNING), opened(folder, batch=8) as matting:
        assert "batch 2" in matting.describe()
        for batch in (8, 4):
            text = f"the plan for batch {batch} does not fit the GPU's memory"
            assert text in matting.describe()
            assert text in caplog.text
        found = [one.rgba for one in matting.stream([disc(), noise(9, 9)])]
    assert all(map(np.array_equal, wanted, found))
    del wanted, found
    gc.collect()
    assert not trt.gpu.live
    assert trt.alive == 0


def test_out_of_memory_with_nothing_smaller(trt: FakeTensorRT, folder: Path) -> None:
    trt.gpu.limit = trt.context_bytes // 2
    with pytest.raises(OutOfMemoryError, match=rf"birefnet-build {folder} --batch 1"):
        opened(folder)
    assert not trt.gpu.live
    assert trt.alive == 0


# --- auto


def test_auto_takes_the_plan_that_loads_here(
    trt: FakeTensorRT, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    from helpers.pictures import encoded

    picture.write_bytes(encoded(disc()))
    assert main(["remove", str(picture), "--model", str(folder), "--threads", "1"]) == 0
    assert "on tensorrt (Fake GPU, batch 1" in capsys.readouterr().err


def test_auto_says_why_a_plan_is_passed_over(
    trt: FakeTensorRT, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt.__version__ = "11.4.0"
    with caplog.at_level(logging.WARNING), Matting.open(folder, threads=1) as matting:
        assert matting.device in ("cpu", "cuda")
    assert "the TensorRT plan is not used: the plans of" in caplog.text


def test_auto_looks_at_no_gpu_where_nothing_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "open_device", lambda: pytest.fail("looked"))
    folder = write_model_folder(tmp_path / "model", SIZE)
    Matting.open(folder, threads=1).close()


# --- kernels and doctor


def test_the_digest_is_the_engine_rooms() -> None:
    assert cubin.digest() == engine_kernels.sources().digest


def test_kernels_for_a_gpu(folder: Path) -> None:
    assert cubin.find(folder, "Fake GPU", (9, 0)) == b"C"
    # Another GPU of the same kind runs the cubin, any other the PTX.
    assert cubin.find(folder, "Twin GPU", (9, 0)) == b"C"
    assert cubin.find(folder, "Other GPU", (12, 0)) == b"P"
    for file in (folder / "engines").glob("*.json"):
        file.unlink()
    with pytest.raises(NoPlanError, match="holds no kernels"):
        cubin.find(folder, "Fake GPU", (9, 0))


def test_doctor_names_the_plans(
    trt: FakeTensorRT, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", str(folder)])
    out = capsys.readouterr().out
    assert f"trt{VERSION}-fake-gpu-sm90-fp16-b1" in out
    assert "works: tiny 32x32 on tensorrt" in out
    trt.__version__ = "11.4.0"
    main(["doctor", str(folder)])
    assert "none of them here: the plans of" in capsys.readouterr().out


# --- the proof


@pytest.fixture
def proved(folder: Path) -> Path:
    """The folder with a reference that the fake network gives exactly."""
    images = np.stack([noise(SIZE, SIZE, seed=seed) for seed in range(2)])
    contract = read(folder)
    mean, std = np.array(contract.mean, np.float32), np.array(contract.std, np.float32)
    planes = ((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    alpha = np.stack([tiny(one.astype(np.float32)) for one in planes])[:, None]
    np.savez(folder / "reference.npz", image=images, alpha=alpha.astype(np.float32))
    gate = {"mean": 0.001, "p999": 0.01}
    parity = {"tensorrt": {"precision": "fp16", "emulated": {}, "half": {}, "gate": gate}}
    Contract(**{**vars(contract), "parity": parity}).write(folder)
    return folder


def run_proof(
    folder: Path, capsys: pytest.CaptureFixture[str], batch: int = 1, precision: str = "fp16"
) -> tuple[int, dict[str, Any], str]:
    manifest = add_plan(folder, batch=batch, precision=precision)
    engines = folder / "engines"
    arguments = [str(folder), str(engines / manifest.plan), "--onnx", manifest.onnx]
    arguments += ["--batch", str(batch), "--precision", precision]
    status = prove.main([*arguments, "--kernels", str(engines / manifest.cubin)])
    out, err = capsys.readouterr()
    return status, json.loads(out or "{}"), err


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_good_plan_passes(
    trt: FakeTensorRT, proved: Path, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    status, figures, _ = run_proof(proved, capsys, batch)
    assert status == 0
    assert figures["passed"] and figures["finite"] and figures["rows_equal"]
    # The table of levels is float32 of a float64 quotient, the reference float32 throughout.
    assert figures["max"] < 1e-5
    assert figures["pictures"] == 2
    assert len(figures["milliseconds"]) == 20
    assert not trt.gpu.live


def test_plans_that_do_not_pass(
    trt: FakeTensorRT, proved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def odd_rows(planes: Floats) -> Floats:
        nonlocal calls
        calls += 1
        return tiny(planes) + np.float32(0.02 * (calls % 2))

    def infinite(planes: Floats) -> Floats:
        answer = tiny(planes)
        answer[5, 5] = np.inf
        return answer

    faults: dict[str, Callable[[Floats], Floats]] = {
        "mean": lambda planes: tiny(planes) + np.float32(0.002),
        "finite": infinite,
        "rows_equal": odd_rows,
    }
    for name, function in faults.items():
        trt.function = function
        status, figures, _ = run_proof(proved, capsys, batch=2)
        assert (status, figures["passed"]) == (0, False), name
        if name != "mean":
            assert figures[name] is False
    trt.function = faults["mean"]
    assert not run_proof(proved, capsys, precision="fp32")[1]["passed"]
    trt.function = tiny
    assert run_proof(proved, capsys, precision="fp32")[1]["passed"]


def test_a_proof_that_cannot_run(
    trt: FakeTensorRT, proved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Contract(**{**vars(read(proved)), "parity": {}}).write(proved)
    status, figures, error = run_proof(proved, capsys)
    assert (status, figures) == (1, {})
    assert "has no gate for fp16" in error
    assert error.count("\n") == 1
    (proved / "reference.npz").unlink()
    status, _, error = run_proof(proved, capsys, precision="fp32")
    assert status == 1
    assert "reference.npz is not readable" in error
