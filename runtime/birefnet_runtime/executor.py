"""Tensor -> the model's answer, on ONNX Runtime; the one file that imports it.

Executor          a tensor on the host, on the CPU or a GPU
SessionEngine     a tensor on the GPU, bound where it lies: an engine for ``slot``
"""

from __future__ import annotations

import contextlib
import sys
import threading
from importlib import import_module
from typing import Any

import numpy as np

from birefnet_export.contract import Contract
from birefnet_runtime.bare import Port
from birefnet_runtime.errors import (
    BirefnetError,
    DeviceError,
    ModelError,
    OutOfMemoryError,
    one_line,
)
from birefnet_runtime.frame import Floats, Slot
from birefnet_runtime.gpu import Device, Stream
from birefnet_runtime.model import Settled, Source

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
# What may run a model on a GPU: CUDA's own kernels, or TensorRT inside ONNX Runtime, which builds
# its engine anew each time it is opened (minutes) and leaves to CUDA what it cannot do.
PROVIDERS = ("cuda", "tensorrt")
_NAMES = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# The providers of a session, best first.
_CHAINS = {"cpu": ("cpu",), "cuda": ("cuda", "cpu"), "tensorrt": ("tensorrt", "cuda", "cpu")}
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
        self.provider = str(session.get_providers()[0])
        inputs = {port.name: port.type for port in session.get_inputs()}
        self._dtype = _TYPES[inputs[self.contract.input]]

    @classmethod
    def open(
        cls,
        source: Source,
        device: str = "auto",
        threads: int | None = None,
        provider: str = "cuda",
    ) -> Executor:
        """Load ``source`` once. ``threads`` is the number of CPU threads of one run; None: one per
        core. ``provider`` is what runs it on a GPU.

        ``auto`` takes CUDA where it works, else the CPU. Raises DeviceError when a named device is
        not there, ModelError when the file does not load or does not fit its contract.
        """
        if threads is not None and threads < 1:
            raise DeviceError(f"threads must be 1 or more, not {threads}")
        session, found = _open_session(source, device, threads, provider)
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


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built for CUDA; DeviceError when it is not installed."""
    return _NAMES["cuda"] in providers()


def _open_session(
    source: Source, device: str, threads: int | None, provider: str
) -> tuple[Any, str]:
    """A session and the device it runs on."""
    if device == "tensorrt":
        raise DeviceError("TensorRT plans do not run in ONNX Runtime: use Matting.open")
    if device not in DEVICES:
        raise DeviceError(f"device is {device!r}; known devices: {', '.join(DEVICES)}")
    if device == "cuda":
        return open_on_gpu(source, threads, provider), "cuda"
    if device == "auto" and has_cuda():
        session = _create(source, "cuda", threads)
        if session.get_providers()[0] == _NAMES["cuda"]:
            return session, "cuda"
    return _create(source, "cpu", threads), "cpu"


def open_on_gpu(
    source: Source, threads: int | None, provider: str, stream: int | None = None
) -> Any:
    """A session that really runs on ``provider``; DeviceError where it fell away.

    ``stream``: the CUDA stream handle on which all its work is queued, None for one of its own.
    """
    name = _NAMES[provider]
    if name not in providers():
        what = "CUDA" if provider == "cuda" else "TensorRT"
        raise DeviceError(
            f"ONNX Runtime has no {what} here: pip uninstall onnxruntime, "
            "then pip install 'birefnet-trt[gpu]'"
        )
    session = _create(source, provider, threads, stream)
    session.disable_fallback()
    found = session.get_providers()
    if found[0] != name:
        raise DeviceError(
            f"ONNX Runtime could not start {name} and runs {found[0]}: check nvidia-smi, and that "
            "CUDA and cuDNN are there (pip install 'onnxruntime-gpu[cuda,cudnn]' brings them)"
        )
    return session


def _create(source: Source, provider: str, threads: int | None, stream: int | None = None) -> Any:
    runtime = _onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = _LOG_ERRORS
    chain = [_with_options(name, stream) for name in _CHAINS[provider]]
    if provider != "cpu":
        _preload_cuda(runtime)
    try:
        return runtime.InferenceSession(str(source.path), options, providers=chain)
    except Exception as error:
        raise ModelError(
            f"{source.path} does not load, export or download it again: {one_line(error)}"
        ) from error


def _with_options(provider: str, stream: int | None) -> Any:
    """A provider as a session takes it. Copies go to the same stream as the work."""
    name = _NAMES[provider]
    if stream is None or provider == "cpu":
        return name
    options = {"device_id": "0", "user_compute_stream": str(stream)}
    if provider == "cuda":
        options["do_copy_in_default_stream"] = "1"
    return (name, options)


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


class SessionEngine:
    """A session on the GPU whose input and output stay there; see ``slot.Engine``.

    All its runs go to one stream, one after the other: what a slot queued before waits in front of
    it, what it queues later waits behind. ONNX Runtime allocates within a run, so runs are not
    captured.
    """

    capturable = False
    # Its arena grows with the first run and is not told apart from the weights.
    memory = 0

    def __init__(self, session: Any, contract: Contract, device: Device, stream: Stream) -> None:
        self._session, self._device, self._stream = session, device, stream
        self.contract, self.batch = contract, contract.batch
        self.size = (contract.height, contract.width)
        self.provider = str(session.get_providers()[0])
        self._shape, self.answer = _answer_shape(session, contract)
        self._turn = threading.Lock()

    @classmethod
    def open(
        cls, source: Source, device: Device, threads: int | None, provider: str
    ) -> SessionEngine:
        """Load ``source``, a model with a contract; DeviceError or ModelError."""
        stream = device.open_stream()
        session = open_on_gpu(source, threads, provider, stream.handle)
        _check_types(session, source)
        ports = (_ports(session.get_inputs()), _ports(session.get_outputs()))
        return cls(session, source.settle(*ports).contract, device, stream)

    def bind(self, image: int, answer: int, stream: Stream) -> BoundSession:
        """The session on these addresses, behind and in front of what is on ``stream``."""
        binding, contract, where = self._session.io_binding(), self.contract, self._device.ordinal
        kind = ("cuda", where, np.float32)
        binding.bind_input(contract.input, *kind, list(contract.shape), image)
        binding.bind_output(contract.output, *kind, list(self._shape), answer)
        return BoundSession(self, binding)

    def run(self, binding: Any, stream: Stream) -> None:
        """Queue a run of ``binding`` between what is on ``stream`` and what will be."""
        options = _onnxruntime().RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with self._turn:
            self._device.order(stream.handle, self._stream.handle)
            try:
                self._session.run_with_iobinding(binding, options)
            except Exception as error:
                raise _failed_run(self.contract, error) from error
            self._device.order(self._stream.handle, stream.handle)

    def close(self) -> None:
        """Free the session. May be called again."""
        self._session = None


class BoundSession:
    """A session with its input and output bound; see ``slot.Bound``."""

    def __init__(self, engine: SessionEngine, binding: Any) -> None:
        self._engine, self._binding = engine, binding

    def enqueue(self, stream: Stream) -> None:
        self._engine.run(self._binding, stream)

    def close(self) -> None:
        self._binding = None


def _failed_run(contract: Contract, error: Exception) -> BirefnetError:
    text = one_line(error)
    words = text.lower()
    if "out of memory" in words or "failed to allocate memory" in words:
        return OutOfMemoryError(f"the GPU's memory is full ({text}): end other programs on it")
    return ModelError(f"{contract.name} failed to run: {text}")


def _answer_shape(session: Any, contract: Contract) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The output's whole shape and its (height, width); ModelError where binding cannot know it."""
    (found,) = [node for node in session.get_outputs() if node.name == contract.output]
    kinds = {node.type for node in session.get_inputs()} | {found.type}
    shape = tuple(found.shape)
    fixed = all(isinstance(size, int) for size in shape) and len(shape) == 4
    if kinds != {"tensor(float)"} or not fixed or shape[:2] != (contract.batch, 1):
        raise ModelError(
            f"output {contract.output} is {found.type} {list(shape)}, not float "
            f"[{contract.batch},1,H,W]: export the model again"
        )
    return shape, (shape[2], shape[3])


__all__ = ["DEVICES", "PROVIDERS", "Executor", "SessionEngine", "has_cuda", "providers", "version"]
