"""TensorRT network -> plan."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import api, inspection, network, timing
from .config import BuildOptions, configure
from .errors import BuildError
from .inspection import Inspection
from .messages import Messages
from .progress import Abandoned, Phases, Screen


@dataclass(frozen=True)
class Built:
    """A plan that is not proved yet: ``plan`` holds its bytes (a buffer of TensorRT's)."""

    plan: Any
    seconds: float
    inspection: Inspection


def build(
    trt: Any, onnx: Path, options: BuildOptions, cache: Path, screen: Screen, messages: Messages
) -> Built:
    """Parse ``onnx``, build it, and look at the result. Takes minutes, and the whole GPU.

    ``cache`` is the timing cache's file. Raises ParseError, BuildError, or KeyboardInterrupt after
    Ctrl-C, with the timings so far kept where TensorRT could be stopped.
    """
    logger = api.make_logger(trt, messages.add)
    builder = api.make_builder(trt, logger)
    with screen.step(f"parse {onnx.name}"):
        net, parser = network.parse(trt, builder, logger, onnx)
    if options.precision == "fp16" and not api.strongly_typed(trt):
        pinned = network.pin_islands(trt, net)
        screen.say(f"TensorRT {trt.__version__} types by itself: {pinned} layers pinned to FP32")
    config = configure(trt, builder, options)
    timing.attach(config, cache, screen.say)
    start = time.perf_counter()
    plan = _run(trt, builder, net, config, cache, screen, messages)
    seconds = time.perf_counter() - start
    del parser
    with screen.step("inspect the plan"):
        found = inspect(trt, plan, logger)
    return Built(plan, seconds, found)


def _run(
    trt: Any,
    builder: Any,
    net: Any,
    config: Any,
    cache: Path,
    screen: Screen,
    messages: Messages,
) -> Any:
    """The plan's bytes; the timing cache is kept whether or not there is a plan."""
    phases = Phases()
    monitor = api.attach_monitor(trt, config, phases)
    try:
        with screen.step("build the plan"):
            plan = screen.watch(
                "build the plan",
                lambda: builder.build_serialized_network(net, config),
                phases,
                reports=monitor is not None,
            )
            if plan is None:
                raise BuildError(_failed(trt, messages))
    except Abandoned:
        # The builder still runs and owns its cache.
        raise
    except BaseException:
        timing.save(config, cache, screen.say)
        raise
    timing.save(config, cache, screen.say)
    return plan


def _failed(trt: Any, messages: Messages) -> str:
    cause = messages.cause() or "it gives no reason: --verbose shows what it said"
    if "memory" in cause.lower():
        advice = "free GPU memory (nvidia-smi lists who uses it) or build a smaller --batch"
    else:
        advice = "try --level 3, --precision fp32, or a newer TensorRT"
    return f"TensorRT {trt.__version__} built no plan ({cause}): {advice}"


def inspect(trt: Any, plan: Any, logger: Any) -> Inspection:
    """What TensorRT made of the network, from a plan's bytes, which must be trusted."""
    engine, runtime = api.make_engine(trt, logger, plan)
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    found = inspection.read(text, api.context_bytes(trt, engine), api.weights_bytes(trt, engine))
    # Engines go before the runtime that made them.
    del inspector, engine, runtime
    return found
