"""TensorRT plans: which one runs here, and its execution. The one module that imports tensorrt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from birefnet_engine import manifest as manifests
from birefnet_engine.manifest import Manifest, ManifestError
from birefnet_export.contract import Contract
from birefnet_runtime.errors import (
    DamagedPlanError,
    NoPlanError,
    NoTensorRTError,
    OtherGpuError,
    OtherTensorRTError,
    OutOfMemoryError,
    PlanError,
    one_line,
)
from birefnet_runtime.gpu import Device, Stream

PRECISIONS = ("fp16", "fp32")
LOG = logging.getLogger("birefnet_runtime.tensorrt")
# TensorRT's severities, most severe first, by name: its numbers are not promised.
_LEVELS = {
    "INTERNAL_ERROR": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}


def version() -> str:
    """The installed TensorRT's version; NoTensorRTError when it is not installed."""
    return str(_tensorrt().__version__)


def _tensorrt() -> Any:
    try:
        return import_module("tensorrt")
    except ImportError as error:
        raise NoTensorRTError(
            f"TensorRT does not load ({one_line(error)}): pip install "
            "'birefnet-trt[tensorrt-cu12]' (or -cu13, by the CUDA that nvidia-smi shows)"
        ) from error


def choose(
    folder: Path,
    contract: Contract,
    device: Device,
    precision: str | None = None,
    batch: int | None = None,
) -> list[Manifest]:
    """The plans in ``folder`` to try, best first; the rest need less memory than the first.

    ``precision`` None takes fp16 where it was built, else fp32. ``batch`` None takes the smallest.
    Raises NoTensorRTError, NoPlanError, OtherTensorRTError, OtherGpuError or DamagedPlanError.
    """
    installed = version()
    built = _find(folder)
    build = _command(folder, precision, batch)
    if not built:
        raise NoPlanError(f"no plan was built for {folder}: {build}")
    same = [one for one in built if one.tensorrt == installed]
    if not same:
        found = ", ".join(sorted({one.tensorrt for one in built}))
        raise OtherTensorRTError(
            f"the plans of {folder} are for TensorRT {found}, here is {installed}: {build}"
        )
    here = [one for one in same if (one.gpu, one.capability) == (device.name, device.capability)]
    if not here:
        found = ", ".join(sorted({one.gpu for one in same}))
        raise OtherGpuError(
            f"the plans of {folder} are for {found}, here is {device.name}: {build}"
        )
    current = [one for one in here if one.fits(contract.files)]
    if not current:
        raise NoPlanError(f"{folder} was exported again after its plans were built: {build}")
    return _ordered(current, precision, batch, build)


def _find(folder: Path) -> list[Manifest]:
    try:
        return manifests.find(folder)
    except ManifestError as error:
        raise DamagedPlanError(str(error)) from error


def _command(folder: Path, precision: str | None, batch: int | None) -> str:
    parts = [f"birefnet-build {folder}"]
    if precision is not None:
        parts.append(f"--precision {precision}")
    if batch is not None:
        parts.append(f"--batch {batch}")
    return " ".join(parts)


def _ordered(
    plans: list[Manifest], precision: str | None, batch: int | None, build: str
) -> list[Manifest]:
    kinds = [kind for kind in PRECISIONS if any(one.precision == kind for one in plans)]
    wanted = precision or kinds[0]
    fitting = [one for one in plans if one.precision == wanted]
    first = min((one.batch for one in fitting), default=None) if batch is None else batch
    smaller = [one for one in fitting if first is not None and one.batch < first]
    exact = [one for one in fitting if one.batch == first]
    if not exact:
        have = ", ".join(f"{one.precision} batch {one.batch}" for one in plans)
        raise NoPlanError(f"no plan of the kind asked for was built (there are {have}): {build}")
    return exact + sorted(smaller, key=lambda one: -one.batch)


def open_plan(manifest: Manifest, folder: Path, contract: Contract, device: Device) -> Plan:
    """The plan of ``manifest``, verified and deserialised; the GPU is active.

    Raises DamagedPlanError, PlanError where TensorRT refuses it, or OutOfMemoryError.
    """
    try:
        path = manifests.verify(manifest, folder)
    except ManifestError as error:
        raise DamagedPlanError(str(error)) from error
    return Plan(path.read_bytes(), contract, device, manifest.batch, f"birefnet-build {folder}")


