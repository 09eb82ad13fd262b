"""ONNX Runtime on a GPU: bound where the tensors lie, or honest about what it does instead."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from birefnet_engine.manifest import ENGINES, Manifest, key
from birefnet_export.contract import sha256
from birefnet_runtime import Cutout, Matting, backend, cubin
from birefnet_runtime.errors import DeviceError, ModelError, NoDriverError, OutOfMemoryError
from birefnet_runtime.frame import Floats
from helpers import reference
from helpers.fake_device import FakeDevice
from helpers.pictures import disc, noise
from helpers.tiny_onnx import GAIN, write_model_folder

SIZE = 32
CUDA, TENSORRT, CPU = (f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "CPU"))


def tiny(planes: Floats) -> Floats:
    """What helpers.tiny_onnx computes, alpha."""
    alpha: Floats = 1 / (1 + np.exp(-planes.mean(0) * np.float32(GAIN)))
    return alpha


class FakeRuntime(ModuleType):
    """The names of ``onnxruntime`` that the executor uses, on a fake GPU.

    ``available``: providers it was built with; ``starts``: those that really start.
    """

    __version__ = "1.25.0"

    def __init__(self, gpu: FakeDevice) -> None:
        super().__init__("onnxruntime")
        self.gpu, self.available, self.starts = gpu, [TENSORRT, CUDA, CPU], {TENSORRT, CUDA, CPU}
        self.sessions: list[FakeSession] = []
        self.batch, self.kind = 1, "tensor(float)"
        self.function: Callable[[Floats], Floats] = tiny
        self.SessionOptions = self.RunOptions = FakeOptions
        self.InferenceSession = lambda path, options, providers: FakeSession(self, providers)

    def get_available_providers(self) -> list[str]:
        return self.available

    def preload_dlls(self) -> None:
        print("loading libraries")


class FakeOptions:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_run_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


class FakeBinding:
    def __init__(self) -> None:
        self.bound: dict[str, tuple[Any, ...]] = {}

    def bind_input(self, name: str, *rest: Any) -> None:
        self.bound[name] = rest

    bind_output = bind_input


class FakeSession:
    def __init__(self, runtime: FakeRuntime, providers: list[Any]) -> None:
        self.runtime = runtime
        pairs = [item if isinstance(item, tuple) else (item, {}) for item in providers]
        self.options = {name: options for name, options in pairs if name in runtime.starts}
        self.fallback = True
        runtime.sessions.append(self)

    def get_providers(self) -> list[str]:
        return list(self.options)

    def disable_fallback(self) -> None:
        self.fallback = False

    def _node(self, name: str, channels: int) -> Any:
        shape = [self.runtime.batch, channels, SIZE, SIZE]
        return SimpleNamespace(name=name, type=self.runtime.kind, shape=shape)

    def get_inputs(self) -> list[Any]:
        return [self._node("image", 3)]

    def get_outputs(self) -> list[Any]:
        return [self._node("alpha", 1)]

    def io_binding(self) -> FakeBinding:
        return FakeBinding()

    def run(self, names: list[str], feed: dict[str, Floats]) -> list[Floats]:
        return [np.stack([tiny(row)[None] for row in feed["image"]])]

    def run_with_iobinding(self, binding: FakeBinding, options: FakeOptions) -> None:
        # Otherwise it would wait for the GPU inside the run.
        assert options.entries == {"disable_synchronize_execution_providers": "1"}
        arrays = []
        for where, ordinal, dtype, shape, pointer in binding.bound.values():
            assert (where, ordinal, dtype) == ("cuda", 0, np.float32)
            arrays.append(reference.memory(pointer, tuple(shape), np.float32))
        function = self.runtime.function

        def run() -> None:
            for row, answer in zip(*arrays, strict=True):
                answer[0] = function(row)

        handle = int(next(iter(self.options.values()))["user_compute_stream"])
        self.runtime.gpu.enqueue(handle, run)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    found = FakeDevice()
    monkeypatch.setattr(backend, "open_device", lambda: found)
    return found


@pytest.fixture
def runtime(gpu: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    found = FakeRuntime(gpu)
    monkeypatch.setitem(sys.modules, "onnxruntime", found)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with kernels in it, whose plan is for another TensorRT."""
    found = write_model_folder(tmp_path / "model", SIZE)
    engines = found / ENGINES
    engines.mkdir(mode=0o700)
    name = key("8.6.0", "Fake GPU", (9, 0), "fp16", 1)
    for suffix in ("cubin", "ptx"):
        (engines / f"{name}.{suffix}").write_bytes(b"kernels")
    hashes = {path.name: sha256(path) for path in engines.iterdir()}
    Manifest(
        key=name, tensorrt="8.6.0", gpu="Fake GPU", capability=(9, 0), precision="fp16", batch=1,
        onnx="model.trt.onnx", onnx_sha256="", contract_sha256="", plan_sha256="", plan_bytes=0,
        kernels=hashes, kernels_source=cubin.digest(), options={}, seconds=0.0, parity={},
        layers={}, versions={},
    ).write(found)  # fmt: skip
    return found


