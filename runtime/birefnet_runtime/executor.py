"""Tensor -> the model's answer, on ONNX Runtime; the one file that imports it."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime.bare import Port
from birefnet_runtime.errors import DeviceError, ModelError, one_line
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.model import Settled, Source

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# ONNX Runtime's own level for errors: its warnings about graph details mean nothing to a user.
_LOG_ERRORS = 3


class Executor:
    """One loaded model on one device; ``run`` may be called from several threads.

    ``device`` is the one it really runs on, ``contract`` the complete contract of the file.
    """

    def __init__(self, session: Any, settled: Settled, device: str) -> None:
        self._session = session
        self._guessed = settled.guessed
        self.contract: Contract = settled.contract
        self.device = device
        inputs = {port.name: port.type for port in session.get_inputs()}
        self._dtype = _TYPES[inputs[self.contract.input]]

    @classmethod
    def open(cls, source: Source, device: str = "auto", threads: int | None = None) -> Executor:
        """Load ``source`` once. ``threads`` is the number of CPU threads of one run; None: one per
        core.

        ``auto`` takes CUDA where it works, else the CPU. Raises DeviceError when a named device is
        not there, ModelError when the file does not load or does not fit its contract.
        """
        if threads is not None and threads < 1:
            raise DeviceError(f"threads must be 1 or more, not {threads}")
        session, found = _open_session(source, device, threads)
        _check_types(session, source)
        ports = (_ports(session.get_inputs()), _ports(session.get_outputs()))
        return cls(session, source.settle(*ports), found)

    def run(self, slot: Slot) -> Floats:
        """float32 [h,w]: the answer for row 0 of ``slot.tensor``, before the contract's activation.

        The result is owned by the caller. Raises ModelError when the run fails or the answer is no
        mask.
        """
        feed = {self.contract.input: slot.tensor.astype(self._dtype, copy=False)}
        try:
            (answer,) = self._session.run([self.contract.output], feed)
        except Exception as error:
            raise ModelError(f"{self.contract.name} failed to run: {one_line(error)}") from error
        return self._check(answer)

    def _check(self, answer: Any) -> Floats:
        """Row 0 of an answer [B,1,h,w] or [B,h,w], if it is one and finite."""
        name, shape = self.contract.output, list(answer.shape)
        if len(shape) == 4 and shape[1] == 1:
            answer = answer[:, 0]
        if answer.ndim != 3 or 0 in shape:
            raise ModelError(
                f"output {name} has shape {shape}, not [B,1,H,W]: say which with --output-name"
            )
        mask: Floats = np.ascontiguousarray(answer[0], np.float32)
        low, high = float(mask.min()), float(mask.max())
        if not np.isfinite([low, high]).all():
            raise ModelError(f"output {name} is not finite: the model overflows; export it in fp32")
        if self._guessed and self.contract.activation == "sigmoid" and low >= 0 and high <= 1:
            raise ModelError(
                f"output {name} lies in {low:.3f}..{high:.3f}, which looks like alpha, but has the "
                "name of logits: say --activation none or --activation sigmoid"
            )
        return mask


def providers() -> list[str]:
    """Names of ONNX Runtime's execution providers here; DeviceError when it is not installed."""
    return list(_onnxruntime().get_available_providers())


def version() -> str:
    """ONNX Runtime's version; DeviceError when it is not installed."""
    return str(_onnxruntime().__version__)


def _onnxruntime() -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise DeviceError(
            "ONNX Runtime is not installed: pip install 'birefnet-trt[cpu]', "
            "or 'birefnet-trt[gpu]' for CUDA"
        ) from error


def _open_session(source: Source, device: str, threads: int | None) -> tuple[Any, str]:
    """A session and the device it runs on."""
    if device == "tensorrt":
        raise DeviceError(
            "this version runs no TensorRT engines yet: use --device cuda or --device cpu"
        )
    if device not in DEVICES:
        raise DeviceError(f"device is {device!r}; known devices: {', '.join(DEVICES)}")
    has_cuda = _PROVIDERS["cuda"] in providers()
    if device == "cuda" and not has_cuda:
        raise DeviceError(
            "ONNX Runtime has no CUDA here: pip uninstall onnxruntime, "
            "then pip install 'birefnet-trt[gpu]'"
        )
    if device == "cuda" or (device == "auto" and has_cuda):
        session = _create(source, "cuda", threads)
        if session.get_providers()[0] == _PROVIDERS["cuda"]:
            return session, "cuda"
        if device == "cuda":
            raise DeviceError(
                "ONNX Runtime could not start CUDA: check nvidia-smi, and that CUDA and cuDNN are "
                "there (pip install 'onnxruntime-gpu[cuda,cudnn]' brings them)"
            )
    return _create(source, "cpu", threads), "cpu"


def _create(source: Source, device: str, threads: int | None) -> Any:
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _LOG_ERRORS
    names = [_PROVIDERS["cpu"]]
    if device == "cuda":
        names.insert(0, _PROVIDERS["cuda"])
        _preload_cuda(runtime)
    try:
        return runtime.InferenceSession(str(source.path), options, providers=names)
    except Exception as error:
        raise ModelError(
            f"{source.path} does not load, export or download it again: {one_line(error)}"
        ) from error


def _preload_cuda(runtime: Any) -> None:
    """Find CUDA libraries that came as wheels; this prints, and stdout may carry a picture."""
    with contextlib.redirect_stdout(sys.stderr):
        runtime.preload_dlls()


def _ports(nodes: Any) -> list[Port]:
    return [
        Port(node.name, tuple(size if isinstance(size, int) else None for size in node.shape))
        for node in nodes
    ]


def _check_types(session: Any, source: Source) -> None:
    for port in session.get_inputs():
        if port.type not in _TYPES:
            raise ModelError(
                f"{source.path}: input {port.name} is {port.type}, not float: no background model"
            )


__all__ = ["DEVICES", "Executor", "providers", "version"]
