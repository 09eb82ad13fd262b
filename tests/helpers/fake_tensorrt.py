"""A module like ``tensorrt`` with exactly the names of one version, and just enough behaviour.

Names come from the tables in ``tests/golden/trt_api``: what a version lacks raises AttributeError,
at a class as at an instance, and what this fake does not play raises NotImplementedError. What
happens is decided by a ``Script``, which also writes down what was done.
"""

from __future__ import annotations

import enum
import json
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

TABLES = Path(__file__).resolve().parents[1] / "golden" / "trt_api"
VERSIONS = ("8.6.0", "10.16", "11.4")
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def table(version: str) -> dict[str, Any]:
    """The API table of ``version``."""
    data: dict[str, Any] = json.loads((TABLES / f"{version}.json").read_text())
    return data


@dataclass
class Script:
    """What the fake plays, and what it has seen.

    ``layers``: (name, LayerType, DataType of the output) of the parsed network. ``errors``: (node
    number, node name, text) of a failing parse. ``plan``: the bytes of a build, None for a failure
    that logs ``complaint``. ``steps``: progress steps of a build, each of ``pause`` seconds.
    ``refuse_gpu``: constructors give a null pointer, as without a driver.
    """

    layers: tuple[tuple[str, str, str], ...] = (
        ("bb/norm", "NORMALIZATION", "HALF"),
        ("dec/fp32/grid", "ELEMENTWISE", "FLOAT"),
        ("dec/fp32/up", "CAST", "FLOAT"),
        ("(Unnamed Layer* 3) [Shuffle]", "SHUFFLE", "FLOAT"),
        ("dec/fp32/sample", "GRID_SAMPLE", "FLOAT"),
        ("dec/fp32/index", "GATHER", "INT32"),
        ("dec/out", "CONVOLUTION", "FLOAT"),
    )
    errors: tuple[tuple[int, str, str], ...] = ()
    plan: bytes | None = b"a plan"
    complaint: str = ""
    steps: int = 3
    pause: float = 0.0
    refuse_gpu: bool = False
    inspector: str | None = None
    seen: dict[str, Any] = field(default_factory=dict)
    on_step: Callable[[int], None] | None = None


def make(version: str, script: Script | None = None) -> Any:
    """A fresh module of ``version``, one of ``VERSIONS``."""
    data, script = table(version), script or Script()
    module: Any = ModuleType("tensorrt")
    module.__version__ = data["version"]
    for name, members in data["enums"].items():
        setattr(module, name, cast(Any, _Enum)(name, members))
    for name, allowed in data["classes"].items():
        setattr(module, name, _bound(name, set(allowed.split()), module, script))
    # The classes that programs derive from take attributes of their own.
    severity = cast(Any, _Enum)("Severity", {name: i for i, name in enumerate(SEVERITIES)})
    constants = {"Severity": severity, **severity.__members__}
    for name, extra in (("ILogger", constants), ("IProgressMonitor", {})):
        if name in data["classes"]:
            setattr(module, name, type(name, (), {"__init__": lambda self: None, **extra}))
    return module


class _Enum(enum.Enum):
    """Like a pybind11 enumeration: a number only when asked."""

    def __int__(self) -> int:
        return int(self.value)


def _bound(name: str, allowed: set[str], module: Any, script: Script) -> type:
    """The class ``name`` with the attributes ``allowed`` and the behaviour below, if any."""
    behaviour = _BEHAVIOUR.get(name, object)
    body = {
        key: item
        for key, item in vars(behaviour).items()
        if key in allowed or (key.startswith("_") and key not in ("__dict__", "__weakref__"))
    }
    for key in allowed - set(body):
        body[key] = property(_not_played(f"{name}.{key}"))

    def check(key: str) -> None:
        if not key.startswith("_") and key not in allowed:
            raise AttributeError(f"{name!r} object has no attribute {key!r}")

    def read(self: object, key: str) -> Any:
        check(key)
        return object.__getattribute__(self, key)

    def write(self: object, key: str, value: object) -> None:
        check(key)
        object.__setattr__(self, key, value)

    body.update(__getattribute__=read, __setattr__=write, _trt=module, _script=script)
    return type(name, (), body)