def test_bound_on_the_gpu_with_the_kernels_round_it(
    runtime: FakeRuntime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Matting.open(folder, "cuda", threads=2) as matting:
        text = f"Fake GPU, batch 1, no CUDA graph, ONNX Runtime's {CUDA}, kernels on the GPU"
        assert matting.describe() == f"tiny 32x32 on cuda ({text})"
        (session,) = runtime.sessions
        assert not session.fallback
        assert session.options[CUDA]["do_copy_in_default_stream"] == "1"
        pictures = [disc(), noise(20, 30), noise(9, 9, channels=4)]
        found = [matting.remove(picture) for picture in pictures]
        found += list(matting.stream(pictures))
        assert runtime.gpu.pending() == 0
    monkeypatch.undo()
    with Matting.open(folder, "cpu", threads=1) as cpu:
        wanted = [cpu.remove(picture) for picture in pictures] * 2
    for one, other in zip(found, wanted, strict=True):
        # One level of the resized picture, where Pillow takes the columns first, times GAIN.
        assert np.abs(one.alpha.astype(int) - other.alpha).max() <= 3
    del found, one
    gc.collect()
    assert not runtime.gpu.live


def test_tensorrt_inside_onnx_runtime(runtime: FakeRuntime, folder: Path) -> None:
    with Matting.open(folder, "cuda", provider="tensorrt") as matting:
        assert f"ONNX Runtime's {TENSORRT}" in matting.describe()
    assert list(runtime.sessions[0].options) == [TENSORRT, CUDA, CPU]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_fell_away_is_an_error(
    runtime: FakeRuntime, folder: Path, provider: str, tmp_path: Path
) -> None:
    runtime.starts = {CPU}
    for model in (folder, write_model_folder(tmp_path / "no kernels", SIZE)):
        with pytest.raises(DeviceError, match=rf"could not start .*, runs|and runs {CPU}"):
            Matting.open(model, "cuda", provider=provider)
    runtime.available = [CPU]
    with pytest.raises(DeviceError, match=r"pip install 'birefnet-trt\[gpu\]'"):
        Matting.open(folder, "cuda", provider=provider)
    gc.collect()
    assert not runtime.gpu.live


def test_without_kernels_the_steps_run_on_the_host_and_it_says_so(
    runtime: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model_folder(tmp_path / "model", SIZE)
    with Matting.open(folder, "cuda") as matting:
        text = matting.describe()
        assert text.startswith(f"tiny 32x32 on cuda ({CUDA}, steps on the host: ")
        assert f"birefnet-build {folder}" in text
        assert isinstance(matting.remove(disc()), Cutout)
        with pytest.raises(DeviceError, match=r"remove\(\) instead"):
            matting.remove_device(disc())

    def none_here() -> None:
        raise NoDriverError("PyCUDA does not load")

    monkeypatch.setattr(backend, "open_device", none_here)
    with Matting.open(folder, "cuda") as matting:
        assert "steps on the host: PyCUDA does not load" in matting.describe()


def test_auto_takes_cuda_or_says_why_not(
    runtime: FakeRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model_folder(tmp_path / "model", SIZE)
    assert Matting.open(folder).device == "cuda"
    runtime.starts = {CPU}
    with caplog.at_level(logging.WARNING):
        assert Matting.open(folder).describe() == "tiny 32x32 on cpu"
    assert "CUDA is not used: ONNX Runtime could not start" in caplog.text


def test_models_that_cannot_be_bound(runtime: FakeRuntime, folder: Path) -> None:
    runtime.kind = "tensor(float16)"
    with pytest.raises(ModelError, match="export the model again"):
        Matting.open(folder, "cuda")
    gc.collect()
    assert not runtime.gpu.live


def test_runs_that_fail(runtime: FakeRuntime, folder: Path) -> None:
    def fails(text: str) -> Callable[..., None]:
        def run(*_: object) -> None:
            raise RuntimeError(text)

        return run

    with Matting.open(folder, "cuda") as matting:
        wanted = matting.remove(disc())
        (session,) = runtime.sessions
        for text, kind in (
            ("bad node", ModelError),
            ("BFCArena: Failed to allocate memory for requested buffer", OutOfMemoryError),
        ):
            session.run_with_iobinding = fails(text)  # type: ignore[method-assign]
            with pytest.raises(kind, match=text[-10:]):
                matting.remove(disc())
            del session.run_with_iobinding
        assert np.array_equal(matting.remove(disc()).rgba, wanted.rgba)
