"""What the builder is told, the same for every version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import api

# TensorRT's highest: it compares generated kernels as well, which costs minutes and pays at run.
DEFAULT_LEVEL = 5
LEVELS = range(DEFAULT_LEVEL + 1)
# Goes up when anything here changes what is built, so that older plans are built again.
RECIPE = 1


@dataclass(frozen=True)
class BuildOptions:
    """What decides a plan besides its graph: ``level`` 0 to 5, ``precision`` fp16 or fp32."""

    level: int = DEFAULT_LEVEL
    precision: str = "fp16"

    def as_dict(self) -> dict[str, Any]:
        """For the manifest: a plan with other values is built again."""
        return {"level": self.level, "precision": self.precision, "recipe": RECIPE}


def configure(trt: Any, builder: Any, options: BuildOptions) -> Any:
    """A builder configuration.

    The workspace stays unset, which means all memory of the device: a limit makes large sizes fail.
    TF32 is cleared: its 10-bit mantissa would undo the FP32 islands and the FP32 twin. Layers keep
    their details for the inspection.
    """
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    api.clear_external_tactics(trt, config)
    if options.precision == "fp16":
        api.allow_half(trt, config)
    return config
