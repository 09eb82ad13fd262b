"""Which device runs a model: a plan on TensorRT, else ONNX Runtime on CUDA, else on the CPU."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from birefnet_engine.manifest import ENGINES, Manifest
from birefnet_export.contract import Contract
from birefnet_runtime import cubin, plan
from birefnet_runtime import model as models
from birefnet_runtime.cuda import CudaBackend, Settings
from birefnet_runtime.device import open_device
from birefnet_runtime.errors import (
    DeviceError,
    LostDeviceError,
    NoDriverError,
    NoPlanError,
    OptionError,
    OutOfMemoryError,
    PlanError,
    one_line,
)
from birefnet_runtime.executor import DEVICES, PROVIDERS, Executor, SessionEngine, has_cuda
from birefnet_runtime.gpu import Device
from birefnet_runtime.host import HostBackend
from birefnet_runtime.model import Overrides, Source

LOG = logging.getLogger("birefnet_runtime")


@dataclass(frozen=True)
class Request:
    """What a caller asks of the device; see ``Matting.open``."""

    device: str = "auto"
    threads: int | None = None
    precision: str | None = None
    batch: int | None = None
    provider: str = "cuda"
    stream: int | None = None
    graphs: bool = True

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise DeviceError(f"device is {self.device!r}; known devices: {', '.join(DEVICES)}")
        if self.threads is not None and self.threads < 1:
            raise DeviceError(f"threads must be 1 or more, not {self.threads}")
        if self.precision not in (None, *plan.PRECISIONS):
            known = ", ".join(plan.PRECISIONS)
            raise OptionError(f"precision is {self.precision!r}; known values: {known}")
        if self.batch is not None and self.batch < 1:
            raise OptionError(f"batch must be 1 or more, not {self.batch}")
        if self.provider not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise OptionError(f"provider is {self.provider!r}; known values: {known}")
        self._check_devices()

    def _check_devices(self) -> None:
        """Refuse what would be ignored on the device that was named."""
        chosen = self.precision is not None or self.batch is not None
        if chosen and self.device not in ("auto", "tensorrt"):
            raise OptionError(
                f"precision and batch choose a TensorRT plan, not a model on {self.device}: leave "
                "them out, or use --device tensorrt"
            )
        if self.provider != "cuda" and self.device != "cuda":
            raise OptionError(
                f"provider {self.provider} is one of ONNX Runtime on a GPU: add --device cuda"
            )
        if self.stream is not None and self.device == "cpu":
            raise OptionError("a CUDA stream has no meaning on the CPU: leave it out")

    @property
    def settings(self) -> Settings:
        """How a GPU is used."""
        return Settings(self.graphs, self.stream, self.threads)


def open_backend(
    model: str | Path, overrides: Overrides, request: Request
) -> CudaBackend | HostBackend:
    """The backend for ``model``. ``auto`` says through ``logging`` why a plan is passed over.

    Raises ModelError, ContractError, PlanError or DeviceError.
    """
    if request.device == "tensorrt":
        return _open_plan(*models.locate_folder(model, overrides), request)
    if request.device == "auto" and _has_plans(model):
        try:
            return _open_plan(*models.locate_folder(model, overrides), request)
        except LostDeviceError:
            raise
        except (DeviceError, PlanError) as error:
            LOG.warning("the TensorRT plan is not used: %s", one_line(error))
    source = models.locate(model, overrides)
    if request.device == "cuda" or (request.device == "auto" and has_cuda()):
        return _open_cuda(source, request)
    return HostBackend(Executor.open(source, "cpu", request.threads))


def _has_plans(model: str | Path) -> bool:
    folder = models.folder_of(model)
    return folder is not None and any((folder / ENGINES).glob("*.plan"))


def _open_plan(folder: Path, contract: Contract, request: Request) -> CudaBackend:
    device = _gpu()
    with device.active():
        found = plan.choose(folder, contract, device, request.precision, request.batch)
        remarks: tuple[str, ...] = (found[0].precision,)
        for manifest in found:
            try:
                return _run_plan(manifest, folder, contract, device, request, remarks)
            except OutOfMemoryError as error:
                text = f"the plan for batch {manifest.batch} does not fit the GPU's memory"
                LOG.warning("%s: %s", text, one_line(error))
                remarks, full = (*remarks, text), error
    raise OutOfMemoryError(
        f"no plan of {folder} fits the GPU's memory: end other programs on it (nvidia-smi lists "
        f"them), or birefnet-build {folder} --batch 1 if that was not built ({one_line(full)})"
    )


def _run_plan(
    manifest: Manifest,
    folder: Path,
    contract: Contract,
    device: Device,
    request: Request,
    remarks: tuple[str, ...],
) -> CudaBackend:
    kernels = cubin.of_plan(manifest, folder)
    engine = plan.open_plan(manifest, folder, contract, device)
    settings = request.settings
    return CudaBackend(device, engine, kernels, contract, "tensorrt", settings, remarks)


def _gpu() -> Device:
    try:
        return open_device()
    except NoDriverError as error:
        raise NoDriverError(f"TensorRT needs an NVIDIA GPU: {error}") from error


def _open_cuda(source: Source, request: Request) -> CudaBackend | HostBackend:
    """ONNX Runtime on CUDA: with the kernels round it where they are here, else with host steps."""
    try:
        found = _find_kernels(source)
    except (DeviceError, PlanError) as error:
        reason = f"steps on the host: {one_line(error)}"
    else:
        return _open_session(source, request, *found)
    try:
        executor = Executor.open(source, "cuda", request.threads, request.provider)
    except DeviceError as error:
        if request.device == "cuda":
            raise
        LOG.warning("CUDA is not used: %s", one_line(error))
        return HostBackend(Executor.open(source, "cpu", request.threads))
    return HostBackend(executor, f"{executor.provider}, {reason}")


def _find_kernels(source: Source) -> tuple[Device, bytes]:
    if source.contract is None:
        raise NoPlanError("a bare .onnx has no kernels beside it")
    device = open_device()
    return device, cubin.find(source.path.parent, device.name, device.capability)


def _open_session(
    source: Source, request: Request, device: Device, kernels: bytes
) -> CudaBackend | HostBackend:
    with device.active():
        engine = SessionEngine.open(source, device, request.threads, request.provider)
        contract, settings = engine.contract, request.settings
        remarks = (f"ONNX Runtime's {engine.provider}, kernels on the GPU",)
        return CudaBackend(device, engine, kernels, contract, "cuda", settings, remarks)