def _not_played(name: str) -> Callable[[object], Any]:
    def get(self: object) -> Any:
        raise NotImplementedError(f"the fake TensorRT does not play {name}")

    return get


class _Acting:
    """What every acting class gets when it is bound to a module."""

    _trt: Any
    _script: Script


class Builder(_Acting):
    def __init__(self, logger: Any) -> None:
        if self._script.refuse_gpu:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._logger = logger

    def create_network(self, flags: int = 0) -> Any:
        self._script.seen["network_flags"] = flags
        return self._trt.INetworkDefinition()

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        script = self._script
        assert network._parser() is not None, "the weights went with the parser"
        script.seen["config"] = config._settings()
        script.seen["pinned"] = [item._name for item in network._layers if item._pinned]
        if config._cache is not None:
            config._cache._entries.add(f"timed {len(config._cache._entries)}")
        if not self._steps(getattr(config, "_monitor", None)) or script.plan is None:
            self._logger.log(self._trt.ILogger.ERROR, script.complaint or "given up")
            return None
        return memoryview(script.plan)

    def _steps(self, monitor: Any) -> bool:
        """Play the steps; False when the monitor wants the build to end."""
        if monitor is not None:
            monitor.phase_start("Build", None, self._script.steps)
            monitor.phase_start("Tactics", "Build", 2)
        going = True
        for step in range(self._script.steps):
            time.sleep(self._script.pause)
            if self._script.on_step:
                self._script.on_step(step)
            if monitor is not None:
                going = monitor.step_complete("Build", step)
            if not going:
                break
        if monitor is not None:
            monitor.phase_finish("Tactics")
            monitor.phase_finish("Build")
        return going


class IBuilderConfig(_Acting):
    builder_optimization_level = 3
    profiling_verbosity: Any = None

    def __init__(self) -> None:
        # TensorRT's defaults: TF32 on, every tactic source on.
        self._flags = {self._trt.BuilderFlag.TF32}
        self._sources = sum(1 << int(item) for item in self._trt.TacticSource)
        self._cache: Any = None
        self._monitor: Any = None

    @property
    def progress_monitor(self) -> Any:
        return self._monitor

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        assert isinstance(monitor, self._trt.IProgressMonitor)
        self._monitor = monitor

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_tactic_sources(self) -> int:
        return self._sources

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._sources = tactic_sources
        return True

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        if serialized_timing_cache and not serialized_timing_cache.startswith(b"cache|"):
            return None
        return self._trt.ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._version != self._trt.__version__ and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache

    def _settings(self) -> dict[str, Any]:
        return {
            "level": self.builder_optimization_level,
            "verbosity": self.profiling_verbosity.name,
            "flags": {flag.name for flag in self._flags},
            "sources": {i.name for i in self._trt.TacticSource if self._sources >> int(i) & 1},
        }


class ITimingCache(_Acting):
    """``cache|VERSION|entry|entry``."""

    def __init__(self, data: bytes) -> None:
        parts = data.decode().split("|")
        self._version = parts[1] if data else self._trt.__version__
        self._entries = set(parts[2:])

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        if input_cache._version != self._version and not ignore_mismatch:
            return False
        self._entries |= input_cache._entries
        return True

    def serialize(self) -> memoryview:
        return memoryview("|".join(["cache", self._version, *sorted(self._entries)]).encode())


class INetworkDefinition(_Acting):
    def __init__(self) -> None:
        self._layers: list[Any] = []

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def get_layer(self, index: int) -> Any:
        return self._layers[index]


class ILayer(_Acting):
    num_outputs = 1

    def __init__(self, name: str, kind: str, dtype: str) -> None:
        self._name = name
        self._kind = self._trt.LayerType[kind]
        self._dtype = self._trt.DataType[dtype]
        self._precision: Any = None
        self._pinned = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def type(self) -> Any:
        return self._kind

    @property
    def precision(self) -> Any:
        return self._precision

    @precision.setter
    def precision(self, value: Any) -> None:
        self._precision = value

    def get_output(self, index: int) -> Any:
        assert index == 0
        return self._trt.ITensor(self._dtype)

    def set_output_type(self, index: int, dtype: Any) -> None:
        assert index == 0
        assert self._precision == dtype == self._trt.DataType.FLOAT
        self._pinned = True


