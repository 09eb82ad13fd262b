"""The one module that imports TensorRT, and all that 8.6, 10 and 11 do differently.

What differs is found by name, never by number: enum values shift from version to version. A name
that is not in ``ONLY`` exists in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .errors import BuildError, MissingError, one_line

# Oldest release whose ONNX parser takes LayerNormalization and GridSample.
OLDEST = (8, 6)
INSTALL = "pip install 'birefnet-trt[tensorrt-cu12]' (or -cu13, by the CUDA that nvidia-smi shows)"

# Names that some version lacks -> the majors that have them. A test compares this with the three
# API tables, and sees that every use stands under ``if has(...)``.
ONLY: dict[str, tuple[int, ...]] = {
    "BuilderFlag.FP16": (8, 10),
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": (8, 10),
    "EngineStat.TOTAL_WEIGHTS_SIZE": (10, 11),
    "IBuilderConfig.progress_monitor": (10, 11),
    "ICudaEngine.device_memory_size": (8, 10),
    "ICudaEngine.device_memory_size_v2": (10, 11),
    "ICudaEngine.get_engine_stat": (10, 11),
    "ILayer.precision": (8, 10),
    "ILayer.set_output_type": (8, 10),
    "IProgressMonitor": (10, 11),
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": (8, 10),
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": (10, 11),
    "ParserError.node_name": (10, 11),
    "TacticSource.CUBLAS": (8, 10),
    "TacticSource.CUBLAS_LT": (8, 10),
    "TacticSource.CUDNN": (8, 10),
}


def load() -> Any:
    """The module ``tensorrt``. Call ``driver.probe`` first.

    Raises MissingError when it is not installed, does not load, or is older than 8.6.
    """
    try:
        trt = import_module("tensorrt")
    except ImportError as error:
        known = "No module named 'tensorrt'" in str(error)
        reason = "" if known else f" ({one_line(error)})"
        raise MissingError(f"TensorRT is not installed{reason}: {INSTALL}") from error
    except OSError as error:
        raise MissingError(
            f"TensorRT does not load ({one_line(error)}): pip install --force-reinstall tensorrt"
        ) from error
    if release(trt) < OLDEST:
        raise MissingError(f"TensorRT {trt.__version__} is older than 8.6: {INSTALL}")
    return trt


def release(trt: Any) -> tuple[int, int]:
    """(major, minor) of TensorRT."""
    major, minor, *_ = str(trt.__version__).split(".")
    return int(major), int(minor)


def has(trt: Any, name: str) -> bool:
    """Whether this TensorRT has ``name``, one of ``ONLY``, such as ``BuilderFlag.FP16``."""
    if name not in ONLY:
        raise KeyError(f"{name} is not declared in birefnet_engine.api.ONLY")
    found = trt
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


def strongly_typed(trt: Any) -> bool:
    """Whether types are taken from the graph alone: an option of 10, the only way of 11."""
    return has(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED")


def make_logger(trt: Any, log: Callable[[str, str], None]) -> Any:
    """A TensorRT logger that hands (severity name, text) to ``log``, from any thread.

    It must outlive everything that is made with it.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            log(severity.name, msg)

    return Logger()


def make_builder(trt: Any, logger: Any) -> Any:
    """A builder. Raises BuildError where TensorRT does not take this GPU or driver."""
    try:
        return trt.Builder(logger)
    except TypeError as error:
        raise BuildError(_refused(trt, error)) from error


def make_engine(trt: Any, logger: Any, plan: Any) -> tuple[Any, Any]:
    """(engine, runtime) from a plan's bytes, which must be trusted; the runtime must outlive it.

    Raises BuildError when the plan does not load here.
    """
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:
        raise BuildError(_refused(trt, error)) from error
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError(
            "TensorRT does not load its own plan: build again with --force, with more GPU memory "
            "free (nvidia-smi lists who uses it)"
        )
    return engine, runtime


def _refused(trt: Any, error: TypeError) -> str:
    # The bindings turn a null pointer from the library into a TypeError.
    return (
        f"TensorRT {trt.__version__} does not start on this GPU and driver ({one_line(error)}): "
        "update the driver, or install a TensorRT that supports this GPU"
    )


def create_network(trt: Any, builder: Any) -> Any:
    """An empty network: explicit batch where that must be said, strongly typed where possible."""
    flags = 0
    if has(trt, "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if has(trt, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"):
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return builder.create_network(flags)


def allow_half(trt: Any, config: Any) -> None:
    """Let a weakly typed network run in FP16, except where a layer's precision is pinned.

    Does nothing to a strongly typed one, for which these flags are an error.
    """
    if strongly_typed(trt):
        return
    if has(trt, "BuilderFlag.FP16") and has(trt, "BuilderFlag.OBEY_PRECISION_CONSTRAINTS"):
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)


def pin_float(trt: Any, layer: Any) -> None:
    """Pin a layer of a weakly typed network to FP32: what it computes in and what it gives."""
    if has(trt, "ILayer.precision") and has(trt, "ILayer.set_output_type"):
        layer.precision = trt.DataType.FLOAT
        for index in range(layer.num_outputs):
            layer.set_output_type(index, trt.DataType.FLOAT)


def clear_external_tactics(trt: Any, config: Any) -> None:
    """Do without cuBLAS and cuDNN, where they are still tactic sources: they need not be there."""
    sources = config.get_tactic_sources()
    if has(trt, "TacticSource.CUBLAS"):
        sources &= ~(1 << int(trt.TacticSource.CUBLAS))
    if has(trt, "TacticSource.CUBLAS_LT"):
        sources &= ~(1 << int(trt.TacticSource.CUBLAS_LT))
    if has(trt, "TacticSource.CUDNN"):
        sources &= ~(1 << int(trt.TacticSource.CUDNN))
    config.set_tactic_sources(sources)


def attach_monitor(trt: Any, config: Any, phases: Any) -> Any:
    """Report the build's phases to ``phases`` (a ``progress.Phases``).

    The monitor, which must live as long as the build, or None where TensorRT reports nothing. It
    is called from TensorRT's threads; when a step answers False TensorRT gives the build up.
    """
    if not (has(trt, "IProgressMonitor") and has(trt, "IBuilderConfig.progress_monitor")):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return bool(phases.step(phase_name, step))

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor


def node_name(trt: Any, error: Any) -> str:
    """The ONNX node that a parser error is about; "" where only its number is known."""
    if has(trt, "ParserError.node_name"):
        return str(error.node_name() or "")
    return ""


def context_bytes(trt: Any, engine: Any) -> int:
    """Bytes of device memory that one execution context takes, weights not counted."""
    if has(trt, "ICudaEngine.device_memory_size_v2"):
        return int(engine.device_memory_size_v2)
    return int(engine.device_memory_size)


def weights_bytes(trt: Any, engine: Any) -> int | None:
    """Bytes of the engine's weights, or None where TensorRT does not say."""
    if has(trt, "ICudaEngine.get_engine_stat") and has(trt, "EngineStat.TOTAL_WEIGHTS_SIZE"):
        return int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))
    return None