class Plan:
    """A deserialised plan; see ``slot.Engine``. Lives until ``close`` and outlives its contexts.

    ``data``: the plan's bytes, trusted. Its tensors must be the contract's, float32, with ``batch``
    rows.
    """

    capturable = True

    def __init__(
        self, data: bytes, contract: Contract, device: Device, batch: int, build: str
    ) -> None:
        trt = _tensorrt()
        self._device, self._build, self.batch = device, build, batch
        self._messages: list[str] = []
        # TensorRT keeps plain pointers to its logger and runtime: they live as long as this.
        self._logger = _logger(trt, self._messages)
        self._runtime = self._made(lambda: trt.Runtime(self._logger), "TensorRT does not start")
        self._engine = self._made(
            lambda: self._runtime.deserialize_cuda_engine(data), "the plan does not load"
        )
        self._names = (contract.input, contract.output)
        shapes = _check(trt, self._engine, contract, batch, build)
        self.size = (contract.height, contract.width)
        self.answer = (shapes[1][-2], shapes[1][-1])

    @property
    def memory(self) -> int:
        """Bytes of device memory that each execution context takes for its activations."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            if hasattr(self._engine, name):
                return int(getattr(self._engine, name))
        return 0

    def bind(self, image: int, answer: int, stream: Stream) -> BoundPlan:
        """An execution context on these addresses; OutOfMemoryError or PlanError."""
        context = self._made(self._engine.create_execution_context, "the plan gives no context")
        for name, pointer in zip(self._names, (image, answer), strict=True):
            if not context.set_tensor_address(name, pointer):
                raise PlanError(f"the plan takes no address for {name}: {self._build}")
        return BoundPlan(context, self._messages)

    def close(self) -> None:
        """Free the weights; contexts were closed before. May be called again."""
        self._engine = self._runtime = None

    def _made(self, make: Callable[[], Any], failure: str) -> Any:
        """What ``make`` returns; TensorRT says None, or raises, where it fails."""
        self._messages.clear()
        try:
            made, reason = make(), ""
        except Exception as error:
            made, reason = None, one_line(error)
        if made is not None:
            return made
        reason = "; ".join(self._messages) or reason or "it gives no reason"
        if _is_memory(reason) or self._is_full():
            raise OutOfMemoryError(
                f"the GPU's memory is full ({failure}: {reason}): end other programs on it, or "
                f"{self._build.partition(' --')[0]} --batch 1"
            )
        raise PlanError(f"{failure} ({reason}): {self._build}")

    def _is_full(self) -> bool:
        """Whether so little is left that this is the likely reason, whatever the message."""
        free, _ = self._device.memory()
        return free < _NEARLY_NOTHING


# A context of the smallest network needs more.
_NEARLY_NOTHING = 16 << 20


def _is_memory(reason: str) -> bool:
    """Whether TensorRT speaks of memory; its words differ between versions."""
    text = reason.lower().replace(" ", "").replace("_", "")
    return any(word in text for word in ("outofmemory", "memoryallocation", "cudamalloc"))


def _check(
    trt: Any, engine: Any, contract: Contract, batch: int, build: str
) -> list[tuple[int, ...]]:
    """Shapes of input and output, if they are what the contract says, in float32."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    wanted = {contract.input: trt.TensorIOMode.INPUT, contract.output: trt.TensorIOMode.OUTPUT}
    if sorted(names) != sorted(wanted):
        found, contracts = ", ".join(names), ", ".join(wanted)
        raise PlanError(f"the plan has the tensors {found}, the contract {contracts}: {build}")
    shapes = [tuple(engine.get_tensor_shape(name)) for name in wanted]
    good = shapes[0] == (batch, *contract.shape[1:]) and shapes[1][:2] == (batch, 1)
    good = good and len(shapes[1]) == 4 and min(shapes[1]) > 0
    for name, mode in wanted.items():
        good = good and engine.get_tensor_mode(name) == mode
        good = good and engine.get_tensor_dtype(name) == trt.DataType.FLOAT
    if not good:
        found = ", ".join(
            f"{name} {list(shape)}" for name, shape in zip(wanted, shapes, strict=True)
        )
        raise PlanError(f"the plan's tensors ({found}) do not fit the contract: {build}")
    return shapes


class BoundPlan:
    """An execution context on fixed addresses. Used on one stream only."""

    def __init__(self, context: Any, messages: list[str]) -> None:
        self._context, self._messages = context, messages

    def enqueue(self, stream: Stream) -> None:
        self._messages.clear()
        if not self._context.execute_async_v3(stream.handle):
            reason = "; ".join(self._messages) or "it gives no reason"
            if _is_memory(reason):
                raise OutOfMemoryError(
                    f"the GPU's memory is full ({reason}): birefnet-build MODEL --batch 1"
                )
            raise PlanError(f"TensorRT failed to run ({reason}): birefnet-build MODEL --force")

    def close(self) -> None:
        self._context = None


def _logger(trt: Any, messages: list[str]) -> Any:
    """A logger that hands everything to ``logging`` and keeps the errors for our own texts."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = _LEVELS.get(str(getattr(severity, "name", severity)), logging.INFO)
            LOG.log(min(level, logging.INFO), "%s", message)
            if level >= logging.ERROR:
                messages.append(" ".join(message.split()))

    return Logger()