class ITensor(_Acting):
    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    @property
    def dtype(self) -> Any:
        return self._dtype


class OnnxParser(_Acting):
    def __init__(self, network: Any, logger: Any) -> None:
        self._network = network
        network._parser = weakref.ref(self)

    @property
    def num_errors(self) -> int:
        return len(self._script.errors)

    def get_error(self, index: int) -> Any:
        return self._trt.ParserError(*self._script.errors[index])

    def parse_from_file(self, model: str) -> bool:
        assert isinstance(model, str)
        self._script.seen["parsed"] = model
        self._network._layers = [self._trt.ILayer(*layer) for layer in self._script.layers]
        return not self._script.errors


class ParserError(_Acting):
    def __init__(self, number: int, name: str, text: str) -> None:
        self._values = (number, name, text)

    def node(self) -> int:
        return self._values[0]

    def node_name(self) -> str:
        return self._values[1]

    def desc(self) -> str:
        return self._values[2]


class Runtime(_Acting):
    def __init__(self, logger: Any) -> None:
        if self._script.refuse_gpu:
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        if bytes(serialized_engine) != self._script.plan:
            return None
        return self._trt.ICudaEngine()


class ICudaEngine(_Acting):
    device_memory_size = 300_000_000
    device_memory_size_v2 = 300_000_000

    def create_engine_inspector(self) -> Any:
        return self._trt.EngineInspector()

    def get_engine_stat(self, stat: Any) -> int:
        assert stat == self._trt.EngineStat.TOTAL_WEIGHTS_SIZE
        return 200_000_000


class EngineInspector(_Acting):
    def get_engine_information(self, format: Any) -> str:
        assert format == self._trt.LayerInformationFormat.JSON
        if self._script.inspector is not None:
            return self._script.inspector
        new = hasattr(self._trt.ICudaEngine, "weight_streaming_budget_v2")
        is_11 = new and not hasattr(self._trt.ICudaEngine, "device_memory_size")
        return inspector_json(is_11)


def inspector_json(is_11: bool) -> str:
    """Two layers as the engine inspector of 8.6 and 10, or of 11, writes them."""

    def tensor(name: str, word: str, bits: str) -> dict[str, Any]:
        place = {"Name": name, "Location": "Device", "Dimensions": [1, 3, 8, 8]}
        if is_11:
            return {**place, "Format": "Row major linear (kLINEAR)", "DataType": word}
        return {**place, "Format/Datatype": f"Row major linear {bits} format"}

    data: dict[str, Any] = {
        "Layers": [
            {
                "Name": "_gemm_mha_v2_myl0_3",
                "LayerType": "kgen",
                "Inputs": [tensor("q", "Half", "FP16")] * 3,
                "Outputs": [tensor("a", "Half", "FP16")],
                "TacticName": "_gemm_mha_v2_0x1",
                "Metadata": "[ONNX Layer: bb/attn/scores]\x1e[ONNX Layer: bb/attn/softmax]",
            },
            {
                "Name": "dec/fp32/sample",
                "LayerType": "GridSample",
                "Inputs": [tensor("x", "Float", "FP32"), tensor("g", "Float", "FP32")],
                "Outputs": [tensor("y", "Float", "FP32")],
            },
        ]
    }
    ends = ("image", "alpha")
    data["I/O Tensors" if is_11 else "Bindings"] = (
        [tensor(name, "Float", "FP32") for name in ends] if is_11 else list(ends)
    )
    # TensorRT does not escape the separator that it puts into metadata.
    return json.dumps(data).replace("\\u001e", "\x1e")


_BEHAVIOUR: dict[str, type] = {
    item.__name__: item
    for item in (
        *(Builder, IBuilderConfig, ITimingCache, INetworkDefinition, ILayer, ITensor),
        *(OnnxParser, ParserError, Runtime, ICudaEngine, EngineInspector),
    )
}
